"""How a study is executed: the settings of the command line. Nothing here loads jax."""

import dataclasses
import re

from research.errors import UserError
from research.escape import clean

# The forms of `sbatch --time`.
TIMES = (
    r'(?P<minutes>\d+)(:(?P<seconds>\d+))?',
    r'(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>\d+)',
    r'(?P<days>\d+)-(?P<hours>\d+)(:(?P<minutes>\d+)(:(?P<seconds>\d+))?)?',
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The options of each Slurm job; '' and 0 leave one to the cluster."""

    partition: str = ''
    time: str = '60'  # as `sbatch --time` takes it: minutes, H:MM:SS or D-HH; a run that needs longer is requeued and continues
    gpus: int = 0  # a node
    nodes: int = 1  # a run
    cpus: int = 0  # a process
    memory: str = ''  # a node, as `sbatch --mem` takes it
    account: str = ''
    qos: str = ''
    constraint: str = ''
    extra: tuple[str, ...] = ()  # any other option of sbatch, as 'option=value'


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a study is executed."""

    executor: str = 'local'  # a row of execute.EXECUTORS
    jobs: int = 0  # runs at once; 0: as many as there are devices here, or as the cluster lets
    retries: int = 1  # further attempts at a run that crashed
    only: str = ''  # globs of run names, separated by commas; '' is all
    cluster: Cluster = Cluster()


def count_minutes(text: str) -> int:
    """The minutes, rounded up, of a time as `sbatch --time` takes it. Raises UserError for another text."""
    found = next((match for form in TIMES if (match := re.fullmatch(form, text))), None)
    if found is None:
        raise UserError(f"--time={text} is not a time: give minutes ('90'), 'H:MM:SS' or 'D-HH'")
    parts = {unit: int(number) for unit, number in found.groupdict().items() if number}
    seconds = {'days': 86_400, 'hours': 3600, 'minutes': 60, 'seconds': 1}
    return -(-sum(number * seconds[unit] for unit, number in parts.items()) // 60)


def validate_execution(execution: Execution) -> None:
    """Raises UserError for an invalid time, for texts that a batch script cannot hold and for numbers out of range."""
    count_minutes(execution.cluster.time)
    _validate_texts(execution.cluster)
    values = {'jobs': (execution.jobs, 0), 'retries': (execution.retries, 0)}
    values |= {'gpus': (execution.cluster.gpus, 0), 'nodes': (execution.cluster.nodes, 1), 'cpus': (execution.cluster.cpus, 0)}
    for name, (value, least) in values.items():
        if value < least:
            raise UserError(f'--{name}={value}: it must be at least {least}')


def _validate_texts(cluster: Cluster) -> None:
    """Raises UserError for a value with a control character, which would be a line of its own in the batch script."""
    values = dataclasses.asdict(cluster)
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    for name, text in [*texts.items(), *(('sbatch', each) for each in cluster.extra)]:
        if clean(text) != text:
            raise UserError(f'--{name}={text!r}: control characters and line breaks have no place in an option of sbatch')
    for each in cluster.extra:
        if not re.fullmatch(r'[A-Za-z][A-Za-z-]*(=.*)?', each):
            raise UserError(f"--sbatch={each}: give 'option=value', such as --sbatch=mail-type=END")
