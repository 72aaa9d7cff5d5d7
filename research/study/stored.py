"""study.json as it is stored. Nothing here loads jax."""

from pathlib import Path
from typing import Any

from research.errors import UserError
from research.records import read_record
from research.study.graph import siblings


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
    stored = read_stored(folder)
    try:
        wires = {name: run['experiment'] for name, run in stored['runs'].items() if name not in stored['left_out']}
        return stored['name'], {name: siblings(x['start'], x['teacher'], x['data']['tokenizer']) for name, x in wires.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise make_version_error(folder, error) from None


def make_version_error(folder: Path, error: Exception) -> UserError:
    """The UserError for a study.json that this code cannot read because of `error`."""
    return UserError(
        f'{folder / "study.json"} is from another version of this code ({type(error).__name__}: {error}):'
        ' run the study again, which writes it anew'
    )
