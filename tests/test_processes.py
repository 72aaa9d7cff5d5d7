"""Several processes of one run: the first goes before the others."""

import jax
import pytest

from research import processes


@pytest.mark.parametrize('first', [True, False])
def test_processes_that_wait_for_the_first_go_on_if_it_raises(monkeypatch: pytest.MonkeyPatch, first: bool) -> None:
    reached = []
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    monkeypatch.setattr(processes, 'is_chief', lambda: first)
    monkeypatch.setattr(processes.multihost_utils, 'sync_global_devices', reached.append)
    with pytest.raises(ValueError), processes.chief_first():
        raise ValueError
    assert len(reached) == 1
