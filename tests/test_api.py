"""The door for notebooks: launch, load, predict; silent, and with the user's mistakes as UserError."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import pytest

from research import api
from research.experiment import Experiment
from research.wire import to_wire
from tests.interchange.conftest import model

__all__ = ['model']  # the fixture: a copy of a tiny model of transformers


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook: its working directory may lie outside the repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('rich.console._is_jupyter', lambda: True)  # rich would write past stdout there


@pytest.mark.slow
def test_the_notebook_runs_and_prints_only_its_own_words(root: Path, capfd: pytest.CaptureFixture[str], one_device: None) -> None:
    cells = json.loads((root / 'docs' / 'notebook.ipynb').read_text())['cells']
    scope: dict[str, Any] = {'__name__': 'notebook'}
    for cell in cells:
        if cell['cell_type'] == 'code':
            exec(compile(''.join(cell['source']), 'notebook.ipynb', 'exec'), scope)
    printed = capfd.readouterr()
    assert printed.err == ''
    result = scope['result']
    assert result.metrics['dev/mlm'] < result.unigram_entropy - 1, 'the model of the notebook sees the context'
    assert scope['mask'][0]['piece'] == 'clock'
    assert "did you mean 'model.layers'?" in printed.out


def test_an_experiment_a_wire_and_a_finished_folder_give_the_same_result(tiny: Callable[..., Experiment], capfd: Any) -> None:
    x = tiny('bert')
    first = api.launch(x, 'run')
    assert first.steps == 2 and first.metrics['dev/mlm'] > 0
    assert api.launch(to_wire(x), 'run') == first
    assert capfd.readouterr() == ('', '')
    assert api.launch(x, 'run', verbose=True) == first
    assert 'done' in capfd.readouterr().out


def test_a_model_is_loaded_from_a_run(teacher: Path) -> None:
    loaded = api.load(teacher)
    model, params, tokenizer = loaded
    assert model.architecture == loaded.experiment.model and tokenizer is not None
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params))


def test_one_input_gives_one_prediction_and_several_a_list(teacher: Path) -> None:
    loaded = api.load(teacher)
    one = api.predict(loaded, 'The old [MASK].', kind='fill-mask')
    several = api.predict(teacher, ['The old [MASK].', {'text': 'A [MASK] [MASK].'}], kind='fill-mask')
    probabilities = [[found['probability'] for found in each['masks'][0]] for each in (one, several[0])]
    assert probabilities[0] == pytest.approx(probabilities[1], rel=1e-5) and len(several[1]['masks']) == 2
    assert api.predict(loaded, [], kind='fill-mask') == []


def test_no_answer_is_predicted_where_it_leads_by_enough(model: Callable) -> None:
    loaded, asked = api.load(model('BertSpan')), {'question': 'a map', 'context': 'the old king lost a map'}
    lead = api.predict(loaded, asked, kind='answer')['no_answer']
    assert api.predict(loaded, asked, kind='answer', no_answer=lead - 0.01)['answer'] == ''
    assert api.predict(loaded, asked, kind='answer', no_answer=lead + 0.01)['answer'] != ''


@pytest.mark.parametrize(
    ('mistake', 'message'),
    [
        (lambda run: api.load('nowhere'), 'nowhere'),
        (lambda run: api.launch('configs/brt.py:tiny'), 'configs/brt.py'),
        (lambda run: api.launch('configs/bert.py:tiny', changes={'model.layres': 2}), "did you mean 'model.layers'?"),
        (lambda run: api.launch('configs/bert.py:tiny', changes={'model.layers': 0}), 'model.layers=0'),
        (lambda run: api.launch('configs/bert.py:tiny', sweep=['model.layers']), 'model.layers'),
        (lambda run: api.launch(run, changes={'model.layers': 1}), 'no config file'),
        (lambda run: api.launch(cast(Any, 3)), '3 cannot be launched: give'),
        (lambda run: api.predict(run, 'A text.', kind='classify'), "kind 'classify' needs the label head"),
        (lambda run: api.predict(run, 'A text.', kind='fill'), "did you mean 'fill-mask'?"),
        (lambda run: api.predict(run, cast(Any, None), kind='embed'), 'inputs=None must be a text'),
        (lambda run: api.load(''), "source='' must be a run folder"),
        (lambda run: api.launch('configs/bert.py:tiny', changes=cast(Any, ['run.steps=1'])), 'must be a dict'),
        (lambda run: api.launch('configs/bert.py:tiny', jobs=cast(Any, '2')), "jobs='2' must be a number"),
        (lambda run: api.launch('configs/bert.py:tiny', cast(Any, 5)), 'workdir=5 must be a path'),
        (lambda run: api.launch('configs/bert.py:tiny', run / 'result.json' / 'x'), 'cannot be used'),
        (lambda run: api.launch('configs/bert.py:tiny', sweep='seeed=1,2'), "no config key 'seeed'"),
        (lambda run: api.predict(run, {'question': 'Who?'}, kind='fill-mask'), 'input 1'),
        (lambda run: api.predict(run, cast(Any, [1]), kind='fill-mask'), 'input 1'),
    ],
)
def test_a_mistake_raises_an_error_that_says_what_is_possible(teacher: Path, mistake: Callable[[Path], Any], message: str) -> None:
    with pytest.raises(api.UserError, match=re.escape(message)):
        mistake(teacher)
    assert not Path('runs').exists()
