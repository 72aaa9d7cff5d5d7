"""Out of memory: XLA's error becomes one line that says what would fit."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jax.errors import JaxRuntimeError

from research import chips, predictions
from research.errors import UserError
from research.experiment import Experiment
from research.models.heads import HEADS, Sizes
from research.predict import batching
from research.predict.kinds import read_input
from research.runs import exhaustion, sources, training
from research.runs import run as runs
from research.wire import override

SAID = 'RESOURCE_EXHAUSTED: Out of memory allocating 14400000000 bytes.'  # of a CPU; a GPU adds lines on its allocator
Tiny = Callable[..., Experiment]


def run_out(*_: Any) -> Any:
    raise JaxRuntimeError(SAID)


def explain(x: Experiment, memory: float, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(chips, 'read_memory', lambda: memory)
    heads = tuple((name, HEADS[name].classes(Sizes(x.model, lambda: 2))) for name in ('mlm', 'pair'))
    with pytest.raises(UserError) as found, exhaustion.explaining_exhaustion(x, heads, None, 2):
        run_out()
    return str(found.value)


def test_a_run_out_of_memory_says_what_would_fit(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    x = override(tiny('bert'), {'run.batch': 4096})
    said = explain(x, 3e7, monkeypatch)
    assert said.startswith('out of memory: a step with run.batch=4096 of 32 pieces, run.accumulate=1 on 2 device(s) takes about ')
    assert 'and each has 0.03 GB; give --config.run.batch=' in said and ', the largest that would fit, or --config.run.acc' in said
    found = {key: int(value) for key, value in re.findall(r'--config\.(run\.\w+)=(\d+)', said)}
    assert 0 < found['run.batch'] < 4096
    # What it says is so: each remedy alone fits, and no larger batch or smaller number of parts does.
    for changes, fits in (
        ({'run.batch': found['run.batch']}, True),
        ({'run.batch': found['run.batch'] + 2}, False),
        ({'run.accumulate': found['run.accumulate']}, True),
        ({'run.accumulate': found['run.accumulate'] // 2}, False),
    ):
        work = predictions.compile_for_cpu(predictions.plan_work(override(x, changes), (), None)[0][1])
        assert (sum(predictions.predict_memory(work, 2).values()) <= predictions.ROOM * 3e7) == fits, changes


def test_a_model_that_never_fits_is_said_to_be_too_large(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    said = explain(tiny('bert'), 1e5, monkeypatch)
    assert 'give a smaller model or data.length, or model.remat: one row is too much beside ' in said


def test_a_run_that_fits_by_prediction_shows_what_xla_said(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    said = explain(tiny('bert'), 1e12, monkeypatch)
    assert said.endswith(f'or a larger --config.run.accumulate: by prediction it fits ({SAID})')


def test_other_errors_of_xla_pass(tiny: Tiny) -> None:
    with pytest.raises(JaxRuntimeError, match='INTERNAL'), exhaustion.explaining_exhaustion(tiny('bert'), (), None, 1):
        raise JaxRuntimeError('INTERNAL: a bug')


@pytest.mark.parametrize('part', ['step', 'evaluation'])
def test_a_run_explains_itself(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    if part == 'step':
        monkeypatch.setattr(training, 'compile_step', lambda bench: (run_out, {}))
    else:
        monkeypatch.setattr(runs, 'finish', run_out)
        monkeypatch.setattr(runs, 'fit', lambda parts, state, first: (state, {}))
    with pytest.raises(UserError, match=r'out of memory: a step with run\.batch='):
        runs.run(tiny('bert'), tmp_path / 'run')


def test_predictions_out_of_memory_say_what_was_read(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    donor, x = sources.open_model(str(teacher), Path.cwd() / 'run', 'MODEL')
    kind = batching.require(donor, 'embed')
    inputs = [read_input({'text': 'a'}, 'input 1', kind)]
    monkeypatch.setattr(batching, '_compile', lambda *_: run_out)
    with pytest.raises(UserError, match=r'out of memory: .* reads 1 × 16 pieces at once, .*RESOURCE_EXHAUSTED'):
        list(batching.predict(donor, kind, x.data, inputs))

    def broken(*_: Any) -> Any:
        raise JaxRuntimeError('INTERNAL: a bug')

    monkeypatch.setattr(batching, '_compile', lambda *_: broken)
    with pytest.raises(JaxRuntimeError, match='INTERNAL'):
        list(batching.predict(donor, kind, x.data, inputs))


# A process may take so much; its step needs more.
CHILD = """
import resource, sys
import launch
resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30,) * 2)
sys.exit(launch.main(['launch.py', *sys.argv[1:]]))
"""


@pytest.mark.slow
def test_a_process_that_really_runs_out_says_what_would_fit(root: Path, tmp_path: Path) -> None:
    words = ('river', 'stone', 'house', 'light', 'green', 'water', 'wind', 'paper', 'music', 'story', 'table', 'chair')
    lines = [' '.join(words[i % 5 : i % 5 + 7]) + '.' for i in range(12)]
    text = '\n\n'.join('\n'.join(lines) for _ in range(200))
    (tmp_path / 'text.txt').write_text(text)
    asked = ('--config=configs/bert.py:tiny', f'--workdir={tmp_path}/run', '--config.run.steps=1', '--config.run.batch=8192')
    small = (
        '--config.data.held_out=0',
        '--config.data.length=128',
        '--config.model.layers=1',
        '--config.model.vocabulary=300',
        '--config.optimizer.warmup=0',
    )
    data = (f'--config.data.source=text:{tmp_path}/text.txt', f'--config.machine.cache={tmp_path}/cache')
    command = [sys.executable, '-c', CHILD, *asked, *small, *data]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2, done.stderr
    assert last.startswith('error: out of memory: a step with run.batch=8192 of 128 pieces')
    assert 'each has 4.29 GB' in last and '--config.run.batch=' in last and 'Traceback' not in done.stderr
