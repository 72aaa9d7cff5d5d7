"""Experiments made tiny: what tests run in seconds."""

import dataclasses

from research.experiment import Experiment


def squeeze(x: Experiment) -> Experiment:
    """The same experiment, tiny: what tests and first tries run in seconds. Sources are left as they are."""
    groups = min(x.model.groups, 2)
    model = dataclasses.replace(
        x.model,
        vocabulary=512,
        layers=2,
        width=32,
        heads=2,
        inner=48,
        embedding=16 if x.model.embedding != x.model.width else 32,
        positions=32,
        groups=groups,
        table=tuple(tuple(0 for _ in pair) for pair in x.model.table[:2]),
    )
    return dataclasses.replace(
        x,
        model=model,
        data=dataclasses.replace(x.data, length=32, first_length=0, buckets=()),
        machine=dataclasses.replace(x.machine, prefetch=1),
        surgery=dataclasses.replace(x.surgery, layers=()),
        run=dataclasses.replace(
            x.run,
            steps=2,
            epochs=0.0,
            batch=8 * x.run.accumulate if x.run.accumulate < 3 else 16,
            accumulate=min(x.run.accumulate, 2),
            log_every=1,
            evaluate_every=0,
            patience=0,
            evaluate_batches=1,
            checkpoint_every=0,
        ),
        optimizer=dataclasses.replace(x.optimizer, warmup=min(x.optimizer.warmup, 0.5)),
    )
