"""DistilBERT (Sanh et al. 2019): half the layers of a BERT, started from these layers and distilled with three losses.

    python launch.py --config=configs/distilbert.py --config.teacher=runs/bert-base --workdir=runs/distilbert-base
    python launch.py --config=configs/distilbert.py:half --config.teacher=runs/bert-mini --workdir=runs/distil-mini

As in the authors' README: losses 5 · soft targets (T = 2) + 2 · MLM + 1 · cosine, the teacher matched at every attended position,
and masking that smooths frequencies. The paper prints none of these numbers. The student has the teacher's layers 0, 2, 4, 7, 9 and
11, no pooler, no token types and no pairs. `half` is the same recipe on one machine for a teacher of any shape: half of its layers,
the rest of its architecture without token types and pooler, which `--config.surgery.without=` keeps (`types` or `pooler` alone
leaves that one out). DEVIATIONS, which `--dry` prints, says where the recipe differs from the authors' code on purpose.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import ml_collections

from configs import bert
from research.data.masking import Masking
from research.data.settings import Causal, Data
from research.experiment import Experiment, Run
from research.models.architecture import Architecture
from research.objectives.losses import Losses, Match, Mlm, Soft
from research.optim import Optimizer
from research.surgery import Surgery
from research.wire import to_wire

SIZES = ('base', 'half', 'budget')

# What a size does differently on purpose: KEY=VALUE, as here, and what the paper or its authors' code (distillation/) does.
COMMON = (
    'data.source=docstrings: the paper reads the Toronto Book Corpus and English Wikipedia (§3)',
    'data.held_out=0.05: the authors train on all documents; a share is kept here to measure on',
    "data.fill=pieces: text is cut anywhere into sequences; the authors' are the lines of a file, in batches of like length",
    'data.masking.policy=frequency: 15 % of each sequence are drawn; the authors draw 15 % of the pieces of a batch at once',
    "surgery.drop=: the head starts from all of the teacher's; the authors take its dense layer with --vocab_transform only",
    'optimizer.frozen=: the authors freeze the positions (--freeze_pos_embs)',
)
INHERITED = "surgery.inherit=true: activation, width and sharing are the teacher's; DistilBERT's activation is the exact GELU"
DEVIATIONS = {
    'base': COMMON,
    'half': (
        *COMMON,
        'run.batch=64: the paper accumulates up to 4,000 sequences (§3)',
        INHERITED,
    ),
    'budget': (
        *(line for line in COMMON if 'masking' not in line),
        INHERITED,
        'data.masking.policy=token: the authors choose rare pieces more often',
        'data.masking.rate=0.3: .15 in the paper; the rate falls to that',
        'data.first_length=64: the authors read 512 pieces',
        "optimizer.name=muon: Adam in the authors' code",
        'run.batch=32: the paper accumulates up to 4,000 sequences (§3)',
    ),
}


def get_config(size: str = 'base') -> ml_collections.ConfigDict:
    """The authors' recipe; `base` accumulates gradients over a batch of about 4,000 sequences (§3)."""
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
        surgery=Surgery(inherit=True, keep=0.5, without=('types', 'pooler')),
        run=dataclasses.replace(base.run, batch=64, accumulate=1),
    )
    # The optimizer, the masks and the lengths of `configs/bert.py:budget`; no causal steps, since the start has left the plateau.
    recipe = bert.budget()
    budget = dataclasses.replace(
        half,
        data=dataclasses.replace(recipe.data, tokenizer='teacher', causal=Causal()),
        optimizer=recipe.optimizer,
        run=recipe.run,
    )
    return to_wire({'base': base, 'half': half, 'budget': budget}[size])


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
