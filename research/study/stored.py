"""study.json as it is stored. Nothing here loads jax."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.files import validate_name
from research.records import parse_record, read_record
from research.study.graph import siblings, validate_run_name


@dataclasses.dataclass(frozen=True)
class StoredRun:
    """A run in study.json: the wire of its experiment, and a hash of it and of its starts."""

    hash: str
    experiment: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Stored:
    """study.json. The table and the claims are records of research.study.study, which loads jax."""

    name: str
    runs: Mapping[str, StoredRun]
    left_out: tuple[str, ...]  # runs that the study has no more
    note: str = ''
    table: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    claims: tuple[Any, ...] = ()

    def current(self) -> dict[str, StoredRun]:
        """The runs that the study has."""
        left_out = set(self.left_out)
        return {name: run for name, run in self.runs.items() if name not in left_out}


@dataclasses.dataclass(frozen=True)
class StartsOfData:
    """The part of a run's data that may name another run."""

    tokenizer: str


@dataclasses.dataclass(frozen=True)
class Starts:
    """The part of a stored experiment that may name other runs."""

    start: str
    teacher: str
    data: StartsOfData


def read_stored(folder: Path) -> dict[str, Any]:
    """The content of a study's study.json. Raises UserError if there is none."""
    path = folder / 'study.json'
    stored = read_record(path)
    if stored is None:
        why = 'its study.json is no JSON object' if path.exists() else 'it has no study.json'
        raise UserError(f'{folder} holds no study ({why}): give the folder that launch.py names, or run the study there first')
    return stored


def read_needs(folder: Path) -> tuple[str, dict[str, tuple[str, ...]]]:
    """(the name of the study in `folder`, run -> the runs that it starts from)."""
    stored: Stored = parse_stored(read_stored(folder), folder)
    try:
        starts = {name: parse_record(Starts, run.experiment) for name, run in stored.current().items()}
    except (TypeError, ValueError) as error:
        raise make_version_error(folder, error) from None
    return stored.name, {name: siblings(x.start, x.teacher, x.data.tokenizer) for name, x in starts.items()}


def parse_stored(stored: dict[str, Any], folder: Path) -> Stored:
    """The record in a study.json. Raises UserError if a field has another type or a run could not have its name."""
    try:
        found: Stored = parse_record(Stored, stored)
        validate_name('name of the study', found.name)
        for name in found.runs:
            validate_run_name(name)
    except (TypeError, ValueError, UserError) as error:
        raise make_version_error(folder, error) from None
    return found


def make_version_error(folder: Path, error: Exception) -> UserError:
    """The UserError for a study.json that this code cannot read because of `error`."""
    return UserError(
        f'{folder / "study.json"} is from another version of this code ({type(error).__name__}: {error}):'
        ' run the study again, which writes it anew'
    )
