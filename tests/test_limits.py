"""Values that no machine can hold are refused at once, before anything counts to them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from research.errors import UserError
from research.experiment import Experiment
from research.models import architecture, sharing
from research.models.architecture import LARGEST, Architecture
from research.runs.definition import read_definition
from research.study.graph import order, with_starts
from research.validation import validate
from research.wire import from_stored, override


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('model.width', '1000000007', 'model.width=1000000007 must be at most 134,217,728'),
        ('model.width', '134217689', 'is not a multiple of model.heads=12; --config.model.heads=1 would fit'),
        ('model.layers', '1000000000', 'model.layers=1000000000 must be at most 10,000'),
        ('model.heads', '1000000007', 'model.heads=1000000007 must be at most'),
        ('run.steps', '9' * 401, r'run.steps must be below 2\*\*63'),
        ('optimizer.lr', '9' * 401, 'optimizer.lr=inf must be finite'),
        ('optimizer.lr', 10**400, r'optimizer.lr must be below 2\*\*63; it has 333 hexadecimal digits'),
        ('model.table', '(' * 19_999, 'is no tuple, such as 0,2,4'),
        ('model.table', '-' * 19_999, 'is no tuple, such as 0,2,4'),
        ('model.table', '1,' * 25_000, 'model.table has 50,000 characters: at most 20,000 are read'),
        ('data.cleaners', '(' * 19_999 + 'a', 'no data.cleaners named'),
        ('data.source', 'a' * 20_001, 'data.source has 20,001 characters: at most 20,000 are read'),
        ('data.source', 'text:a\0b', 'holds a byte 0, or bytes that are not UTF-8: rename the file'),
        ('data.source', 'text:caf\udce9', 'holds a byte 0, or bytes that are not UTF-8: rename the file'),
        ('data.source', Path('caf\udce9'), 'holds a byte 0, or bytes that are not UTF-8: rename the file'),
    ],
)
def test_a_value_beyond_all_machines_is_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        validate(override(Experiment(), {key: value}))
    assert len(str(caught.value)) < 1000 or key == 'data.cleaners'


@pytest.mark.parametrize('field', LARGEST)
def test_every_size_has_a_largest_value(field: str) -> None:
    a = dataclasses.replace(Architecture(), **{field: LARGEST[field] + 1})
    for refuse in (architecture.validate, sharing.layout):
        with pytest.raises(UserError, match=f'model.{field}={LARGEST[field] + 1} must be at most {LARGEST[field]:,}'):
            refuse(a)


def test_the_nearest_number_of_heads_is_named() -> None:
    for width, heads, near in ((768, 11, 12), (768, 5, 4), (100, 30, 25), (7, 3, 1), (8, 100, 8)):
        with pytest.raises(UserError, match=f'model.heads={near} would fit'):
            architecture.validate(dataclasses.replace(Architecture(), width=width, heads=heads))


def test_a_long_table_is_counted_and_not_shown() -> None:
    with pytest.raises(UserError, match=r'^model.table=\(60 pairs\) must hold one'):
        sharing.layout(Architecture(sharing='table', table=((0, 0),) * 60))


@pytest.mark.parametrize(
    'content', ['[' * 100_000, '{"seed": ' + '9' * 401 + '}', '{"a":' * 5000, '\x80', '[1]', 'null', '{"seed": null}']
)
def test_an_experiment_json_of_a_stranger_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / 'experiment.json').write_bytes(content.encode('latin-1'))
    with pytest.raises(UserError, match=r'^the label: .*experiment\.json ') as caught:
        read_definition(tmp_path, 'the label: ')
    assert len(str(caught.value)) < 1000


def test_a_wire_with_a_whole_number_that_no_float_holds_is_refused() -> None:
    with pytest.raises(UserError, match=r'optimizer.lr must be below 2\*\*63'):
        from_stored(json.loads('{"optimizer": {"lr": ' + '9' * 401 + '}}'))


def test_a_chain_of_1100_runs_is_ordered_and_a_circle_in_it_is_named() -> None:
    chain = {f'r{place}': (f'r{place - 1}',) if place else () for place in reversed(range(1100))}
    assert order(chain) == [f'r{place}' for place in range(1100)]
    assert with_starts(chain, ['r1099']) == order(chain)
    with pytest.raises(UserError, match='in a circle: r1099 → r1098'):
        order(chain | {'r0': ('r1099',)})
    with pytest.raises(UserError, match="run 'r0' starts from '@x'"):
        order(chain | {'r0': ('x',)})


def test_runs_that_each_name_two_earlier_ones_are_ordered_at_once() -> None:
    dense = {f'r{place}': tuple(f'r{near}' for near in (place - 1, place - 2) if near >= 0) for place in range(500)}
    assert order(dense) == list(dense)
