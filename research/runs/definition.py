"""The first files of a run folder: its experiment, its tokenizer and its environment."""

import dataclasses
from pathlib import Path

from research import wire
from research.data import feed as feeds
from research.data import tokenizers
from research.errors import UserError
from research.experiment import Experiment
from research.records import read_json, write_record
from research.runs.environment import describe_environment
from research.runs.folder import read_environment, write_environment

# Fields whose change starts a new recorded session: what may change a number.
COMPARED = (
    *('commit', 'uncommitted_changes', 'code', 'versions', 'python', 'machine', 'processor', 'instructions', 'cores', 'devices'),
    *('variables', 'jax'),
)


def begin_folder(x: Experiment, workdir: Path, feed: feeds.Feed, steps: int) -> list[str]:
    """Writes the first files of a run folder, or records the changed environment of a continued run. Returns lines for the log.

    Raises UserError if the data of a continued run have changed, or its environment.json cannot be read.
    """
    path = workdir / 'environment.json'
    here = describe_environment(dataclasses.asdict(feed.facts))
    if path.exists():
        first = read_environment(workdir)
        if first is None or 'fingerprint' not in first.data:
            raise UserError(f'{path} is half-written or from another version of this code; give another --workdir')
        before = first.data['fingerprint']
        if before != feed.facts.fingerprint:
            raise UserError(
                f'the data have changed since {workdir} began ({before} -> {feed.facts.fingerprint}); give another --workdir'
            )
        last = first.all_sessions()[-1]
        changed = [key for key in COMPARED if getattr(last, key) != getattr(here, key)]
        if changed:
            write_environment(workdir, dataclasses.replace(first, sessions=(*first.sessions, here)))
        return [f'continues with changed {", ".join(changed)}: see {path.name}'] if changed else []
    workdir.mkdir(parents=True, exist_ok=True)
    write_record(workdir / 'experiment.json', wire.to_wire(x).to_dict())
    tokenizers.save_tokenizer(feed.tokenizer, workdir / 'tokenizer')
    write_environment(workdir, dataclasses.replace(here, steps=steps))
    return []


def read_definition(folder: Path, label: str = '', hint: str = '') -> Experiment:
    """The experiment of a run folder.

    Raises UserError if there is none, or one of another version; the message begins with `label` and ends with `hint`.
    """
    path = folder / 'experiment.json'
    try:
        return wire.from_stored(read_json(path))
    except FileNotFoundError:
        raise UserError(f'{label}{folder} is no run folder: it has no experiment.json{hint}') from None
    except UserError as error:
        unread = str(error).startswith(str(path))  # no JSON at all, and not one of other keys
        why = str(error) if unread else f'{path} is from another version of this code ({error})'
        raise UserError(f'{label}{why}{hint}') from None
