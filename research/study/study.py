"""A study as a value: named runs that may start from one another, and the table and claims that they are run for."""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Mapping, Sequence

from research.data import tasks
from research.errors import UserError, choose
from research.experiment import Experiment
from research.files import validate_name
from research.machine import Machine
from research.study.columns import COLUMNS, Column, validate_key
from research.study.graph import siblings, validate_run_name
from research.study.keys import refuse_missing
from research.study.units import refuse_disjoint_seeds

# How a cell's seeds become one number.
STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {'mean': statistics.fmean, 'median': statistics.median}
TESTS = ('bootstrap', 'mcnemar')


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a paper got the numbers of a row; a measured number has a difference from them only if it was got alike.

    What is 0, '' or () asks nothing.
    """

    layers: int = 0  # of the pretrained model
    width: int = 0
    pieces: float = 0.0  # read in pretraining: steps × batch × length; ours must be within 5 %
    data: tuple[str, ...] = ()  # words that our data.source must contain, in any case
    statistic: str = ''  # row of STATISTICS, which a caption names beside ours


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table: the runs in each role; several runs in a role are seeds of one experiment.

    `published`: column title -> the number that a paper prints for the row, in the column's unit. `facts`: title -> text, columns
    of words in front of the numbers. `setting`: how the published numbers came about; None if that is not stated, and then no
    difference from them is shown.
    """

    title: str
    runs: Mapping[str, tuple[str, ...]]
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    setting: Setting | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """The table of a study. Figures draw the column titled `score` ('' = none) against the cost and the shape of each row.

    `source` names the paper and the table of the rows' published numbers. `statistic` (of STATISTICS) makes a cell of its seeds.
    """

    title: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...] = tuple(COLUMNS.values())
    score: str = ''
    source: str = ''
    statistic: str = 'mean'


Quantity = tuple[str | tuple[str, ...], str]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence that is true if `left` is below `right`: each a run, or the seeds of one experiment, and a key as a Column's.

    '{a}' and '{b}' in the text become the titles of the rows of `left` and `right`, or the runs' names without a row. `test`
    compares them: 'bootstrap' over seeds and documents or examples, 'mcnemar' over the examples of a task.
    """

    text: str
    left: Quantity
    right: Quantity
    test: str = 'bootstrap'

    def __post_init__(self) -> None:
        choose(f"test of claim '{self.text}'", self.test, TESTS)
        for _, key in self.sides():
            validate_key(key, f"claim '{self.text}'")

    def sides(self) -> tuple[tuple[tuple[str, ...], str], ...]:
        """(runs, key) of `left` and of `right`, a single run as a tuple of one."""
        return tuple(((runs,) if isinstance(runs, str) else runs, key) for runs, key in (self.left, self.right))


@dataclasses.dataclass(frozen=True)
class Study:
    """Runs by name, and the table and claims that are read from their results.

    '@NAME' in the start, the teacher or the tokenizer of an experiment names another run of the study.
    """

    name: str
    runs: Mapping[str, Experiment]
    table: Table
    note: str = ''
    claims: tuple[Claim, ...] = ()

    def __post_init__(self) -> None:
        validate_name('name of the study', self.name)
        for name in self.runs:
            validate_run_name(name)
        for row in self.table.rows:
            for role, names in row.runs.items():
                for name in names:
                    choose(f"run (role '{role}' of row '{row.title}')", name, self.runs)
                refuse_twins(row.title, names, self.runs)
        validate_table(self.table)
        for column in self.table.columns:
            for row in self.table.rows:
                for name in row.runs[column.role] if column.role in row.runs else ():
                    refuse_missing(column.key, f"column '{column.title}'", name, self.runs[name].data.task)
        for claim in self.claims:
            self._validate_claim(claim)

    def _validate_claim(self, claim: Claim) -> None:
        """Raises UserError for runs that the study does not have, or that share no seed, and for numbers that no run can have."""
        holder = f"claim '{claim.text}'"
        for names, key in claim.sides():
            for name in names:
                choose(f'run ({holder})', name, self.runs)
                refuse_missing(key, holder, name, self.runs[name].data.task)
                if claim.test == 'mcnemar':
                    refuse_uncounted(key, holder, name, self.runs[name])
        refuse_disjoint_seeds(holder, [names for names, _ in claim.sides()], self.runs)

    @functools.cached_property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """Run -> the runs of the study that it starts from, distils from or has its tokenizer from."""
        return {name: siblings(x.start, x.teacher, x.data.tokenizer) for name, x in self.runs.items()}


def refuse_twins(row: str, names: tuple[str, ...], runs: Mapping[str, Experiment]) -> None:
    """Raises UserError if two runs of a cell are one experiment: counted as two seeds, they would make a deviation of zero."""
    seen: dict[tuple[Experiment, Machine], str] = {}
    for name in names:
        first = seen.setdefault((dataclasses.replace(runs[name], name=''), runs[name].machine), name)
        if first != name:
            raise UserError(
                f"runs '{first}' and '{name}' of row '{row}' are one experiment, seed {runs[name].seed}:"
                ' the runs that a cell averages must differ (a --config.KEY of a study sets every run)'
            )


def refuse_uncounted(key: str, holder: str, name: str, x: Experiment) -> None:
    """Raises UserError if `key` of a run is no share of right answers, which McNemar's test counts."""
    row = tasks.task(x.data) if x.data.task else None
    metrics = () if row is None or row.kind == 'score' else ('exact',) if row.kind == 'span' else ('accuracy',)
    whole = row is not None and row.metrics == ('accuracy',) and row.kind != 'span'  # then the score is the share
    if key.rpartition('/')[2] not in metrics and not (key == 'score' and whole):
        raise UserError(
            f"{holder}: McNemar's test counts right answers, and '{key}' of run '{name}' is no share of them:"
            " use 'metrics:SPLIT/accuracy' (of SQuAD 'metrics:SPLIT/exact'), or test='bootstrap'"
        )


def validate_table(table: Table) -> None:
    """Raises UserError for a title, a role or a row that the table names and does not have, and for a mean of a mean."""
    choose(f"statistic of table '{table.title}'", table.statistic, STATISTICS)
    roles = {role: None for row in table.rows for role in row.runs}
    titles = [column.title for column in table.columns]
    if table.score:
        choose('column (score of the table)', table.score, titles)
    for column in table.columns:
        if not column.of:
            choose(f"role (column '{column.title}')", column.role, roles)
        for title in column.of:
            choose(f"column (averaged by '{column.title}')", title, titles)
            if any(each.of for each in table.columns if each.title == title):
                raise UserError(
                    f"column '{column.title}' is the mean of '{title}', which is a mean itself: name those of its columns"
                )
        if column.relative:
            choose(f"row (column '{column.title}')", column.relative, [row.title for row in table.rows])
    for row in table.rows:
        for title in row.published:
            choose(f"column (published for row '{row.title}')", title, titles)
