"""Our contenders. Needs only jax, flax, optax and numpy beside research's models, objectives, optim, parallel and train."""

import dataclasses
from typing import Any

from benchmarks.harness.cases import CLASSES, OPTIMIZER, STEPS, Case, make_batch
from benchmarks.harness.turns import Contender, read_resident, read_resident_peak
from research.runs.memory import keep_memory

BATCHES = 4  # different ones, in a circle
# Our process takes a GPU's memory as it needs it: ours and the peers are there at the same time.
GPU = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}


def step(case: Case, way: str) -> Contender:
    """Training steps by a row of PARALLEL on random batches, made as runs.training.compile_step makes them."""
    keep_memory()
    import jax

    from research import parallel, train
    from research.activations import size_teacher_heads
    from research.models.attention import choose_kernel
    from research.models.heads import Model, initialise
    from research.objectives.losses import wants

    plan = parallel.make_plan(way, case.batch, 1)
    before = read_resident()
    want, platform = wants(case.losses), parallel.find_platform()
    kernel, _ = choose_kernel(case.model, want, platform, training=True)
    model, teacher, frozen = Model(dataclasses.replace(case.model, attention=kernel), case.heads), None, {}
    if case.teacher:
        kernel, _ = choose_kernel(case.teacher, want, platform, training=False)
        heads = size_teacher_heads(case.losses, case.teacher, CLASSES)
        teacher = Model(dataclasses.replace(case.teacher, attention=kernel), heads)
        frozen = {'teacher': plan.put_state(initialise(teacher, jax.random.key(1)))}
    compiled = plan.compile(train.make_step(model, teacher, case.losses, OPTIMIZER, STEPS), donate=True)
    kept = {'state': plan.put_state(train.initial_state(model, OPTIMIZER, 0)), 'number': 0}
    batches = [make_batch(case, seed) for seed in range(BATCHES)]

    def run(steps: int) -> None:
        metrics: Any = None
        for _ in range(steps):
            batch = plan.put_batch(batches[kept['number'] % BATCHES])
            kept['state'], metrics = compiled(kept['state'], frozen, batch)
            kept['number'] += 1
        jax.block_until_ready((kept['state'], metrics))

    def read_peak() -> int:
        used = parallel.read_peak_memory()
        return read_resident_peak() - before if used is None else used

    return Contender(run, read_peak)


def product(size: int, dtype: str) -> Contender:
    """Products of random [size, size] matrices, one after the other."""
    keep_memory()
    import jax
    import jax.numpy as jnp

    a, b = (jax.random.normal(jax.random.key(seed), (size, size)) for seed in (0, 1))
    a, b = a.astype(dtype), (b / size**0.5).astype(dtype)  # products keep the size of the numbers
    multiply = jax.jit(jnp.matmul)

    def run(steps: int) -> None:
        found = a
        for _ in range(steps):
            found = multiply(found, b)
        jax.block_until_ready(found)

    return Contender(run)


def with_dtype(case: Case, dtype: str) -> Case:
    """The case computed in `dtype`, teacher included."""
    teacher = dataclasses.replace(case.teacher, dtype=dtype) if case.teacher else None
    return dataclasses.replace(case, model=dataclasses.replace(case.model, dtype=dtype), teacher=teacher)
