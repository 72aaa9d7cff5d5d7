"""Prints the newest Python of this machine that is newer than the one that runs this; says that there is none otherwise."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

# Said by a Python that is released and can make an environment. A build without the lock has few wheels, so it is passed over.
ASK = """
import ensurepip, sys, sysconfig, venv
assert sys.version_info.releaselevel == 'final' and not sysconfig.get_config_var('Py_GIL_DISABLED')
print(*sys.version_info[:3])
"""
Version = tuple[int, ...]


def folders() -> list[Path]:
    """Where Pythons are: PATH, and the versions of pyenv."""
    found = [Path(folder) for folder in os.environ.get('PATH', '').split(os.pathsep) if folder]
    if shutil.which('pyenv'):
        root = subprocess.run(['pyenv', 'root'], capture_output=True, text=True, check=True).stdout.strip()
        found += sorted(Path(root, 'versions').glob('*/bin'))
    return found


def named(places: Iterable[Path]) -> list[Path]:
    """The programs in the folders that are called python3.N."""
    return [path for place in places for path in sorted(place.glob('python3.*')) if re.fullmatch(r'python3\.\d+', path.name)]


def version(python: Path) -> Version | None:
    """The version of a Python; None where it does not start, as a shim of pyenv, or cannot serve."""
    try:
        ended = subprocess.run([python, '-c', ASK], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return tuple(map(int, ended.stdout.split())) if ended.returncode == 0 else None


def newest(pythons: Iterable[Path], than: Version) -> Path | None:
    """The newest of the Pythons, the first of equals; None where none is newer than `than`, which is (3, N)."""
    best, found = than, None
    for python in pythons:
        its = version(python)
        if its is not None and its[:2] > than and its > best:
            best, found = its, python
    return found


def main() -> None:
    """Prints the path; nothing, and why not on stderr, where there is none."""
    found = newest(named(folders()), sys.version_info[:2])
    if found is None:
        ours = '.'.join(map(str, sys.version_info[:2]))
        print(f'NOT CHECKED: no Python newer than {ours} was found that can make an environment', file=sys.stderr)
    else:
        print(found)


if __name__ == '__main__':
    main()
