"""The records of a run's folder: result.json, environment.json and metrics.jsonl. Nothing here loads jax."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.records import read_as, read_lines, to_json, write_record


@dataclasses.dataclass(frozen=True)
class Parameters:
    """Numbers of parameters; the encoder's without any head."""

    total: int
    encoder: int
    encoder_without_pooler: int
    modules: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Selected:
    """The checkpoint that a run was evaluated with, if not the last."""

    step: int
    by: str  # the metric, 'split/name'
    how: str  # in words


@dataclasses.dataclass(frozen=True)
class Smoothness:
    """The distance and the angle between each layer's input and output."""

    l2: tuple[float, ...]
    degrees: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Metrics of two guesses: always the commonest answer, and random answers. 'score' is that of the reported split."""

    majority: Mapping[str, float]
    random: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Result:
    """result.json: the numbers of a finished run. What does not apply to it, or was never measured, is None."""

    name: str
    steps: int
    metrics: Mapping[str, float]  # 'split/name' -> value
    selected: Selected | None
    parameters: Parameters
    flops_per_token: float  # the encoder's forward pass
    flops_per_step: float  # of training, the teacher included
    checkpoint_bytes: int
    train_seconds: float
    wall_seconds: float
    tokens_per_second: float | None
    peak_memory_bytes: int | None
    latency_seconds: float | None
    smoothness: Smoothness | None
    unigram_entropy: float | None  # nats
    labels: tuple[str, ...] | None
    baseline: Baseline | None
    reported: str | None  # the split of `score`
    score: float | None
    collapsed: Mapping[str, int] | None  # split, or 'reported' -> 1 if (nearly) all predictions are the same, else 0
    fingerprint: str | None = None  # of the parameters that were evaluated; runs before 0.2 did not record it, nor the next
    contextless: float | None = None  # nats: the held-out loss of a model that knows the frequencies and sees the piece shown


@dataclasses.dataclass(frozen=True)
class Devices:
    """The part of an Environment's `devices` that a reader uses."""

    platform: str
    count: int


@dataclasses.dataclass(frozen=True)
class Environment:
    """environment.json: code, command, machine and data of a run. A session on another machine or by other code adds its own."""

    commit: str | None
    uncommitted_changes: bool | None
    command: tuple[str, ...]
    python: str
    machine: str
    versions: Mapping[str, str]
    devices: Mapping[str, Any]
    cores: int
    data: Mapping[str, Any]  # facts of the data: fingerprints, sizes, labels …
    version: str = ''  # of this code; runs before 0.2 did not record it, nor the five below
    code: str = ''  # fingerprint of the code's files
    processor: str = ''  # its model
    instructions: tuple[str, ...] = ()  # the sets of vector instructions that it has: which it has changes the last bits
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of the environment, as XLA and jax read them
    jax: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # settings that change numbers
    steps: int | None = None  # how many the run takes
    sessions: tuple['Environment', ...] = ()  # later ones that differ from the one before

    def all_sessions(self) -> tuple['Environment', ...]:
        """This session and the later ones."""
        return (self, *self.sessions)


# The fields of an Environment that decide the last bits of a run's numbers, with words for each.
DECISIVE = {
    'code': 'the code',
    'versions': 'versions',
    'python': 'Python',
    'machine': 'the system',
    'processor': 'the processor',
    'instructions': 'its vector instructions',
    'cores': 'the number of cores',
    'devices': 'the devices',
    'variables': 'environment variables',
    'jax': 'settings of jax',
}


def read_result(folder: Path) -> Result | None:
    """The result.json of a run; None if it is missing, half-written or no Result."""
    return read_as(Result, folder / 'result.json')


def write_result(folder: Path, result: Result) -> dict[str, Any]:
    """Writes result.json and returns its content."""
    write_record(folder / 'result.json', to_json(result))
    return to_json(result)


def read_environment(folder: Path) -> Environment | None:
    """The environment.json of a run; None if it is missing, half-written or no Environment."""
    return read_as(Environment, folder / 'environment.json')


def write_environment(folder: Path, environment: Environment) -> None:
    """Writes environment.json."""
    write_record(folder / 'environment.json', to_json(environment))


# ---- metrics.jsonl --------------------------------------------------------------------------------------------------------------


LAST = 2**53  # beyond it a float cannot count steps


def is_step(value: Any) -> bool:
    """Whether a JSON value is the number of a step."""
    return type(value) is int and 0 <= value < LAST


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The numbers of the lines of metrics.jsonl that have a step; what is no number is left out. Raises UserError for a pipe."""
    lines = (line for line in read_lines(folder / 'metrics.jsonl') if 'step' in line and is_step(line['step']))
    return [{key: value for key, value in line.items() if type(value) in (int, float)} for line in lines]


def seconds_so_far(folder: Path) -> float:
    """The seconds of training that earlier sessions of the run recorded."""
    return _find_most(folder, 'seconds')


def wall_so_far(folder: Path) -> float:
    """The seconds that earlier sessions of the run took, up to their last recorded line, compilation and evaluation included."""
    return _find_most(folder, 'wall')


def _find_most(folder: Path, key: str) -> float:
    """The largest finite number under `key` of metrics.jsonl; 0 if there is none."""
    return max((line[key] for line in read_metrics(folder) if key in line and 0 <= line[key] < math.inf), default=0.0)
