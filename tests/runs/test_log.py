"""The log of a run: what its progress line shows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from research.experiment import Experiment
from research.runs import run as runs
from research.runs.log import Log


def test_a_loss_is_shown_by_its_whole_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(tmp_path, steps=10, first=0, began=0.0)
    log.progress(4, {'loss': 3.0, 'hidden_states': 1.25, 'mlm': 1.75}, 1234.5)
    log.close()
    assert 'step 4/10 loss 3.0000 hidden_states 1.2500 mlm 1.7500 · 1,234 tokens/s' in capsys.readouterr().out


def test_the_progress_line_has_every_active_loss_and_no_other_number(
    tiny: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[dict[str, float]] = []
    monkeypatch.setattr(Log, 'progress', lambda self, step, losses, speed: shown.append(dict(losses)))
    runs.run(tiny('bert'), tmp_path / 'run')
    assert [list(losses) for losses in shown] == [['loss', 'mlm', 'nsp']] * 2
