"""Which Python `make test-newest` takes, of real ones and of programs that pose as others."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import newest


@pytest.fixture
def pose(tmp_path: Path) -> Callable[[str, str], Path]:
    """pose(name, says) -> a program that answers as a Python would; with '' it fails as a shim of pyenv does."""

    def pose(name: str, says: str) -> Path:
        program = tmp_path / name
        program.parent.mkdir(exist_ok=True, parents=True)
        program.write_text(f'#!/bin/sh\necho {shlex.quote(says)}\n' if says else '#!/bin/sh\nexit 127\n')
        program.chmod(0o755)
        return program

    return pose


def test_a_python_tells_its_version() -> None:
    assert newest.version(Path(sys.executable)) == sys.version_info[:3]


def test_what_cannot_serve_has_no_version(pose: Callable[[str, str], Path], tmp_path: Path) -> None:
    assert newest.version(pose('python3.99', '')) is None
    assert newest.version(tmp_path / 'python3.98') is None


def test_only_pythons_of_a_version_are_looked_at(pose: Callable[[str, str], Path], tmp_path: Path) -> None:
    for name in ('b/python3.9', 'b/python3.10', 'b/python3.10-config', 'b/python3', 'b/python3.13t', 'a/python3.9'):
        pose(name, '3 9 0')
    found = newest.named([tmp_path / 'b', tmp_path / 'none', tmp_path / 'a'])
    assert [str(path.relative_to(tmp_path)) for path in found] == ['b/python3.10', 'b/python3.9', 'a/python3.9']


def test_the_newest_that_can_serve_is_taken(pose: Callable[[str, str], Path]) -> None:
    pythons = [
        pose('a/python3.98', '3 98 4'),
        pose('a/python3.100', ''),
        pose('b/python3.99', '3 99 1'),
        pose('c/python3.99', '3 99 2'),
        pose('d/python3.99', '3 99 2'),
    ]
    assert newest.newest(pythons, (3, 97)) == pythons[3]


def test_a_newer_patch_is_no_newer_python(pose: Callable[[str, str], Path]) -> None:
    assert newest.newest([pose('python3.98', '3 98 4'), pose('python3.97', '3 97 0')], (3, 98)) is None


def printed(folder: Path) -> subprocess.CompletedProcess[str]:
    """What the program prints where PATH is one folder."""
    return subprocess.run([sys.executable, newest.__file__], env={'PATH': str(folder)}, capture_output=True, text=True, check=True)


def test_it_says_in_one_line_that_there_is_none(tmp_path: Path) -> None:
    ended = printed(tmp_path)
    ours = f'{sys.version_info.major}.{sys.version_info.minor}'
    assert (ended.stdout, ended.stderr) == (
        '',
        f'NOT CHECKED: no Python newer than {ours} was found that can make an environment\n',
    )


def test_it_looks_on_the_path_and_among_pyenvs(pose: Callable[[str, str], Path], tmp_path: Path) -> None:
    on_path = pose('bin/python3.98', '3 98 0')
    assert printed(tmp_path / 'bin').stdout == f'{on_path}\n'
    pose('bin/pyenv', str(tmp_path / 'root'))
    of_pyenv = pose('root/versions/3.99.0/bin/python3.99', '3 99 0')
    ended = printed(tmp_path / 'bin')
    assert (ended.stdout, ended.stderr) == (f'{of_pyenv}\n', '')
