"""What the folders of a study say: the state of each run, and whether they are this study's at all."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.experiment import Experiment, differences, from_wire, to_wire
from research.study.graph import Study, needs, order

SHOWN = 5  # differences named in a refusal


@dataclasses.dataclass(frozen=True)
class RunState:
    """Where a run stands: 'waiting', 'unfinished', 'done', 'failed' or 'blocked', and why."""

    state: str
    reason: str = ''
    attempts: int = 0  # failed ones


def read_record(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None when the file is missing, half-written or holds something else."""
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def write_whole(path: Path, content: bytes) -> None:
    """Write `path` so that a reader, or a kill, sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}')
    partial.write_bytes(content)
    os.replace(partial, path)


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a JSON object, whole."""
    write_whole(path, (json.dumps(record, indent=2, ensure_ascii=False) + '\n').encode())


def begun(workdir: Path) -> bool:
    """Whether a run left anything in its folder beside the reason why it failed."""
    return workdir.is_dir() and any(item.name != 'failure.json' for item in workdir.iterdir())


def run_state(workdir: Path) -> RunState:
    """The state of one run, from its folder alone; that another run blocks it is not known there."""
    if read_record(workdir / 'result.json') is not None:
        return RunState('done')
    failure = read_record(workdir / 'failure.json')
    if failure is not None:
        return RunState('failed', failure['reason'], failure['attempts'])
    if (workdir / 'result.json').exists():
        return RunState('unfinished', 'its result.json is half-written')
    return RunState('unfinished' if begun(workdir) else 'waiting')


def states(study: Study, folder: Path) -> dict[str, RunState]:
    """The state of every run, in running order; one that starts from a failed or blocked run is blocked unless done."""
    found: dict[str, RunState] = {}
    for name in order(study):
        found[name] = run_state(folder / name)
        stopped = [needed for needed in needs(study.runs[name]) if found[needed].state in ('failed', 'blocked')]
        if stopped and found[name].state != 'done':
            found[name] = RunState('blocked', f"it starts from '{stopped[0]}', which is {found[stopped[0]].state}")
    return found


def wire(experiment: Experiment) -> dict[str, Any]:
    """The experiment as plain JSON values."""
    return json.loads(json.dumps(to_wire(experiment).to_dict()))


def definition(study: Study) -> dict[str, Any]:
    """What study.json holds: the name, and each run's wire with a hash of it and of the hashes of its origins."""
    runs: dict[str, dict[str, Any]] = {}
    for name in order(study):
        experiment = wire(study.runs[name])
        origins = [runs[needed]['hash'] for needed in needs(study.runs[name])]
        hashed = hashlib.sha256(json.dumps([experiment, origins], sort_keys=True).encode()).hexdigest()
        runs[name] = {'hash': hashed[:16], 'experiment': experiment}
    return {'name': study.name, 'runs': runs}


def changes(study: Study, stored: dict[str, Any], path: Path) -> dict[str, list[str]]:
    """For each run defined otherwise in the study.json at `path`: the keys that differ, or what it starts from.

    A field that Experiment gained since, left at its default, is no difference, although the hash is another.
    """
    found: dict[str, list[str]] = {}
    for name, wanted in definition(study)['runs'].items():
        if name not in stored['runs'] or stored['runs'][name]['hash'] == wanted['hash']:
            continue
        try:
            before = from_wire(stored['runs'][name]['experiment'])
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
    if stored['name'] != study.name:
        raise UserError(f"{folder} holds study '{stored['name']}', not '{study.name}': choose another folder")
    changed = {name: named for name, named in changes(study, stored, path).items() if begun(folder / name)}
    if changed:
        named = [difference for run in changed.values() for difference in run]
        more = f'; and {len(named) - SHOWN} more' if len(named) > SHOWN else ''
        raise UserError(
            f"{folder} holds runs of another definition of study '{study.name}': {'; '.join(named[:SHOWN])}{more}"
            f' (choose another folder, or delete {", ".join(str(folder / name) for name in changed)} to run anew)'
        )
    return stored


def enter(study: Study, folder: Path) -> None:
    """Make `folder` this study's, or refuse it; runs that the study no longer has stay in its study.json."""
    stored = check(study, folder)
    wanted = definition(study)
    if stored is not None:
        wanted['runs'] = {**stored['runs'], **wanted['runs']}
    if wanted != stored:
        write_record(folder / 'study.json', wanted)
