"""run.profile: a trace of a few steps that can be opened, five operations in the log, and no number of the run changed."""

import gzip
import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import pytest

import launch
from research import processes
from research.checkpoint import read_params
from research.errors import UserError
from research.experiment import Experiment
from research.runs import profiling, training
from research.runs import run as runs
from research.runs.folder import read_metrics
from research.runs.traces import measure_operations, read_sources, simplify

Tiny = Callable[..., Experiment]
TIMES = ('seconds', 'wall', 'train/tokens_per_second')


@pytest.fixture(scope='module')
def profiled(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 6 steps whose steps 2 to 4 were traced."""
    workdir, first = tmp_path_factory.mktemp('runs') / 'bert', jax.devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, 'devices', lambda: first)
        runs.run(tiny('bert', {'run.steps': 6, 'run.profile': 2}), workdir)
    return workdir


def test_the_trace_is_there_and_can_be_opened(profiled: Path) -> None:
    (folder,) = (profiled / 'profile' / 'plugins' / 'profile').iterdir()
    (path,) = folder.glob('*.xplane.pb')
    with gzip.open(folder / 'perfetto_trace.json.gz') as file:
        events = json.load(file)['traceEvents']
    assert any('hlo_op' in event['args'] for event in events if 'args' in event)
    assert ('jit_step', 'while') not in read_sources(path) and {module for module, _ in read_sources(path)} >= {'jit_step'}
    shares = measure_operations(path)
    assert sum(shares.values()) == pytest.approx(1) and list(shares.values()) == sorted(shares.values(), reverse=True)
    named = [name for name in shares if name.startswith(('encoder/', 'mlm/'))]
    assert len(named) > 10 and any('(backward)' in name for name in named)


def test_the_log_names_the_five_dearest_operations(profiled: Path) -> None:
    lines = (profiled / 'log.txt').read_text().splitlines()
    where = next(i for i, line in enumerate(lines) if line.startswith('profile of steps 2 to 4, for Perfetto and TensorBoard: '))
    shown = lines[where + 1].removeprefix('the dearest operations, with their share of the time: ')
    (path,) = profiled.rglob('*.xplane.pb')
    assert shown == ', '.join(f'{name} {share:.1%}' for name, share in list(measure_operations(path).items())[:5])
    assert len(re.findall(r'[\w/>, -]+(?: \(backward\))? \d+\.\d%', shown)) >= 1 and shown.count('%') == 5


def test_no_number_changes(profiled: Path, tiny: Tiny, tmp_path: Path, one_device: None) -> None:
    runs.run(tiny('bert', {'run.steps': 6}), tmp_path / 'bert')
    folders = (profiled, tmp_path / 'bert')
    lines = [[{key: line[key] for key in line if key not in TIMES} for line in read_metrics(each)] for each in folders]
    assert lines[0] == lines[1]
    one, two = (read_params(each / 'checkpoints', 'run')[1] for each in folders)
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert not (tmp_path / 'bert' / 'profile').exists()


def test_another_session_may_ask_for_another_step(tiny: Tiny, profiled: Path) -> None:
    assert tiny('bert', {'run.steps': 6, 'run.profile': 5}) == tiny('bert', {'run.steps': 6})
    (profiled / 'result.json').unlink()
    runs.run(tiny('bert', {'run.steps': 6, 'run.profile': 5}), profiled)  # nothing is left to train
    assert len(list(profiled.rglob('*.xplane.pb'))) == 1


def test_a_step_beyond_the_run_is_refused(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r'run\.profile=7 comes after the last step of the run, 6: give a step of it, or 0 for no'):
        runs.run(tiny('bert', {'run.steps': 6, 'run.profile': 7}), tmp_path / 'run')
    with pytest.raises(UserError, match=r'run\.profile=10000 comes after the last step of the run'):
        runs.run(tiny('bert', {'run.epochs': 1.0, 'run.profile': 10000}), tmp_path / 'run')
    assert launch.main(['launch.py', '--config=configs/bert.py:tiny', '--config.run.profile=1000001', '--dry']) == 2
    assert 'run.profile=1000001 comes after' in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


class Stub:
    """What a Profiler reads of a run's Parts."""

    def __init__(self, x: Experiment, workdir: Path) -> None:
        self.x, self.workdir, self.log, self.lines = x, workdir, self, list[str]()

    def line(self, text: str) -> None:
        self.lines.append(text)


def trace(stub: Stub, steps: int, last: int = 0, broken: int = 0) -> None:
    """Goes through so many steps, with an evaluation after step `last`; step `broken` raises."""
    compiled, state = jax.jit(lambda x: x @ x), np.ones((64, 64), np.float32)
    with profiling.Profiler(cast(Any, stub), nullcontext) as profiler:
        for step in range(1, steps + 1):
            profiler.begin(step, state)
            state = compiled(state)
            assert step != broken
            profiler.end(step, state, step == last)


def test_a_trace_ends_before_an_evaluation(tiny: Tiny, tmp_path: Path) -> None:
    stub = Stub(tiny('bert', {'run.profile': 2}), tmp_path)
    trace(stub, 5, last=3)
    assert stub.lines[0].startswith('profile of steps 2 to 3, ') and len(stub.lines) == 2


def test_an_error_ends_the_trace_and_another_can_begin(tiny: Tiny, tmp_path: Path) -> None:
    stub = Stub(tiny('bert', {'run.profile': 2}), tmp_path)
    with pytest.raises(AssertionError):
        trace(stub, 5, broken=3)
    assert not stub.lines
    trace(stub, 5)
    assert stub.lines[0].startswith('profile of steps 2 to 4, ')


def test_only_the_first_process_traces(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, 'is_chief', lambda: False)
    stub = Stub(tiny('bert', {'run.profile': 2}), tmp_path)
    trace(stub, 5)
    assert not stub.lines and not (tmp_path / 'profile').exists()


@pytest.mark.parametrize(
    ('name', 'simple'),
    [
        ('jit(step)/transpose(jvp(Model))/encoder/while/body/closed_call/attention/exp', 'encoder/attention/exp (backward)'),
        ('jit(step)/jvp(Model)/encoder/while/body/eval_jaxpr/feed_forward/add', 'encoder/feed_forward/add'),  # jax 0.12
        ('jit(step)/jvp(Model)/encoder/btd,dnk->bntk/dot_general', 'encoder/btd,dnk->bntk'),
        ('jit(step)/jvp(Model)/encoder/encoder.embed/jit(_where)/select_n', 'encoder/embed/where/select_n'),
        ('jit(step)/jvp(Model.logits)/mlm/integer_pow', 'mlm/integer_pow'),
        ('jit(step)/jvp()/exp', 'losses/exp'),
        ('jit(step)/sqrt', 'sqrt'),
        ('jit(step)', ''),
        ('', ''),
    ],
)
def test_a_place_in_the_program_is_named_as_in_the_model(name: str, simple: str) -> None:
    assert simplify(name) == simple


def test_steps_are_given_to_the_devices_before_earlier_numbers_are_read(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_device: None
) -> None:
    """The host reads the numbers of a step when AHEAD later ones are under way; around a compilation and an evaluation, at once."""
    events: list[str] = []
    compile_step, record = training.compile_step, training.Recorder.record

    def counting(parts):
        compiled, frozen = compile_step(parts)

        def step(*given):
            events.append('give')
            return compiled(*given)

        return step, frozen

    def reading(self, step, metrics):
        events.append(f'read {step}')
        return record(self, step, metrics)

    monkeypatch.setattr(training, 'compile_step', counting)
    monkeypatch.setattr(training.Recorder, 'record', reading)
    changes = {'run.steps': 9, 'run.evaluate_every': 8, 'data.first_length': 16, 'data.first_share': 0.6}
    runs.run(tiny('bert', changes), tmp_path / 'run')
    assert training.AHEAD == 2
    given = [event if event != 'give' else f'give {events[: i + 1].count("give")}' for i, event in enumerate(events)]
    assert given == [
        *('give 1', 'read 1', 'give 2', 'give 3', 'give 4', 'read 2', 'give 5', 'read 3', 'read 4', 'read 5', 'give 6', 'read 6'),
        *('give 7', 'give 8', 'read 7', 'read 8', 'give 9', 'read 9'),
    ]
