"""The files of a run's folder, read and written."""

import dataclasses
import json
from pathlib import Path

from research import wire
from research.data import feed as feeds
from research.data import tokenizers
from research.errors import UserError
from research.experiment import Experiment
from research.files import read_lines, write_record
from research.runs.environment import environment, sessions
from research.wire import from_stored


def begin_folder(x: Experiment, workdir: Path, feed: feeds.Feed, steps: int) -> list[str]:
    """Writes what a run folder begins with; for a run that continues, where that happens otherwise, and returns what the log says.

    Raises UserError where the data of a run that continues have changed.
    """
    path = workdir / 'environment.json'
    here = environment(dataclasses.asdict(feed.facts))
    if path.exists():
        there = json.loads(path.read_text())
        before = there['data']['fingerprint']
        if before != feed.facts.fingerprint:
            raise UserError(
                f'the data have changed since {workdir} began ({before} -> {feed.facts.fingerprint}); give another --workdir'
            )
        first, *others = sessions(there)
        last = [first, *others][-1]
        changed = [key for key in ('commit', 'uncommitted_changes', 'versions', 'devices') if last[key] != here[key]]
        if changed:
            write_record(path, {**first, 'sessions': [*others, here]})
        return [f'continues with other {", ".join(changed)} than before: see {path.name}'] if changed else []
    workdir.mkdir(parents=True, exist_ok=True)
    write_record(workdir / 'experiment.json', wire.to_wire(x).to_dict())
    tokenizers.save_tokenizer(feed.tokenizer, workdir / 'tokenizer')
    write_record(path, here | {'steps': steps})
    return []


def seconds_so_far(workdir: Path) -> float:
    """The seconds of training that earlier sessions of the run recorded."""
    return max((line['seconds'] for line in read_metrics(workdir)), default=0.0)


def wall_so_far(folder: Path) -> float:
    """The seconds that earlier sessions of the run took, up to the last that they said: compilation and evaluation included."""
    return max((line['wall'] for line in read_metrics(folder)), default=0.0)


def read_metrics(workdir: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl."""
    return read_lines(workdir / 'metrics.jsonl')


def read(folder: Path, label: str = '', mend: str = '') -> Experiment:
    """The experiment of a run folder.

    Raises UserError where there is none, or one of another version; `label` begins the message and `mend` says what may be done.
    """
    path = folder / 'experiment.json'
    try:
        return from_stored(json.loads(path.read_text('utf-8')))
    except FileNotFoundError:
        raise UserError(f'{label}{folder} is no run folder: it has no experiment.json{mend}') from None
    except json.JSONDecodeError as error:
        raise UserError(f'{label}{path} is not JSON ({error}){mend}') from None
    except UserError as error:
        raise UserError(f'{label}{path} is from another version of this code ({error}){mend}') from None
