"""A study as a value: named runs that may start from one another, and the table and claims they are run for."""

import dataclasses
import re
from collections.abc import Iterable, Mapping

from research.errors import UserError, choose, nearest
from research.experiment import Experiment

BETTER = ('max', 'min', '')
# What lies in a study folder beside one folder a run.
FILES = ('study.json', 'report.md', 'report.html', 'table.tex', 'table.csv', 'figures')


@dataclasses.dataclass(frozen=True)
class Format:
    """How a number is printed: multiplied by `scale`, with `digits` decimals.

    `exact` numbers (a size, a count of operations) follow from the architecture: seeds that agree print one number
    without a spread.
    """

    scale: float
    digits: int
    exact: bool = False


FORMATS = {
    'plain': Format(1, 3),
    'count': Format(1, 0),
    'percent': Format(100, 1),
    'millions': Format(1e-6, 2, exact=True),
    'megabytes': Format(1e-6, 1, exact=True),
    'memory': Format(1e-6, 0),
    'minutes': Format(1 / 60, 1),
    'milliseconds': Format(1e3, 2),
}


@dataclasses.dataclass(frozen=True)
class Column:
    """One number of each row: `key` of the results of the row's runs in `role`, or the mean of other columns.

    A key is the path into result.json with ':' between its levels: 'parameters:total', 'metrics:test/accuracy'.
    Where 'max' or 'min' is `better`, the best is set in bold. The table's caption says `note`. A column with `of`, the titles
    of others, has neither role nor key: it is their mean, seed by seed. `relative` to a row, by its title, it is a share of
    that row's mean.
    """

    title: str
    role: str
    key: str
    format: str = 'plain'
    better: str = ''
    note: str = ''
    of: tuple[str, ...] = ()
    relative: str = ''

    def __post_init__(self) -> None:
        choose(f"format of column '{self.title}'", self.format, FORMATS)
        choose(f"direction of column '{self.title}'", self.better, BETTER)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table: the runs in each role; several runs in a role are seeds of one experiment.

    `published` holds what a paper prints for the row, by column title and in the column's unit; `facts` what the row is, in
    words, by the title of a column of its own in front of the numbers.
    """

    title: str
    runs: Mapping[str, tuple[str, ...]]
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)


COLUMNS = {
    'parameters': Column(
        'Parameters (M)',
        'pretrain',
        'parameters:encoder',
        'millions',
        'min',
        'of the encoder with its pooler, without heads, as papers count',
    ),
    'checkpoint': Column(
        'Checkpoint (MB)',
        'pretrain',
        'checkpoint_bytes',
        'megabytes',
        'min',
        'parameters only, heads included; 1 MB is 1e6 bytes',
    ),
    'flops': Column(
        'FLOPs a token (M)',
        'pretrain',
        'flops_per_token',
        'millions',
        'min',
        'forward pass of the encoder with its pooler, without heads, at the length of pretraining; a multiply-add counts as 2',
    ),
    'mlm': Column('MLM loss (nats)', 'pretrain', 'metrics:dev/mlm', 'plain', 'min', 'on held-out documents'),
    'mlm_accuracy': Column('MLM accuracy (%)', 'pretrain', 'metrics:dev/mlm_accuracy', 'percent', 'max', 'on held-out documents'),
    'task': Column('Task accuracy (%)', 'task', 'metrics:test/accuracy', 'percent', 'max', 'on the test split'),
    'time': Column(
        'Time (min)',
        'pretrain',
        'train_seconds',
        'minutes',
        'min',
        'of the training steps, compilation included; data, evaluation and saving are not',
    ),
    'memory': Column(
        'Memory (MB)', 'pretrain', 'peak_memory_bytes', 'memory', note='the most in use in training, of the whole process on a CPU'
    ),
    'speed': Column('Training (tokens/s)', 'pretrain', 'tokens_per_second', 'count', 'max', 'a teacher included'),
    'latency': Column(
        'Latency (ms)',
        'pretrain',
        'latency_seconds',
        'milliseconds',
        'min',
        'median of one sequence of full length at batch 1',
    ),
}

SCORE = Column('score', 'run', 'score', 'percent', 'max', 'in percent, on the reported split; of two metrics their mean')
COLLAPSED = Column('collapsed', 'run', 'collapsed:reported', 'percent', note='share of the runs that tell one answer throughout')


@dataclasses.dataclass(frozen=True)
class Table:
    """What a study is run for. Figures draw the column titled `score` (none where it is '') against what a row costs and its shape.

    `source` is the paper and its table that the rows' published numbers are from.
    """

    title: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...] = tuple(COLUMNS.values())
    score: str = ''
    source: str = ''


Quantity = tuple[str | tuple[str, ...], str]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence that holds when `left` is below `right`: each a run, or the seeds of one experiment, and a key.

    '{a}' and '{b}' in the text stand for the runs of `left` and `right`, by the title of their row where they have one.
    """

    text: str
    left: Quantity
    right: Quantity

    def sides(self) -> tuple[tuple[tuple[str, ...], str], ...]:
        """(runs, key) of `left` and of `right`, a single run as a tuple of one."""
        return tuple(((runs,) if isinstance(runs, str) else runs, key) for runs, key in (self.left, self.right))


@dataclasses.dataclass(frozen=True)
class Study:
    """Runs by name, and what is to be read off them.

    '@NAME' in the start, the teacher or the tokenizer of an experiment names another run of the study.
    """

    name: str
    runs: Mapping[str, Experiment]
    table: Table
    note: str = ''
    claims: tuple[Claim, ...] = ()

    def __post_init__(self) -> None:
        for name in self.runs:
            if not re.fullmatch(r'[\w(][^/\\\x00-\x1f]*', name) or name in FILES:
                raise UserError(
                    f"a run cannot be named '{name}', which would be its folder's name: begin with a letter or digit,"
                    f' use no slash, and leave {", ".join(FILES)} to the study'
                )
        for row in self.table.rows:
            for role, names in row.runs.items():
                seen: dict[Experiment, str] = {}
                for name in names:
                    choose(f"run (role '{role}' of row '{row.title}')", name, self.runs)
                    first = seen.setdefault(dataclasses.replace(self.runs[name], name=''), name)
                    if first != name:  # counted as two, they would make a deviation of zero
                        raise UserError(
                            f"runs '{first}' and '{name}' of row '{row.title}' are one experiment, seed {self.runs[name].seed}:"
                            ' what a cell averages must differ (a --config.KEY of a study sets every run)'
                        )
        roles = {role: None for row in self.table.rows for role in row.runs}
        titles = [column.title for column in self.table.columns]
        if self.table.score:
            choose('column (score of the table)', self.table.score, titles)
        for column in self.table.columns:
            if not column.of:
                choose(f"role (column '{column.title}')", column.role, roles)
            for title in column.of:
                choose(f"column (averaged by '{column.title}')", title, titles)
            if column.relative:
                choose(f"row (column '{column.title}')", column.relative, [row.title for row in self.table.rows])
        for row in self.table.rows:
            for title in row.published:
                choose(f"column (published for row '{row.title}')", title, titles)
        for claim in self.claims:
            for names, _ in claim.sides():
                for name in names:
                    choose(f"run (claim '{claim.text}')", name, self.runs)


def needs(experiment: Experiment) -> tuple[str, ...]:
    """The names of the runs that `experiment` starts from, each once."""
    references = (experiment.start, experiment.teacher, experiment.data.tokenizer)
    return tuple(dict.fromkeys(reference[1:] for reference in references if reference.startswith('@')))


def order(study: Study) -> list[str]:
    """The names of the runs, each after those it starts from, otherwise as given."""
    placed: list[str] = []

    def place(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            circle = ' → '.join((*trail[trail.index(name) :], name))
            raise UserError(f"runs of study '{study.name}' start from one another in a circle: {circle}")
        if name in placed:
            return
        for needed in needs(study.runs[name]):
            if needed not in study.runs:
                raise UserError(
                    f"run '{name}' starts from '@{needed}', which study '{study.name}' does not have"
                    f'{nearest(needed, study.runs)} (there are: {", ".join(study.runs)})'
                )
            place(needed, (*trail, name))
        placed.append(name)

    for name in study.runs:
        place(name, ())
    return placed


def with_origins(study: Study, chosen: Iterable[str]) -> list[str]:
    """The chosen runs and all that they start from, in running order."""
    wanted = set(chosen)
    names = order(study)
    for name in reversed(names):
        if name in wanted:
            wanted.update(needs(study.runs[name]))
    return [name for name in names if name in wanted]
