"""The files of checkpoints: damage, found by checksums, and the sizes of arrays, validated before one is read."""

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from research.records import read_as, read_record

ITEMS = ('params', 'training')
SUMS = 'checksums.json'
GROWTH = 100  # times the bytes of the files: trained weights hardly compress
FREE = 2**24  # bytes of arrays that any checkpoint may hold

# ---- Damage ---------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Sums:
    """checksums.json: the SHA-256 of each file of a checkpoint, by its path there, and whether a signal asked for it."""

    sha256: Mapping[str, str]
    planned: bool = True


def is_planned(checkpoint: Path) -> bool:
    """Whether a checkpoint would be there without a signal too; True of earlier versions', which none asked for."""
    sums = read_as(Sums, checkpoint / SUMS)
    return sums is None or sums.planned


def locate(folder: Path) -> tuple[int, int] | None:
    """The place of a folder on its disk, which it keeps until it is removed or moved away; None if it is not there."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def hash_files(checkpoint: Path, item: str = '*') -> dict[str, str]:
    """Path -> the SHA-256 of each file of the items of a checkpoint. Orbax still changes its own files beside them."""
    found = {}
    for path in sorted(path for path in checkpoint.glob(f'{item}/**/*') if path.is_file()):
        with path.open('rb') as file:
            found[path.relative_to(checkpoint).as_posix()] = hashlib.file_digest(file, 'sha256').hexdigest()
    return found


def find_damage(checkpoint: Path, item: str = '*') -> str:
    """What is wrong with the files of a checkpoint, or of one item of it; '' if all are as they were written.

    Of a checkpoint of an earlier version, which has no checksums, no more is known than whether its parts are there.
    """
    missing = [name for name in ITEMS if not (checkpoint / name).is_dir()]
    if missing:
        return f'{missing[0]} is missing'
    if read_record(checkpoint / '_CHECKPOINT_METADATA') is None:
        return '_CHECKPOINT_METADATA cannot be read'
    if not (checkpoint / SUMS).exists():
        return ''
    sums = read_as(Sums, checkpoint / SUMS)
    if sums is None:
        return f'{SUMS} cannot be read'
    try:
        found = hash_files(checkpoint, item)
    except OSError as error:
        return f'{error.filename or "a file"} cannot be read ({error.strerror})'
    expected = {path: value for path, value in sums.sha256.items() if item in ('*', path.partition('/')[0])}
    missing = [path for path in expected if path not in found]
    changed = [path for path in expected if path in found and found[path] != expected[path]]
    return f'{missing[0]} is missing' if missing else f'{changed[0]} has another checksum' if changed else ''


def list_steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint in `folder`, in order."""
    return sorted(int(path.name) for path in folder.glob('*') if path.name.isdecimal() and path.is_dir())


def set_aside(folder: Path, step: int, reason: str) -> str:
    """Moves a damaged checkpoint out of `folder`, to damaged/STEP beside it, and returns a line for the log."""
    place = folder.parent / 'damaged' / str(step)
    place.parent.mkdir(exist_ok=True)
    number = 1
    while place.exists():
        number += 1
        place = place.with_name(f'{step}-{number}')
    (folder / str(step)).rename(place)
    return f'the checkpoint of step {step} is damaged ({reason}): set aside as {place.parent.name}/{place.name}'


def set_aside_damaged(folder: Path) -> list[str]:
    """Sets every damaged checkpoint of a run aside, before orbax reads any of them. Returns lines for the log."""
    damage = {step: find_damage(folder / str(step)) for step in list_steps(folder)}
    return [set_aside(folder, step, reason) for step, reason in damage.items() if reason]


# ---- Sizes: a few bytes, compressed, can become any number of them --------------------------------------------------------------


def validate_chunks(leaves: Iterable[Any]) -> None:
    """Raises ValueError if an array is stored in larger chunks than itself, which are unpacked whole.

    leaves: Orbax's metadata of the arrays.
    """
    for leaf in leaves:
        chunk = leaf.storage.chunk_shape
        if len(chunk) != len(leaf.shape) or any(size > max(1, whole) for size, whole in zip(chunk, leaf.shape, strict=True)):
            raise ValueError(f'{leaf.name}: an array of shape {leaf.shape} in chunks of shape {chunk}')


def validate_growth(leaves: Iterable[Any], item: Path) -> None:
    """Raises ValueError if the arrays are GROWTH times larger than the files of `item` that hold them."""
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    files = sum(path.lstat().st_size for path in item.rglob('*'))
    if size > GROWTH * files + FREE:
        raise ValueError(f'arrays of {size:,} bytes in files of {files:,}: over {GROWTH} times as many')
