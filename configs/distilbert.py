"""DistilBERT (Sanh et al. 2019): half the layers of a BERT, started from these layers and distilled with three losses.

    python launch.py --config=configs/distilbert.py --config.teacher=runs/bert-base --workdir=runs/distilbert-base
    python launch.py --config=configs/distilbert.py:half --config.teacher=runs/bert-mini --workdir=runs/distil-mini

As in the authors' README: losses 5 · soft targets (T = 2) + 2 · MLM + 1 · cosine, and masking that smooths frequencies. The student
has the teacher's layers 0, 2, 4, 7, 9 and 11, no pooler, no token types and no pairs. `half` is the same recipe on one machine for
a teacher of any shape: it takes half of its layers and inherits the rest of its architecture.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import ml_collections

from research.data.masking import Masking
from research.data.settings import Data
from research.experiment import Experiment, Run
from research.models.architecture import Architecture
from research.objectives.losses import Losses, Match, Mlm, Soft
from research.optim import Optimizer
from research.surgery import Surgery
from research.wire import to_wire

SIZES = ('base', 'half')


def get_config(size: str = 'base') -> ml_collections.ConfigDict:
    """The authors' recipe; gradients are accumulated over a batch of about 4,000 sequences (§3)."""
    base = Experiment(
        name=f'distilbert-{size}',
        model=Architecture(layers=6, types=0, pooler=False, activation='gelu', head_dropout=0.2, span_dropout=0.1),
        data=Data(length=512, tokenizer='teacher', masking=Masking('frequency')),
        losses=Losses(mlm=Mlm(2.0), soft=Soft(5.0, temperature=2.0), cosine=Match(1.0)),
        start='teacher',
        teacher='runs/bert-base',
        optimizer=Optimizer(lr=5e-4, warmup=0.05, weight_decay=0.0, beta2=0.98, clip=5.0),
        run=Run(
            steps=100_000,
            epochs=3.0,
            batch=4000,
            accumulate=125,
            log_every=10,
            evaluate_every=1000,
            checkpoint_every=200,
        ),
    )
    half = dataclasses.replace(
        base,
        surgery=Surgery(inherit=True, keep=0.5),
        run=dataclasses.replace(base.run, batch=64, accumulate=1),
    )
    return to_wire({'base': base, 'half': half}[size])


def sweep_layers() -> Iterator[dict[str, Any]]:
    """Numbers of layers of the student."""
    for layers in (2, 3, 4, 6):
        yield {'model.layers': layers}


def sweep_embedding() -> Iterator[dict[str, Any]]:
    """Embedding sizes of the student, from random weights: the teacher's fit only one size."""
    for embedding in (64, 128, 256, 768):
        yield {'model.embedding': embedding, 'start': ''}


def sweep_sharing() -> Iterator[dict[str, Any]]:
    """The layers of the student that share weights; a shared block starts from the mean of the teacher's blocks."""
    for sharing in ('all', 'attention', 'ffn', 'none'):
        yield {'model.sharing': sharing}


def sweep_losses() -> Iterator[dict[str, Any]]:
    """The losses of the ablation in Sanh et al. 2019, Table 4, and a random start."""
    yield {}
    yield {'losses.soft.weight': 0.0, 'losses.mlm.weight': 0.0}
    yield {'losses.cosine.weight': 0.0, 'losses.mlm.weight': 0.0}
    yield {'losses.mlm.weight': 0.0}
    yield {'start': ''}


def sweep_temperature() -> Iterator[dict[str, Any]]:
    """The temperature of the soft targets."""
    for temperature in (1.0, 2.0, 4.0, 8.0):
        yield {'losses.soft.temperature': temperature}
