"""Comparisons: all bits, a tolerance with its reasons, and what differs by its name."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from research.runs.comparing import SHOWN, Comparison, Difference, compare_environments
from research.runs.environment import describe_environment

FOLDER = Path('run')


def conclude(comparison: Comparison, reasons: tuple[str, ...] = ()) -> tuple[bool, list[str]]:
    said: list[str] = []
    return comparison.conclude(FOLDER, reasons, said.append), said


@pytest.mark.parametrize(
    ('stored', 'found', 'differing'),
    [
        ({'a': 1.0, 'b': [1, 'x', None]}, {'a': 1.0, 'b': (1, 'x', None)}, []),
        ({'a': 1.0}, {'a': 1.0000000000000002}, ['n.a']),
        ({'a': {'b': 1}}, {'a': {'c': 1}}, ['n.a.b', 'n.a.c']),
        ([1, 2], [1], ['n']),
        ([1, [2, 3]], [1, [2, 4]], ['n.1.1']),
        ('x', 'y', ['n']),
        (float('nan'), float('nan'), []),
        (None, 0.0, ['n']),
    ],
)
def test_what_differs_is_named(stored: Any, found: Any, differing: list[str]) -> None:
    comparison = Comparison(0.0)
    comparison.add('n', stored, found)
    assert [each.name for each in comparison.differences] == differing
    equal, said = conclude(comparison)
    assert equal == (not differing) and said[-1].startswith('run: different: ' if differing else 'run: equal: ')


def test_a_tolerance_is_for_numbers_alone_and_says_why() -> None:
    comparison = Comparison(1e-3)
    for stored, found in ((1.0, 1.0009), (-1000.0, -1000.9), (0.0, 1e-4), (2, 2)):
        comparison.add('near', stored, found)
    assert conclude(comparison, ('the processor', 'the code')) == (
        True,
        ['run: equal: 4 values, 3 of them not in all bits but within 0.001; here differ the processor, the code'],
    )
    for stored, found in ((1.0, 1.0011), (True, False), ('1.0', '1.0001'), (1.0, None), (1.0, float('nan'))):
        comparison.add('far', stored, found)
    equal, said = conclude(comparison, ('the processor',))
    assert not equal and said[-1] == 'run: different: 5 of 9 values by more than 0.001; here differ the processor'
    assert said[0] == 'far: stored 1.0, found 1.0011' and str(Difference('a', None, 'b')) == "a: stored nothing, found 'b'"


def test_only_so_many_differences_are_listed() -> None:
    comparison = Comparison(0.0)
    comparison.add('n', list(range(50)), list(range(1, 51)))
    _, said = conclude(comparison)
    assert len(said) == SHOWN + 2 and said[-2] == '… and 30 more'


def test_the_reasons_are_what_decides_the_last_bits() -> None:
    here = describe_environment({})
    assert compare_environments([here, here], here) == ()
    assert compare_environments([dataclasses.replace(here, commit='other', command=('a',), uncommitted_changes=None)], here) == ()
    old = dataclasses.replace(here, code='', processor='', instructions=(), variables={}, jax={})
    assert 'the processor (not recorded)' in compare_environments([old], here)
    versions = {'jax': '0.1', 'gone': '1', **{name: each for name, each in here.versions.items() if name != 'jax'}}
    later = dataclasses.replace(here, versions=versions, cores=here.cores + 1)
    found = compare_environments([here, later], here)
    assert found == (f'versions (jax 0.1 -> {here.versions["jax"]})', 'the number of cores')
