"""A study as a value: named runs that may start from one another, and the table and claims they are run for."""

import dataclasses
import re
from collections.abc import Mapping

from research.errors import UserError, choose
from research.experiment import Experiment
from research.study.columns import COLUMNS, Column

# What lies in a study folder beside one folder a run.
FILES = ('study.json', 'report.md', 'report.html', 'table.tex', 'table.csv', 'figures')


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
