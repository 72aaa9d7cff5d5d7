"""Folders that are either finished or absent."""

import errno
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from research.errors import UserError
from research.files import refuse_link, refuse_links, take_lock

STALE = 24 * 3600  # seconds after which an unfinished folder that no process writes to is removed, though it could be continued
FULL = (errno.ENOSPC, errno.EDQUOT)
UNWRITABLE = (errno.EFBIG, errno.EROFS, errno.EIO)  # a limit on the size of files, a disk turned read-only, a disk that fails
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW  # a link may lead anywhere; a pipe would wait for a writer
OURS = re.compile(r'\.[a-z]+(-[0-9a-f]{8})?-[0-9a-f]{16}\.unfinished')  # as `places.place` and `docstrings` name them
ELSEWHERE = 'name a folder on another disk: --config.machine.cache=FOLDER'


class Unfinished(UserError):
    """A preparation was stopped; the same command goes on with it."""


def prepare_folder(folder: Path, write: Callable[[Path], None], continues: bool = False) -> Path:
    """`folder`, written by `write` unless it is there already.

    `write` fills a hidden neighbour, which is then renamed, so that a killed process leaves nothing that looks finished;
    of several processes one writes and the others wait for it. With `continues`, the next `write` gets what a killed or
    interrupted process left; else it is removed. Raises UserError if the disk is full, or cannot be written, and for a link
    where files are written.
    """
    unfinished = folder.with_name(f'.{folder.name}.unfinished')
    while not folder.is_dir():
        refuse_link(unfinished)
        try:
            unfinished.mkdir(parents=True, exist_ok=True)
            lock = os.open(unfinished, FOLDER)
        except FileNotFoundError:  # another process finished or removed it in between
            continue
        except OSError as error:
            raise UserError(f"machine.cache: cannot make the folder '{folder.parent}' ({error.strerror}); {ELSEWHERE}") from error
        try:
            if not lock_folder(lock, wait=False):
                print(f'another process prepares {folder}; waiting for it', file=sys.stderr, flush=True)
                lock_folder(lock, wait=True)
            if is_at(lock, unfinished):
                remove_abandoned(folder.parent, unfinished)
                fill(folder, unfinished, write, continues)
        finally:
            os.close(lock)
    return folder


def fill(folder: Path, unfinished: Path, write: Callable[[Path], None], continues: bool) -> None:
    """Writes `unfinished`, whose lock this process holds, and renames it to `folder`."""
    begun = any(unfinished.iterdir())
    if begun and not continues:
        for path in unfinished.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    refuse_links(unfinished)
    verb = 'going on with' if begun and continues else 'preparing'
    print(f'{verb} {folder}: once, then it is read from there', file=sys.stderr, flush=True)
    kept = False
    try:
        write(unfinished)
        os.rename(unfinished, folder)
    except (KeyboardInterrupt, Unfinished):
        kept = continues
        raise
    except (OSError, RuntimeError) as error:  # array_record raises RuntimeError, with the system's words
        if is_of(error, FULL):
            state, mend = 'was full', f'Make room, or {ELSEWHERE}'
        elif is_of(error, UNWRITABLE):
            state, mend = f'could not be written ({describe(error)})', f'{ELSEWHERE[0].upper()}{ELSEWHERE[1:]}'
        else:
            raise
        raise UserError(
            f"the disk of '{folder.parent}' {state} before {folder.name} was prepared; the files written so far are removed. {mend}"
        ) from error
    finally:
        if not kept:
            shutil.rmtree(unfinished, ignore_errors=True)


def is_of(error: OSError | RuntimeError, numbers: tuple[int, ...]) -> bool:
    """Whether the system's number of an error is one of these, or array_record's words are those of one."""
    if isinstance(error, OSError):
        return error.errno in numbers
    return any(os.strerror(number) in str(error) for number in numbers)


def describe(error: OSError | RuntimeError) -> str:
    """The system's words for an error of UNWRITABLE."""
    return next(os.strerror(number) for number in UNWRITABLE if is_of(error, (number,)))


def lock_folder(descriptor: int, wait: bool) -> bool:
    """Locks an open folder; see `take_lock`. Raises UserError if its file system has no locks."""
    try:
        return take_lock(descriptor, wait=wait)
    except OSError as error:
        raise UserError(f'machine.cache: its file system cannot lock folders ({error.strerror}); {ELSEWHERE}') from error


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open folder is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def remove_abandoned(parent: Path, ours: Path) -> None:
    """Removes the unfinished folders of killed processes that no command will go on with.

    Those are of the settings of `ours` (its name up to the last '-') for a text that has changed since, and any that
    are STALE. Links, and folders with names of another shape, stay.
    """
    for path in parent.glob('.*.unfinished'):
        if path == ours or not OURS.fullmatch(path.name):
            continue
        try:
            lock = os.open(path, FOLDER)
        except OSError:  # it was finished or removed in between, or is no folder
            continue
        try:
            old = time.time() - os.fstat(lock).st_mtime > STALE
            if (old or path.name.rpartition('-')[0] == ours.name.rpartition('-')[0]) and lock_folder(lock, wait=False):
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)
