"""Folders are finished or absent."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from research.data.cache import prepare_folder
from research.errors import UserError
from research.files import fingerprint


def writer(text: str) -> Callable[[Path], None]:
    """A preparation that leaves `text` in `file`."""

    def write(folder: Path) -> None:
        (folder / 'file').write_text(text)

    return write


def test_written_once(tmp_path):
    folder = tmp_path / 'deep' / 'down'
    for text in ('first', 'second'):
        prepare_folder(folder, writer(text))
    assert (folder / 'file').read_text() == 'first'


def test_a_failed_preparation_leaves_nothing(tmp_path):
    def fail(place):
        (place / 'half').write_text('half')
        raise UserError('bad line')

    with pytest.raises(UserError, match='bad line'):
        prepare_folder(tmp_path / 'corpus', fail)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_preparation_leaves_nothing_that_looks_finished(tmp_path):
    script = (
        'import os, pathlib, sys; from research.data.cache import prepare_folder\n'
        'prepare_folder(pathlib.Path(sys.argv[1]), lambda place: (place / "half").write_text("half") and os._exit(9))'
    )
    assert subprocess.run([sys.executable, '-c', script, str(tmp_path / 'corpus')], check=False).returncode == 9
    assert not (tmp_path / 'corpus').exists()
    prepare_folder(tmp_path / 'corpus', writer('whole'))
    assert [path.name for path in (tmp_path / 'corpus').iterdir()] == ['file']


def test_of_two_processes_one_waits(tmp_path):
    """Both are told to write; only one of them does, whichever begins."""
    script = (
        'import pathlib, sys, time; from research.data.cache import prepare_folder\n'
        'def write(place):\n'
        '    time.sleep(0.5)\n'
        '    (place / "file").write_text(sys.argv[2])\n'
        'prepare_folder(pathlib.Path(sys.argv[1]) / "corpus", write)\n'
        'print((pathlib.Path(sys.argv[1]) / "corpus" / "file").read_text())'
    )
    started = [
        subprocess.Popen(
            [sys.executable, '-c', script, str(tmp_path), name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for name in 'ab'
    ]
    told = [process.communicate() for process in started]
    assert len({out for out, _ in told}) == 1
    assert sum('another process prepares' in error for _, error in told) <= 1
    assert sum('preparing' in error for _, error in told) == 1
    assert [path.name for path in tmp_path.iterdir()] == ['corpus']


def test_another_obstacle_is_not_hidden(tmp_path):
    def block(place):
        (tmp_path / 'corpus').write_text('a file where the folder should be')

    with pytest.raises(OSError, match='corpus'):
        prepare_folder(tmp_path / 'corpus', block)


def test_a_cache_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='machine.cache: cannot make the folder'):
        prepare_folder(tmp_path / 'file' / 'corpus', lambda place: None)


@pytest.mark.parametrize('continues', [False, True])
def test_a_link_in_the_cache_leads_nowhere(continues: bool, tmp_path: Path) -> None:
    """Neither in the place of the unfinished folder, nor inside it."""
    cache, mine = tmp_path / 'cache', tmp_path / 'mine'
    for folder in (cache, mine, cache / '.second.unfinished'):
        folder.mkdir()
    (mine / 'file').write_text('precious')
    (cache / '.first.unfinished').symlink_to(mine)
    (cache / '.second.unfinished' / 'file').symlink_to(mine / 'file')
    (cache / '.second.unfinished' / 'folder').symlink_to(mine)
    with pytest.raises(UserError, match='first.unfinished is a symbolic link'):
        prepare_folder(cache / 'first', writer('new'), continues)
    if continues:
        with pytest.raises(UserError, match='second.unfinished/f.* is a symbolic link'):
            prepare_folder(cache / 'second', writer('new'), continues)
    else:
        assert not (prepare_folder(cache / 'second', writer('new')) / 'file').is_symlink()
    assert [path.read_text() for path in mine.iterdir()] == ['precious']


def test_only_abandoned_folders_of_ours_are_removed(tmp_path: Path) -> None:
    ours, mine = f'.corpus-{"a" * 8}-{"1" * 16}.unfinished', tmp_path / 'mine'
    kept = ('.mine.unfinished', '.my-own-work.unfinished', f'.corpus-{"c" * 8}-{"2" * 16}.unfinished')
    for name in (ours, *kept[:2], 'mine'):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / kept[2]).symlink_to(mine)
    os.mkfifo(tmp_path / f'.corpus-{"d" * 8}-{"3" * 16}.unfinished')
    prepare_folder(tmp_path / 'corpus', writer('new'))
    assert not (tmp_path / ours).exists() and mine.is_dir()
    assert all((tmp_path / name).exists() for name in kept)


def test_fingerprint_sees_every_part():
    assert len({fingerprint(value) for value in ([1, 2], [1, 3], {'a': 1}, {'a': '1'})}) == 4
    assert fingerprint({'a': 1, 'b': 2}) == fingerprint({'b': 2, 'a': 1})
