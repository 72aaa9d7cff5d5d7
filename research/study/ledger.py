"""study.json: a study written into its folder, read from it, and compared with it."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.experiment import Experiment
from research.records import parse_record, read_record, write_record
from research.study.graph import order
from research.study.states import begun
from research.study.stored import make_version_error, parse_stored, read_stored
from research.study.study import Claim, Study, Table
from research.wire import differences, from_stored, to_wire

SHOWN = 5  # differences named in a refusal


def to_plain(experiment: Experiment) -> dict[str, Any]:
    """The experiment as plain JSON values."""
    return json.loads(json.dumps(to_wire(experiment).to_dict()))


def make_definition(study: Study) -> dict[str, Any]:
    """The content of study.json: all of the study, each run's wire with a hash of it and of the hashes of its starts."""
    runs: dict[str, dict[str, Any]] = {}
    for name in order(study.needs):
        experiment = to_plain(study.runs[name])
        starts = [runs[needed]['hash'] for needed in study.needs[name]]
        hashed = hashlib.sha256(json.dumps([experiment, starts], sort_keys=True).encode()).hexdigest()
        runs[name] = {'hash': hashed[:16], 'experiment': experiment}
    claims = [dataclasses.asdict(claim) for claim in study.claims]
    rest = {'name': study.name, 'note': study.note, 'table': dataclasses.asdict(study.table), 'claims': claims, 'left_out': []}
    return json.loads(json.dumps({**rest, 'runs': runs}))


def read_study(folder: Path) -> Study:
    """The study that `folder` holds, from its study.json. Raises UserError if there is none, or one of another version."""
    stored = parse_stored(read_stored(folder), folder)
    try:
        runs = {name: from_stored(run.experiment) for name, run in stored.current().items()}
        claims = tuple(_parse_claim(each) for each in stored.claims)
        return Study(stored.name, runs, parse_record(Table, stored.table), stored.note, claims)
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise make_version_error(folder, error) from None


def _parse_claim(stored: Any) -> Claim:
    """A Claim from JSON. Raises KeyError, TypeError or ValueError if it is none."""
    text, left, right = (stored[name] for name in ('text', 'left', 'right'))
    test = parse_record(str, stored['test']) if 'test' in stored else Claim.test  # earlier versions had one
    return Claim(parse_record(str, text), _parse_quantity(left), _parse_quantity(right), test)


def _parse_quantity(stored: list[Any]) -> tuple[str | tuple[str, ...], str]:
    runs, key = stored
    return parse_record(tuple[str, ...] if isinstance(runs, list) else str, runs), parse_record(str, key)


def compare(study: Study, stored: dict[str, Any], path: Path) -> dict[str, list[str]]:
    """Run -> how its definition differs from the study.json at `path`: keys with both values, or starts that differ.

    A field that Experiment has gained since is no difference at its default, although the hash is another.
    """
    found: dict[str, list[str]] = {}
    for name, wanted in make_definition(study)['runs'].items():
        if name not in stored['runs'] or stored['runs'][name]['hash'] == wanted['hash']:
            continue
        try:
            before = from_stored(stored['runs'][name]['experiment'])
        except UserError as error:
            raise UserError(f"run '{name}' in {path} is from another version of this code: {error}") from None
        named = [f'{name}.{difference}' for difference in differences(before, study.runs[name])]
        starts = [f"{name} starts from '{needed}'" for needed in study.needs[name] if needed in found]
        if named or starts:
            found[name] = named or starts
    return found


def read_own(study: Study, folder: Path) -> dict[str, Any] | None:
    """The study.json of `folder`; None if there is none yet.

    Runs may be added and left out, and one that never began may change. Raises UserError if the folder belongs to another study
    or holds a begun run of another definition.
    """
    path = folder / 'study.json'
    if not path.exists():
        return None
    stored = read_record(path)
    if stored is None:
        raise UserError(f'{path} is no JSON object: delete it to have it written anew from the study')
    try:
        if stored['name'] != study.name:
            raise UserError(f"{folder} holds study '{stored['name']}', not '{study.name}': choose another folder")
        changed = {name: named for name, named in compare(study, stored, path).items() if begun(folder / name)}
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'{path} is from another version of this code ({type(error).__name__}: {error}): delete it to have it written anew'
        ) from None
    if changed:
        named = [difference for run in changed.values() for difference in run]
        more = f'; and {len(named) - SHOWN} more' if len(named) > SHOWN else ''
        raise UserError(
            f"{folder} holds runs of another definition of study '{study.name}': {'; '.join(named[:SHOWN])}{more}"
            f' (choose another folder, or delete {", ".join(str(folder / name) for name in changed)} to run anew)'
        )
    return stored


def enter(study: Study, folder: Path) -> None:
    """Writes study.json into `folder`. Runs that the study no longer has stay in it, marked as left out.

    Raises UserError if the folder belongs to another study or to a run.
    """
    if (folder / 'experiment.json').exists():
        raise UserError(f'{folder} is the folder of a run, not of a study: choose another --workdir')
    stored = read_own(study, folder)
    wanted = make_definition(study)
    if stored is not None:
        wanted['left_out'] = [name for name in stored['runs'] if name not in wanted['runs']]
        wanted['runs'] = {**{name: stored['runs'][name] for name in wanted['left_out']}, **wanted['runs']}
    if wanted != stored:
        write_record(folder / 'study.json', wanted)
