"""Files after kills and errors, JSON lines, and locks between processes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from research.errors import UserError
from research.files import fingerprint, open_append, open_part, open_part_folder, refuse_links, take_lock, write_whole
from research.records import parse_lines, read_lines, read_record, write_record

WRITE = """
import sys, time
from pathlib import Path
from research.files import open_part
with open_part(Path(sys.argv[1])) as part:
    part.write_text('half of the ne')
    print('begun', flush=True)
    time.sleep(600)
"""
HOLD = """
import os, sys, time
from research.files import take_lock
descriptor = os.open(sys.argv[1], os.O_RDONLY)
print(take_lock(descriptor, shared=sys.argv[2] == 'shared'), flush=True)
time.sleep(600)
"""


def start(root: Path, program: str, *arguments: str) -> subprocess.Popen[str]:
    """Starts a Python program and waits for its first line."""
    process = subprocess.Popen([sys.executable, '-c', program, *arguments], cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() in ('begun\n', 'True\n')
    return process


def kill(process: subprocess.Popen[str]) -> None:
    """Ends the process by SIGKILL, if it still runs."""
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def test_a_kill_leaves_the_old_content(root: Path, tmp_path: Path) -> None:
    path = tmp_path / 'file.txt'
    write_whole(path, b'old')
    kill(start(root, WRITE, str(path)))
    assert path.read_text() == 'old'
    write_whole(path, b'new')
    assert path.read_text() == 'new'


def test_a_part_replaces_the_file_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / 'file.txt'
    path.write_text('old')
    with open_part(path) as part:
        part.write_text('new')
        assert path.read_text() == 'old'
    assert path.read_text() == 'new'
    with pytest.raises(ZeroDivisionError), open_part(path) as part:
        part.write_text('half')
        raise ZeroDivisionError
    assert path.read_text() == 'new'
    assert [each.name for each in tmp_path.iterdir()] == ['file.txt']


def test_a_record_is_written_with_its_folders_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / 'a' / 'b' / 'record.json'
    assert read_record(path) is None
    write_record(path, {'name': 'é', 'value': 1.5})
    assert read_record(path) == {'name': 'é', 'value': 1.5}
    assert read_record(path / 'below a file') is None
    for content in ('{"name": "é', '', '[1]', '3'):
        path.write_text(content)
        assert read_record(path) is None


def test_lines_that_are_cut_short_or_no_objects_are_skipped(tmp_path: Path) -> None:
    assert list(parse_lines([b'{"step": 1}', b'', b'[2]', b'{"step": 3}', b'{"st', b'\\x00\\xff'])) == [{'step': 1}, {'step': 3}]
    assert read_lines(tmp_path / 'none.jsonl') == []
    (tmp_path / 'some.jsonl').write_text('{"step": 1}\n{"step": 2')
    assert read_lines(tmp_path / 'some.jsonl') == [{'step': 1}]


@pytest.mark.parametrize(
    ('held', 'shared', 'granted'),
    [('exclusive', False, False), ('exclusive', True, False), ('shared', False, False), ('shared', True, True)],
)
def test_a_lock_of_another_process_is_respected_until_it_ends(
    root: Path, tmp_path: Path, held: str, shared: bool, granted: bool
) -> None:
    process = start(root, HOLD, str(tmp_path), held)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        assert take_lock(descriptor, shared=shared) == granted
        kill(process)
        assert take_lock(descriptor)
    finally:
        kill(process)
        os.close(descriptor)


@pytest.mark.parametrize('other', [{'a': 1, 'b': [1, 3]}, {'a': 1}, {'a': '1', 'b': [1, 2]}, {'a': 1, 'b': [2, 1]}])
def test_a_fingerprint_changes_with_any_value_but_not_with_the_order_of_keys(other: dict[str, Any]) -> None:
    assert fingerprint({'b': [1, 2], 'a': 1}) == fingerprint({'a': 1, 'b': [1, 2]}) != fingerprint(other)


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / 'a.json'
    with open_part(path) as first, open_part(path) as second:
        assert first != second
        first.write_text('first')
        second.write_text('second')
    assert path.read_text() == 'first' and list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole_and_nothing_else_is_removed(tmp_path: Path) -> None:
    target = tmp_path / 'mine'
    (tmp_path / 'mine.part').mkdir()
    with open_part_folder(target) as part:
        (part / 'a').write_text('a')
        assert not target.exists()
    assert (target / 'a').read_text() == 'a' and (target.stat().st_mode & 0o700) == 0o700
    with pytest.raises(UserError, match='exists already'), open_part_folder(target):
        pass
    with pytest.raises(KeyError), open_part_folder(tmp_path / 'other'):
        raise KeyError
    assert sorted(path.name for path in tmp_path.iterdir()) == ['mine', 'mine.part']


def test_links_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / 'target').write_text('precious')
    folder = tmp_path / 'run'
    (folder / 'deep').mkdir(parents=True)
    refuse_links(folder)
    (folder / 'deep' / 'log.txt').symlink_to(tmp_path / 'target')
    with pytest.raises(UserError, match='log.txt is a symbolic link'):
        open_append(folder / 'deep' / 'log.txt')
    with pytest.raises(UserError, match='log.txt is a symbolic link'):
        refuse_links(folder)
    assert (tmp_path / 'target').read_text() == 'precious'
    with open_append(folder / 'other') as file:
        file.write('a')
    assert (folder / 'other').read_text() == 'a'
