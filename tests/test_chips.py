"""Chips: the table of data sheets, and this machine's own row, which is measured."""

import resource

import pytest

from research import chips, parallel
from research.errors import UserError


def test_the_rows_are_possible_chips() -> None:
    assert set(chips.CHIPS) == {'a100', 'h100', 'h200', 'v5e', 'v5p', 'v6e'}
    for chip in chips.CHIPS.values():
        assert 1e14 < chip.float32 <= chip.bfloat16 < 2e15
        assert 16e9 <= chip.memory < 2e11 and 8e11 <= chip.bandwidth < 5e12
        assert chip.network < chip.link < chip.bandwidth and chip.linked >= 8
        assert 0 < chip.reach < 1 and not chip.is_cpu


def test_chips_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(chips.find_chips('h100,v5e')) == ['h100', 'v5e']
    assert chips.find_chips('all') == chips.CHIPS
    monkeypatch.setattr(chips, 'measure_chip', lambda: chips.CHIPS['a100'])
    assert chips.find_chips('here') == {'here': chips.CHIPS['a100']}
    with pytest.raises(UserError, match=r"no chip \(--chip\) named 'h10'; did you mean 'h100'\?"):
        chips.find_chips('v5e,h10')


def test_this_machine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chips, 'measure_speed', lambda *given: 2e11 if given else 1e11)
    monkeypatch.setattr(chips, 'measure_bandwidth', lambda: 1e10)
    found = chips.measure_chip()
    assert (found.bfloat16, found.float32, found.bandwidth) == (2e11, 1e11, 1e10)
    assert found.memory == chips.read_memory() > 1e9 and found.is_cpu


def test_speeds_are_plausible() -> None:
    assert 1e8 < chips.measure_speed(side=256) < 1e16
    assert 1e8 < chips.measure_bandwidth() < 1e14


def test_the_memory_is_the_devices_or_what_the_process_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, 'getrlimit', lambda _: (10**9, 10**9))
    assert chips.read_memory() == 1e9
    monkeypatch.setattr(parallel, 'read_memory_limit', lambda: 8e10)
    assert chips.read_memory() == 8e10
