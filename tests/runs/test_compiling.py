"""What a run compiles is named in its log: before, with the shapes, and after, with the time and where it came from."""

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import parallel
from research.experiment import Experiment
from research.runs import compiling
from research.runs import run as runs


def call(devices: int, name: str, lines: list[str]) -> Callable[..., Any]:
    """A function of a state and a batch, compiled as the steps of a run are; it has not been compiled in this process yet."""
    plan = compiling.announce(parallel.PARALLEL[name].plan(jax.devices()[:devices]), lines.append)

    def step(first: Any, frozen: Any, batch: Any, axis: str | None) -> Any:
        return first + jnp.cos(batch['ids']).sum() if axis is None else first + jax.lax.psum(jnp.cos(batch['ids']).sum(), axis)

    compiled = plan.compile(step, donate=True)
    return lambda first, batch: compiled(first, {}, plan.put_batch(batch))


@pytest.mark.parametrize('name', ['jit', 'pmap'])
def test_each_shape_is_named_once(name: str) -> None:
    lines: list[str] = []
    step, state = call(2, name, lines), jnp.zeros(())
    for length in (8, 8, 16, 8, 16):
        state = step(state, {'ids': np.ones((4, length), np.float32), 'pair': np.ones(4, np.int32)})
    shapes = {length: f'ids 4 × {length}, pair 4' if name == 'jit' else f'ids 2 × 2 × {length}, pair 2 × 2' for length in (8, 16)}
    begun = [line for line in lines if line.startswith('compiling')]
    assert begun == [f'compiling the step for {shapes[8]} …', f'compiling the step for {shapes[16]} …']
    for before, after in zip(lines, lines[1:], strict=False):
        if before in begun:
            assert re.fullmatch(r'compiled the step in \d+\.\d s( \(kept from before\))?', after), lines
    again = [line for line in lines if 'again' in line]
    assert len(lines) == 4 + len(again) and all('lie on other devices than before' in line for line in again)


def test_a_compilation_that_no_shape_explains_is_named() -> None:
    """The state comes from another place than before: jax compiles the same shapes once more."""
    lines: list[str] = []
    plan = compiling.announce(
        parallel.jit(jax.devices()[:1])._replace(compile=lambda function, donate: jax.jit(function)), lines.append
    )

    def step(first: Any, frozen: Any, batch: Any) -> Any:
        return first + batch['ids'].sum()

    compiled = plan.compile(step)
    batch = {'ids': np.ones((2, 3), np.float32)}
    for state in (jnp.zeros(()), jnp.zeros(()), jnp.zeros(4)):
        compiled(state, {}, batch)
    assert [line.partition(' in ')[0] for line in lines] == [
        'compiling the step for ids 2 × 3 …',
        'compiled the step',
        'compiled the step again for ids 2 × 3: its inputs lie on other devices than before',
    ]


def test_a_long_compilation_of_anything_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(compiling, 'LONG', 0.0)
    with compiling.tally() as found:
        found.say = lines.append
        jax.jit(lambda x: jnp.sinh(x) + 12345)(np.ones(3))
    assert found.programs == 1 and found.seconds > 0 and len(lines) == 1 and 'lambda' in lines[0]
    assert found.describe().startswith('1 small program in ')


def test_a_tally_counts_its_own_thread_and_not_what_an_inner_one_counts() -> None:
    def compile_one(shift: float) -> None:
        jax.jit(lambda x: jnp.tan(x) + shift)(np.ones(3))

    with compiling.tally() as outer:
        other = threading.Thread(target=compile_one, args=(23451.0,))
        other.start()
        other.join()
        assert not outer.programs
        with compiling.tally() as inner:
            compile_one(34512.0)
        assert (outer.programs, inner.programs) == (0, 1)
        compile_one(45123.0)
        assert outer.programs == 1
    compile_one(51234.0)
    assert outer.programs == 1


def test_the_log_of_a_run_names_what_it_compiles(tiny: Callable[..., Experiment], tmp_path: Path, one_device: None) -> None:
    changes = {'run.steps': 6, 'data.first_length': 16, 'data.first_share': 0.5, 'run.log_every': 100, 'run.evaluate_every': 3}
    runs.run(tiny('bert', changes), tmp_path / 'run')
    lines = (tmp_path / 'run' / 'log.txt').read_text().splitlines()
    begun = [line.partition(',')[0] for line in lines if line.startswith('compiling')]
    assert begun[:1] == ['compiling the step for ids 8 × 16'] and 'compiling the step for ids 8 × 32' in begun
    assert [line.split()[2] for line in begun] == ['step', 'evaluation', 'step', 'smoothness']
    first = next(i for i, line in enumerate(lines) if line.startswith('step 1/6 loss '))
    assert 'compiled the step' in lines[first - 1], 'the first progress is shown at once'
    assert not any('again' in line for line in lines)
