"""A flag that the installed XLA does not know is left out, and only that; the answer is asked for once."""

import os

import pytest

from tests import xla

NONSENSE = '--xla_no_such_flag=1'


def never(flags: object) -> str:
    raise AssertionError(f'XLA was asked about {flags}')


@pytest.mark.parametrize(
    ('said', 'left'),
    [
        ('', ('--a=1', '--b=2', '--c')),
        ('Killed: Unknown cause', ('--a=1', '--b=2', '--c')),
        ('F1127 4957 parse_flags_from_env.cc:234] Unknown flag in XLA_FLAGS: --a=1', ('--b=2', '--c')),
        ('a word before\nF1127 4957] Unknown flags in XLA_FLAGS: --c --a=1\na word after --b=2', ('--b=2',)),
    ],
)
def test_what_xla_calls_unknown_is_left_out(said: str, left: tuple[str, ...]) -> None:
    assert xla.known(('--a=1', '--b=2', '--c'), said) == left


def test_the_installed_xla_names_what_it_does_not_know() -> None:
    flags = (xla.FAST[-1], NONSENSE, '--xla_nor_this')
    assert xla.known(flags, xla.probe(flags)) == flags[:1]


def test_a_flag_that_xla_does_not_know_is_left_out_of_the_tests_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xla, 'FAST', (NONSENSE, xla.FAST[-1]))
    assert xla.flags({}) == xla.FAST[-1]
    assert xla.flags({'XLA_FLAGS': f'{xla.FAST[1]} '}) == f'{xla.FAST[1]} {xla.FAST[-1]}'


def test_a_flag_of_the_environment_that_xla_does_not_know_is_an_error_that_names_it() -> None:
    with pytest.raises(RuntimeError, match=f'Unknown flag in XLA_FLAGS: {NONSENSE}'):
        xla.flags({'XLA_FLAGS': NONSENSE})


def test_a_flag_that_xla_cannot_read_is_no_unknown_one() -> None:
    with pytest.raises(RuntimeError, match="Couldn't interpret value perhaps"):
        xla.flags({'XLA_FLAGS': '--xla_llvm_disable_expensive_passes=perhaps'})


def test_xla_is_asked_once_where_it_knows_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(xla, 'probe', lambda flags: asked.append(flags) or '')
    assert xla.flags({}) == ' '.join(xla.FAST)
    assert asked == [list(xla.FAST)]


def test_workers_are_handed_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xla, 'probe', never)
    assert xla.flags({xla.HANDED: '--handed', 'XLA_FLAGS': '--other'}) == '--handed'


def test_these_tests_run_with_every_flag_that_the_installed_xla_knows() -> None:
    given = os.environ['XLA_FLAGS'].split()
    assert os.environ[xla.HANDED] == os.environ['XLA_FLAGS']
    assert [flag for flag in xla.FAST if flag in given] == [flag for flag in xla.FAST if not xla.probe((flag,))]
