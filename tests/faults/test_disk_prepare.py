"""A corpus prepared where there is no room, or nothing can be written: one line, nothing half-written, and then it works."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from research.data import preparation, tokenizer_training
from research.data.settings import Data
from research.errors import UserError

ROOT = Path(__file__).parents[2]
VOCABULARY = 500
CORPUS = {'tokenizer'}  # what is left if the corpus finds no room
# The first argument is the size, in bytes, that no file of the command may exceed.
LIMITED = 'import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)\n'
LIMITED += "runpy.run_module('research.data', run_name='__main__', alter_sys=True)"


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Settings of a corpus that takes some 400 kB, in files of up to 200 kB; its tokenizer takes 10 kB."""
    draw = random.Random(0)
    words = [''.join(draw.choice('abcdefgh') for _ in range(draw.randint(2, 6))) for _ in range(500)]
    documents = ['\n'.join(' '.join(draw.choice(words) for _ in range(12)) + '.' for _ in range(6)) for _ in range(400)]
    path = tmp_path_factory.mktemp('text') / 'a.txt'
    path.write_text('\n\n'.join(documents))
    return Data(source=f'text:{path}', length=32, held_out=0.1)


def prepare(data: Data, cache: Path) -> str:
    """The fingerprint of the corpus, prepared in a cache."""
    (found,) = preparation.prepare(data, str(cache), tokenizer_training.tokenizer_of(data, str(cache), VOCABULARY))
    return found.facts.fingerprint


@pytest.fixture(scope='module')
def expected(data: Data, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The fingerprint of the corpus that was prepared without a disturbance."""
    return prepare(data, tmp_path_factory.mktemp('whole'))


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """mount(options) -> a file system of its own in memory; called again, the same with other options. Skips where it cannot be."""
    place = tmp_path / 'disk'
    place.mkdir()
    mounted = False

    def mount(options: str) -> Path:
        nonlocal mounted
        given = f'remount,{options}' if mounted else options
        done = subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', given, 'tmpfs', str(place)], check=False, capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f'a tmpfs cannot be mounted here: {done.stderr.strip()}')
        mounted = True
        return place

    try:
        yield mount
    finally:
        if mounted:
            subprocess.run(['umount', str(place)], check=True)


def command(data: Data, cache: Path, limit: int = 0, **environment: str) -> tuple[int, str]:
    """(exit status, last line of the standard error) of `research.data prepare`; limit: bytes of a file, at most."""
    given = {'data.source': data.source, 'data.held_out': data.held_out, 'model.vocabulary': VOCABULARY, 'machine.cache': cache}
    done = subprocess.run(
        [
            sys.executable,
            *(('-c', LIMITED, str(limit)) if limit else ('-m', 'research.data')),
            'prepare',
            '--config=configs/bert.py:tiny',
        ]
        + [f'--config.{key}={value}' for key, value in given.items()],
        cwd=ROOT,
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    assert 'Traceback' not in done.stderr, done.stderr
    return done.returncode, done.stderr.strip().splitlines()[-1]


def left(cache: Path) -> set[str]:
    """The kinds of the folders in a cache; what is hidden counts by its whole name."""
    return {path.name if path.name.startswith('.') else path.name.partition('-')[0] for path in cache.iterdir()}


@pytest.mark.parametrize(('room', 'kept'), [('8k', set()), ('64k', CORPUS), ('256k', CORPUS), ('400k', CORPUS)])
def test_no_room_to_prepare(data: Data, expected: str, mount: Callable[[str], Path], room: str, kept: set[str]) -> None:
    cache = mount(f'size={room}') / 'cache'
    with pytest.raises(
        UserError, match=r"^the disk of '.*/disk/cache' was full before (corpus|tokenizer)-.* was prepared; "
    ) as caught:
        prepare(data, cache)
    assert '--config.machine.cache=FOLDER' in str(caught.value) and '\n' not in str(caught.value)
    assert left(cache) == kept
    mount('size=4m')
    assert prepare(data, cache) == expected


def test_the_command_on_a_full_disk(data: Data, mount: Callable[[str], Path]) -> None:
    status, line = command(data, mount('size=64k') / 'cache')
    assert status == 2 and line.startswith("error: the disk of '") and 'was full before corpus-' in line


@pytest.mark.parametrize(('limit', 'kept'), [(4096, set()), (50_000, CORPUS), (170_000, CORPUS)])
def test_files_that_may_not_grow(data: Data, tmp_path: Path, limit: int, kept: set[str]) -> None:
    status, line = command(data, tmp_path / 'cache', limit)
    assert status == 2 and 'could not be written (File too large) before' in line and '--config.machine.cache=FOLDER' in line
    assert left(tmp_path / 'cache') == kept
    assert command(data, tmp_path / 'cache')[0] == 0


@pytest.mark.parametrize('inside', ['cache', 'a/b/cache'])
def test_a_disk_that_is_read_only(data: Data, expected: str, mount: Callable[[str], Path], inside: str) -> None:
    cache = mount('size=4m') / inside
    mount('ro')
    with pytest.raises(UserError, match=r"machine.cache: cannot make the folder '.*cache' \(Read-only file system\); name a"):
        prepare(data, cache)
    mount('rw')
    assert prepare(data, cache) == expected
    mount('ro')
    assert prepare(data, cache) == expected  # what is prepared is only read


def test_a_disk_that_turns_read_only(
    data: Data, expected: str, mount: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Linux does with a disk that fails: the preparation ends in one line, and nothing that it left is taken for whole."""
    cache = mount('size=4m') / 'cache'
    tokenizer = tokenizer_training.tokenizer_of(data, str(cache), VOCABULARY)
    real = preparation.add_up

    def fail(*arguments):
        mount('ro')
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(preparation, 'add_up', fail)
        with pytest.raises(UserError, match=r'could not be written \(Read-only file system\) before corpus-'):
            preparation.prepare(data, str(cache), tokenizer)
    mount('rw')
    assert [path.name for path in cache.glob('corpus-*')] == []
    assert prepare(data, cache) == expected


def test_a_cache_that_is_a_file(data: Data, tmp_path: Path) -> None:
    (tmp_path / 'cache').write_text('')
    with pytest.raises(UserError, match=r"machine.cache: cannot make the folder '.*cache' \((File exists|Not a directory)\)"):
        prepare(data, tmp_path / 'cache')


def test_neither_a_home_nor_room_for_temporary_files_is_needed(data: Data, mount: Callable[[str], Path], tmp_path: Path) -> None:
    place = mount('size=4k')
    (place / 'full').write_bytes(bytes(4096))
    mount('ro')
    status, line = command(data, tmp_path / 'cache', HOME=str(place), TMPDIR=str(place), XDG_CACHE_HOME=str(place / 'cache'))
    assert status == 0, line
