"""What the folders of a study say: the state of each run, and whether they are this study's at all."""

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.experiment import Experiment
from research.files import read_record, write_record
from research.runs import lock
from research.study.columns import Column
from research.study.graph import needs, order
from research.study.study import Claim, Row, Study, Table
from research.wire import differences, from_stored, to_wire

SHOWN = 5  # differences named in a refusal


@dataclasses.dataclass(frozen=True)
class RunState:
    """Where a run stands: 'waiting', 'running', 'interrupted', 'done', 'failed' or 'blocked', and why."""

    state: str
    reason: str = ''
    attempts: int = 0  # failed ones
    again: bool = True  # whether a failed one may fare better next time: a crash may, a mistake in the definition may not


def begun(workdir: Path) -> bool:
    """Whether a run left anything in its folder beside the reason why it failed."""
    return workdir.is_dir() and any(item.name != 'failure.json' for item in workdir.iterdir())


def run_state(workdir: Path) -> RunState:
    """The state of one run, from its folder and its lock alone; that another run blocks it is not known there."""
    holder = lock.holder(workdir)  # first: who lets go of it between the two looks has written its last word before
    failure = read_record(workdir / 'failure.json')
    attempts = failure['attempts'] if failure is not None else 0
    if read_record(workdir / 'result.json') is not None:
        return RunState('done', attempts=attempts)
    if holder is not None:
        return RunState('running', lock.told(holder), attempts)
    if failure is not None:
        return RunState('failed', failure['reason'], attempts, failure['again'])
    if (workdir / 'result.json').exists():
        return RunState('interrupted', 'its result.json is half-written')
    return RunState('interrupted' if begun(workdir) else 'waiting')


def record_failure(workdir: Path, reason: str, trace: str = '', again: bool = True) -> None:
    """Write why an attempt failed beside how many did."""
    attempts = run_state(workdir).attempts + 1
    write_record(workdir / 'failure.json', {'reason': reason, 'attempts': attempts, 'again': again, 'traceback': trace})


def states(study: Study, folder: Path) -> dict[str, RunState]:
    """The state of every run, in running order; one that starts from a failed or blocked run is blocked unless done."""
    found: dict[str, RunState] = {}
    for name in order(study):
        found[name] = run_state(folder / name)
        stopped = [needed for needed in needs(study.runs[name]) if found[needed].state in ('failed', 'blocked')]
        if stopped and found[name].state not in ('done', 'running'):
            first = found[stopped[0]]
            why = f': {first.reason}' if first.state == 'failed' else ''
            found[name] = RunState('blocked', f"it starts from '{stopped[0]}', which is {first.state}{why}")
    return found


# ---- study.json -----------------------------------------------------------------------------------------------------------------


def wire(experiment: Experiment) -> dict[str, Any]:
    """The experiment as plain JSON values."""
    return json.loads(json.dumps(to_wire(experiment).to_dict()))


def definition(study: Study) -> dict[str, Any]:
    """What study.json holds: all of the study, each run's wire with a hash of it and of the hashes of its origins."""
    runs: dict[str, dict[str, Any]] = {}
    for name in order(study):
        experiment = wire(study.runs[name])
        origins = [runs[needed]['hash'] for needed in needs(study.runs[name])]
        hashed = hashlib.sha256(json.dumps([experiment, origins], sort_keys=True).encode()).hexdigest()
        runs[name] = {'hash': hashed[:16], 'experiment': experiment}
    claims = [dataclasses.asdict(claim) for claim in study.claims]
    told = {'name': study.name, 'note': study.note, 'table': dataclasses.asdict(study.table), 'claims': claims, 'left_out': []}
    return json.loads(json.dumps({**told, 'runs': runs}))


def read_study(folder: Path) -> Study:
    """The study that `folder` holds, from its study.json."""
    path = folder / 'study.json'
    stored = read_record(path)
    if stored is None:
        what = 'its study.json is no JSON object' if path.exists() else 'it has no study.json'
        raise UserError(f'{folder} holds no study ({what}): give the folder that launch.py names, or run the study there first')
    try:
        runs = {name: from_stored(run['experiment']) for name, run in stored['runs'].items() if name not in stored['left_out']}
        table = stored['table']
        rows = tuple(
            Row(row['title'], {role: tuple(names) for role, names in row['runs'].items()}, row['published'], row['facts'])
            for row in table['rows']
        )
        columns = tuple(_record(Column, column) for column in table['columns'])
        claims = tuple(Claim(each['text'], _quantity(each['left']), _quantity(each['right'])) for each in stored['claims'])
        return Study(
            stored['name'], runs, Table(table['title'], rows, columns, table['score'], table['source']), stored['note'], claims
        )
    except (KeyError, TypeError, AttributeError, UserError) as error:
        raise UserError(
            f'{path} is from another version of this code ({type(error).__name__}: {error}):'
            ' run the study again, which writes it anew'
        ) from None


def _record(kind: Any, values: Mapping[str, Any]) -> Any:
    """A flat dataclass from JSON, whose lists are its tuples."""
    names = typing.get_type_hints(kind)
    return kind(**{name: tuple(values[name]) if isinstance(values[name], list) else values[name] for name in names})


def _quantity(stored: list[Any]) -> tuple[str | tuple[str, ...], str]:
    runs, key = stored
    return (tuple(runs) if isinstance(runs, list) else runs), key


def changes(study: Study, stored: dict[str, Any], path: Path) -> dict[str, list[str]]:
    """For each run defined otherwise in the study.json at `path`: the keys that differ, or what it starts from.

    A field that Experiment gained since, left at its default, is no difference, although the hash is another.
    """
    found: dict[str, list[str]] = {}
    for name, wanted in definition(study)['runs'].items():
        if name not in stored['runs'] or stored['runs'][name]['hash'] == wanted['hash']:
            continue
        try:
            before = from_stored(stored['runs'][name]['experiment'])
        except UserError as error:
            raise UserError(f"run '{name}' in {path} is from another version of this code: {error}") from None
        named = [f'{name}.{difference}' for difference in differences(before, study.runs[name])]
        origins = [f"{name} starts from '{needed}'" for needed in needs(study.runs[name]) if needed in found]
        if named or origins:
            found[name] = named or origins
    return found


def check(study: Study, folder: Path) -> dict[str, Any] | None:
    """The study.json of `folder`, None when there is none yet; a UserError when the folder belongs to another study.

    Runs may be added and left out, and one that never began may change; a run that began keeps its definition.
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
        changed = {name: named for name, named in changes(study, stored, path).items() if begun(folder / name)}
    except (KeyError, TypeError) as error:
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
    """Make `folder` this study's, or refuse it; runs that the study no longer has stay in its study.json, marked as left out.

    Raises UserError too where `folder` is a run's.
    """
    if (folder / 'experiment.json').exists():
        raise UserError(f'{folder} is the folder of a run, not of a study: choose another --workdir')
    stored = check(study, folder)
    wanted = definition(study)
    if stored is not None:
        wanted['left_out'] = [name for name in stored['runs'] if name not in wanted['runs']]
        wanted['runs'] = {**{name: stored['runs'][name] for name in wanted['left_out']}, **wanted['runs']}
    if wanted != stored:
        write_record(folder / 'study.json', wanted)
