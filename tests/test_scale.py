"""docs/scale.md: its tables are what benchmarks/scale.py prints, and its published check holds."""

from pathlib import Path

import pytest

from benchmarks import scale
from configs import bert
from research.chips import CHIPS
from research.objectives.losses import Losses, Mlm, Plain
from research.optim import Optimizer
from research.predictions import predict_step

# NVIDIA DeepLearningExamples, TensorFlow2 BERT 21.02, one A100-80GB: (batch, length, dtype) -> sequences a second.
PUBLISHED = {
    (312, 128, 'bfloat16'): 485.59,
    (40, 512, 'bfloat16'): 96.52,
    (312, 128, 'float32'): 282.98,
    (40, 512, 'float32'): 54.92,
}


def predict_published() -> dict[tuple[int, int, str], float]:
    """The predicted sequences a second of PUBLISHED."""
    large, losses, optimizer = bert.architecture('large'), Losses(mlm=Mlm(1.0), nsp=Plain(1.0)), Optimizer(name='lamb')
    masked = {128: 20, 512: 80}
    return {
        key: key[0] / predict_step(large, None, losses, key[0], key[1], masked[key[1]], optimizer, key[2], 'a100').seconds
        for key in PUBLISHED
    }


def test_predictions_have_the_size_of_published_speeds(root: Path) -> None:
    found = predict_published()
    assert found == pytest.approx(PUBLISHED, rel=0.25)
    cells = ' | '.join(f'{value:.3g}' for value in found.values())
    assert f'| predicted for this code | {cells} |' in (root / 'docs' / 'scale.md').read_text()


@pytest.mark.slow
def test_the_page_shows_what_the_command_prints(root: Path) -> None:
    page = (root / 'docs' / 'scale.md').read_text()
    assert scale.make_times() in page and scale.make_memory() in page


def test_a_recipe_is_planned_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = scale.list_recipes()
    assert {name: x.run.steps for name, (x, _) in recipes.items()}['BERT-base'] == 1_000_000
    x, teacher = recipes['BERT-base']
    assert scale.show_time(x, teacher, CHIPS['h100'], 512) == '–'
    planned = scale.plan(x, teacher, CHIPS['v5e'], 1)
    assert [(share, work.length, work.batch) for share, work in planned] == [(0.9, 128, 256), (pytest.approx(0.1), 512, 256)]
    assert planned[0][1].accumulate < planned[1][1].accumulate
    assert not scale.plan(x, teacher, CHIPS['v5e']._replace(memory=1e9), 1)
