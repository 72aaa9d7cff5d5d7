"""Files that a kill never leaves half-written and that links cannot lead astray, locks, and fingerprints of values."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from research.errors import UserError
from research.escape import clean

LONGEST = 200  # bytes of a name of ours: a folder takes 255, and files beside it have longer names


def validate_name(key: str, name: str) -> None:
    """Raises UserError if `name` cannot be the name of a folder on every machine. `key` begins the message."""
    whole = clean(name) == name and len(name.encode()) <= LONGEST
    if not name or name != name.strip() or name[0] == '.' or '/' in name or '\\' in name or not whole:
        raise UserError(
            f'{key}={name!r} must be the name of a folder: not empty, no dot or space in front, no slashes and control characters,'
            f' at most {LONGEST} bytes'
        )


def is_remote(text: str) -> bool:
    """Whether a source or a folder is an address, SCHEME://…, rather than a path."""
    return bool(re.match(r'[A-Za-z][A-Za-z0-9+.-]*://', text))


def refuse_address(key: str, value: str) -> None:
    """Raises UserError if a setting that names something on a disk is an address, or ROW:ADDRESS."""
    if is_remote(value) or is_remote(value.partition(':')[2]):
        raise UserError(
            f'{key}={value!r} is an address: a run folder, a start and a teacher may be in a bucket; copy the rest to a disk first'
        )


def read_path(text: str) -> Path:
    """The path that an argument of a command names. Raises UserError for an address."""
    if is_remote(text):
        raise UserError(f'{text!r} is an address, and this command works on a disk: copy the folder there first')
    return Path(text)


@contextlib.contextmanager
def open_part(path: Path) -> Iterator[Path]:
    """A path of its own, beside `path`, to write to. It replaces `path` at the end of the block; after an error it is removed."""
    part = path.with_name(f'.{path.name}.{secrets.token_hex(4)}.part')  # another thread or node may write the same file
    try:
        yield part
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise name_file(error, path) from None
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def name_file(error: OSError, path: Path) -> OSError:
    """The error with the path that it is about: the system leaves it out where a write fails, such as on a full disk."""
    return error if error.filename else OSError(error.errno, error.strerror, str(path))


@contextlib.contextmanager
def open_part_folder(path: Path) -> Iterator[Path]:
    """An empty folder of its own, beside `path`. It becomes `path` at the end of the block; after an error it is removed.

    Raises UserError if `path` is not empty, or is a file: nothing that this process has not made is ever removed.
    """
    whole = path.absolute()
    if whole.is_file() or (whole.is_dir() and any(whole.iterdir())):
        raise UserError(f'{path} exists already: give another folder, or remove it')
    if whole == Path.cwd() and whole.is_dir():
        raise UserError(f'{path} is the current folder, which cannot be replaced: give the name of a new folder')
    whole.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f'.{whole.name}.', suffix='.part', dir=whole.parent))
    try:
        part.chmod(0o777 & ~_umask())  # mkdtemp's folder is for its owner alone
        yield part
        part.replace(whole)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def open_append(path: Path) -> IO[str]:
    """Opens a text file to append to it, created if it is missing. Raises UserError if `path` is a link: it may lead anywhere."""

    def follow_no_link(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, 0o666)

    try:
        return open(path, 'a+', encoding='utf-8', opener=follow_no_link)
    except OSError as error:
        if error.errno == errno.ELOOP:
            refuse_link(path)
        raise


def make_folder(path: Path) -> None:
    """Makes a folder to write in, if it is missing. Raises UserError if it is a link: it may lead anywhere."""
    refuse_link(path)
    path.mkdir(parents=True, exist_ok=True)


def refuse_link(path: Path) -> None:
    """Raises UserError if `path`, which is about to be written, is a symbolic link."""
    if path.is_symlink():
        raise UserError(f'{path} is a symbolic link, and what is written there would go elsewhere: remove the link')


def refuse_links(folder: Path) -> None:
    """Raises UserError if a symbolic link lies anywhere in `folder`, which is about to be written; `folder` itself may be one."""
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            refuse_link(Path(place, name))


def write_whole(path: Path, content: bytes) -> None:
    """Writes `path` atomically: a reader sees the old content or the new, also after a kill."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_part(path) as part:
        part.write_bytes(content)


def find_cache() -> Path:
    """The folder of this project in the user's cache; it need not exist. Raises RuntimeError if there is no home."""
    base = os.environ['XDG_CACHE_HOME'] if os.environ.get('XDG_CACHE_HOME') else '~/.cache'
    return Path(base).expanduser() / 'small-berts'


def take_lock(descriptor: int, shared: bool = False, wait: bool = False) -> bool:
    """Locks an open file or folder (`flock`) until it is closed or the process ends.

    Returns False if another process holds the lock and `wait` is False. Raises OSError if the file system has no locks.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def fingerprint(value: Any) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
