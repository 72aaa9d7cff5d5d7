"""The learning-rate range test: what it suggests of a curve, and how that compares with constant rates."""

import json
import math
from pathlib import Path

import pytest

from experiments import learning_rate_range
from experiments.learning_rate_range import RATES, compare, suggest
from research.errors import UserError


def write_curve(folder: Path, lowest: float, steps: int = 60) -> None:
    """The metrics of a run whose rate rises to 0.01 and whose loss is lowest at the rate `lowest`."""
    rates = [0.01 * (step + 1) / steps for step in range(steps)]
    losses = [5 + math.log(rate / lowest) ** 2 for rate in rates]
    lines = [
        {'step': i + 1, 'train/learning_rate': rate, 'train/loss': loss}
        for i, (rate, loss) in enumerate(zip(rates, losses, strict=True))
    ]
    (folder / 'range').mkdir()
    (folder / 'range' / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))


def test_half_of_the_lowest_is_suggested(tmp_path: Path) -> None:
    write_curve(tmp_path, 0.004)
    rate, lowest = suggest(tmp_path)
    assert lowest == pytest.approx(0.004, abs=0.0005) and rate == lowest / 2
    assert compare(tmp_path) == f'the training loss is lowest at the rate {lowest:.2g}: suggested rate {rate:.2g}'


@pytest.mark.parametrize(('best', 'verdict'), [('3e-3', 'the hypothesis holds'), ('1e-4', 'refuted')])
def test_the_suggestion_is_compared_with_the_best_constant_rate(
    best: str, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Result:
        def __init__(self, title: str) -> None:
            self.metrics = {'dev/mlm': 5.0 if title == best else 6.0}

    write_curve(tmp_path, 0.004)
    monkeypatch.setattr(learning_rate_range, 'read_result', lambda folder: Result(folder.name.removeprefix('rate-')))
    assert best in RATES and compare(tmp_path).endswith(verdict)
    assert f'the best constant rate is {best} (held-out MLM loss 5.000)' in compare(tmp_path)


def test_a_study_that_has_not_run_is_one_line(tmp_path: Path) -> None:
    write_curve(tmp_path, 0.004, steps=3)
    with pytest.raises(UserError, match='has too few steps: run the study first'):
        suggest(tmp_path)
