"""Copies of folders of buckets, in the user's cache: what reads a model's folder, or writes a run's, works on one."""

import dataclasses
import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from research.errors import UserError
from research.files import find_cache, take_lock, write_whole
from research.records import read_as, to_json, write_record
from research.remote import Entry, Folder

SESSION = 'session.json'  # the object that says who writes to a run's folder of a bucket
MOMENTS = re.compile(r'checkpoints/\d+/training/')  # of a run: only who continues it needs them


@dataclasses.dataclass(frozen=True)
class Tags:
    """tags.json: the tags of the objects that a copy holds, by name."""

    tags: Mapping[str, str]


def find_copy(folder: Folder, kind: str) -> Path:
    """The place of a copy of `folder`; it need not exist yet. kind: what it is for, 'run' or 'source'.

    Raises UserError if the user has no cache.
    """
    hashed = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    try:
        return find_cache() / 'buckets' / f'{kind}-{hashed}' / folder.name
    except RuntimeError:
        raise UserError(f'{folder}: there is no home for its copy: set XDG_CACHE_HOME to a folder of yours') from None


def begin_copy(copy: Path) -> None:
    """Makes the folder that `copy` and the files beside it lie in: nobody else may read them."""
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def fetch_model(folder: Folder, key: str) -> Path:
    """A copy of a model's folder, as it is now; objects that have not changed since the last time are not read again.

    Raises UserError, with `key` in front, if there is nothing. Of a run's checkpoints the optimizer's state is left out.
    """
    entries = {name: entry for name, entry in folder.list_objects().items() if name != SESSION}
    if not entries:
        raise UserError(f"{key}='{folder}': there is no such folder, or it is empty; train it first, or give another")
    wanted = {name: entry for name, entry in entries.items() if not MOMENTS.match(name)}
    copy = find_copy(folder, 'source')
    begin_copy(copy)
    index = copy.parent / 'tags.json'
    with open(copy.parent / 'lock', 'w') as lock:
        take_lock(lock.fileno(), wait=True)
        known = read_as(Tags, index)
        tags = known.tags if known else {}
        index.unlink(missing_ok=True)  # a kill leaves a copy of which nothing is known
        remove_others(copy, wanted)
        download(folder, {name: entry for name, entry in wanted.items() if not _is_there(copy / name, name, entry, tags)}, copy)
        for name in entries:  # a whole checkpoint has this folder
            if found := MOMENTS.match(name):
                (copy / found[0]).mkdir(parents=True, exist_ok=True)
        write_record(index, to_json(Tags({name: entry.tag for name, entry in wanted.items()})))
    return copy


def _is_there(path: Path, name: str, entry: Entry, tags: Mapping[str, str]) -> bool:
    return bool(entry.tag) and name in tags and tags[name] == entry.tag and path.is_file() and path.stat().st_size == entry.size


def download(folder: Folder, entries: Mapping[str, Entry], copy: Path) -> None:
    """Reads objects into the folder `copy`. Raises UserError if the disk has no room for them."""
    size, free = sum(entry.size for entry in entries.values()), shutil.disk_usage(copy.parent).free
    if size > free:
        raise UserError(
            f'{folder}: its copy in {copy} takes {size:,} bytes, and {free:,} are free: '
            'set XDG_CACHE_HOME to a folder of a larger disk'
        )
    for name, entry in entries.items():
        folder.fetch(name, copy / name, entry.size)


def list_files(copy: Path) -> list[str]:
    """The names of the files of a copy that belong in its bucket: nothing hidden, and nothing that is being written."""
    found = []
    for place, folders, names in os.walk(copy):
        folders[:] = [name for name in folders if not is_unfinished(name)]
        found += [Path(place, name).relative_to(copy).as_posix() for name in names if not is_unfinished(name)]
    return sorted(found)


def is_unfinished(name: str) -> bool:
    """Whether a file or folder of a run is hidden or still being written."""
    return name.startswith('.') or name.endswith('.part') or '.orbax-checkpoint-tmp' in name


def remove_others(copy: Path, wanted: Mapping[str, Entry]) -> None:
    """Removes the files of a copy that its bucket does not have, and the folders that this leaves empty."""
    for place, _, names in os.walk(copy, topdown=False):
        here = Path(place)
        for name in names:
            if (here / name).relative_to(copy).as_posix() not in wanted:
                (here / name).unlink()
        if not any(here.iterdir()):
            here.rmdir()


def fetch_file(folder: Folder, name: str, most: int) -> Path | None:
    """The copy of one file of a run; None if its folder has none. Raises UserError if it has over `most` bytes."""
    content = folder.read(name, most + 1)
    if content is None:
        return None
    if len(content) > most:
        raise UserError(f'{folder}/{name} has over {most:,} bytes')
    path = find_copy(folder, 'run') / name
    begin_copy(path.parent)
    write_whole(path, content)
    return path
