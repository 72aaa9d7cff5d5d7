"""A column that shows the difference from a row, seed by seed."""

import dataclasses
from pathlib import Path

import pytest

from research.errors import UserError
from research.study.columns import COLUMNS, Column
from research.study.reporting.cells import gather, read_row_cell
from research.study.seeds import repeat
from research.study.study import Study


def test_a_change_is_the_difference_from_a_row_of_the_same_seed(study: Study, finish, tmp_path: Path) -> None:
    twice = repeat(study, 2)
    for name, loss in {'teacher': 3.0, 'student': 3.5, 'teacher-s1': 4.0, 'student-s1': 4.25}.items():
        finish(tmp_path, twice, name, loss)
    change = dataclasses.replace(COLUMNS['mlm'], title='Change', relative='Teacher', change=True)
    evidence = gather(twice, tmp_path)
    assert read_row_cell(twice, twice.table.rows[1], change, evidence).values == (0.5, 0.25)
    assert read_row_cell(twice, twice.table.rows[0], change, evidence).values == (0.0, 0.0)
    ratio = dataclasses.replace(change, change=False)
    assert read_row_cell(twice, twice.table.rows[1], ratio, evidence).values == (1.0, 4.25 / 3.5)


def test_a_change_names_its_row() -> None:
    with pytest.raises(UserError, match=r"column 'Change' is a change \(change=True\): name the row that it is measured from"):
        Column('Change', 'task', 'score', change=True)
