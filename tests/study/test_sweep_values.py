"""Sweeps over paths and tuples: where a value ends, and what its run is called."""

import types
from collections.abc import Callable

import pytest

from research.errors import UserError
from research.experiment import Experiment
from research.files import LONGEST
from research.study.execution.execute import select
from research.study.sweep import name_point, split_values, sweep

NONE = types.ModuleType('none')


@pytest.mark.parametrize(
    ('text', 'values'),
    [
        ('1,2,3', ['1', '2', '3']),
        ('1,,2,', ['1', '2']),
        ('"text:/a,b/c=d e.txt",jsonl:x', ['text:/a,b/c=d e.txt', 'jsonl:x']),
        ("'a,b','c'", ['a,b', 'c']),
        ('"",@teacher', ['', '@teacher']),
        ('(wikitext),(wikitext,ascii_punctuation),()', ['(wikitext)', '(wikitext,ascii_punctuation)', '()']),
        ('((0,0),(1,1)),[[0,1],[1,0]]', ['((0,0),(1,1))', '[[0,1],[1,0]]']),
        ('text:/a(1).txt,(open', ['text:/a(1).txt', '(open']),
        ('"open,a', ['"open', 'a']),
        ('(a)b,c', ['(a)b', 'c']),
        ('', []),
    ],
)
def test_a_value_in_quotes_or_brackets_reaches_to_its_partner(text: str, values: list[str]) -> None:
    assert split_values(text) == values


def test_a_sweep_over_paths_and_tuples_has_their_values(experiment: Callable[..., Experiment]) -> None:
    paths = 'data.source="text:/a,b/x=1 y.txt","text:/a_b/x.txt","text:/a/b/x.txt","text:/[1] + 2.txt"'
    found = sweep(experiment('x'), [paths], NONE)
    sources = [x.data.source for x in found.runs.values()]
    assert sources == ['text:/a,b/x=1 y.txt', 'text:/a_b/x.txt', 'text:/a/b/x.txt', 'text:/[1] + 2.txt']
    assert list(found.runs)[1] == 'source=text:_a_b_x.txt' and list(found.runs)[2].startswith('source=text:_a_b_x.txt~')
    assert [row.title for row in found.table.rows] == list(found.runs)
    for name in found.runs:
        assert select(found, name) == [name], 'a name is a glob of itself, also with brackets'
    tuples = sweep(experiment('x'), ['data.cleaners=(),(wikitext),(wikitext,ascii_punctuation)'], NONE)
    assert [x.data.cleaners for x in tuples.runs.values()] == [(), ('wikitext',), ('wikitext', 'ascii_punctuation')]


def test_texts_of_a_tuple_may_hold_commas_where_they_are_quoted(experiment: Callable[..., Experiment]) -> None:
    found = sweep(experiment('x'), ["optimizer.frozen=('embeddings',),(embeddings,pooler)"], NONE)
    assert [x.optimizer.frozen for x in found.runs.values()] == [('embeddings',), ('embeddings', 'pooler')]


def test_two_runs_of_one_experiment_are_refused(experiment: Callable[..., Experiment]) -> None:
    with pytest.raises(UserError, match="the sweep has two runs 'layers=2': its axes set the same keys"):
        sweep(experiment('x'), ['model.layers=2,2'], NONE)
    with pytest.raises(UserError, match="--sweep='model.layers=' has no values: give such as --sweep='model.layers=1,2,3'"):
        sweep(experiment('x'), ['model.layers='], NONE)


def test_the_name_of_a_run_is_the_name_of_a_folder() -> None:
    assert name_point({'model.layers': 2, 'seed': 1}) == 'layers=2,seed=1'
    assert name_point({'data.source': 'text:/a\n\x1b[b'}) == 'source=text:_a_x0a_x1b[b'
    long = [name_point({'data.source': f'text:/{middle}'}) for middle in ('ä' * 300 + 'b' + 'ä' * 300, 'ä' * 601)]
    assert all(len(name.encode()) <= LONGEST for name in long) and long[0] != long[1]
