"""ALBERT (Lan et al. 2020): BERT with shared weights in all layers, factorised embeddings, and SOP instead of NSP.

    python launch.py --config=configs/albert.py:base-v2 --workdir=runs/albert-base-v2

Version 1 has dropout 0.1, except xxlarge; version 2 has no dropout.
"""

from collections.abc import Iterator
from typing import Any

import ml_collections

from research.data.masking import Masking
from research.data.settings import Data
from research.experiment import Experiment, Run
from research.models.architecture import Architecture
from research.objectives.losses import Losses, Mlm, Plain
from research.optim import Optimizer
from research.wire import to_wire

# Size -> layers, width, heads (Table 1; heads as in the released models: xlarge has 16 of width 128).
SHAPES = {'base': (12, 768, 12), 'large': (24, 1024, 16), 'xlarge': (24, 2048, 16), 'xxlarge': (12, 4096, 64)}
SIZES = (*SHAPES, *(f'{size}-v2' for size in SHAPES))


def architecture(size: str) -> Architecture:
    """The architecture of the released model of this `size`."""
    shape, _, version = size.partition('-')
    layers, width, heads = SHAPES[shape]
    rate = 0.0 if version == 'v2' or shape == 'xxlarge' else 0.1
    return Architecture(
        vocabulary=30_000,
        layers=layers,
        width=width,
        heads=heads,
        inner=4 * width,
        embedding=128,
        sharing='all',
        dropout=rate,
        attention_dropout=rate,
    )


def get_config(size: str = 'base') -> ml_collections.ConfigDict:
    """The recipe of Tables 2 to 5: n-gram masking (§4.1), LAMB, batches of 4,096 sequences of 512 pieces, 125,000 steps.

    The warm-up takes 3,125 steps (§A.1, released code).
    """
    return to_wire(
        Experiment(
            name=f'albert-{size}',
            model=architecture(size),
            data=Data(length=512, pairs='sop', tokenizer='unigram', masking=Masking('ngram')),
            losses=Losses(mlm=Mlm(1.0), sop=Plain(1.0)),
            optimizer=Optimizer(name='lamb', lr=1.76e-3, warmup=0.025, bias_correction=False, decay_from_start=True),
            run=Run(
                steps=125_000,
                batch=4096,
                accumulate=64,
                log_every=10,
                evaluate_every=2000,
                checkpoint_every=500,
            ),
        )
    )


def sweep_layers() -> Iterator[dict[str, Any]]:
    """The numbers of layers of Table 11."""
    for layers in (1, 3, 6, 12, 24, 48):
        yield {'model.layers': layers}


def sweep_width() -> Iterator[dict[str, Any]]:
    """The widths of Table 12."""
    for width in (1024, 2048, 4096, 6144):
        yield {'model.width': width, 'model.inner': 4 * width, 'model.heads': width // 64}


def sweep_embedding() -> Iterator[dict[str, Any]]:
    """The embedding sizes of Table 3."""
    for embedding in (64, 128, 256, 768):
        yield {'model.embedding': embedding}


def sweep_sharing() -> Iterator[dict[str, Any]]:
    """The ways to share weights of Table 4."""
    for sharing in ('all', 'attention', 'ffn', 'none'):
        yield {'model.sharing': sharing}


def sweep_sentence_loss() -> Iterator[dict[str, Any]]:
    """The sentence losses of Table 5."""
    yield {'losses.sop.weight': 0.0, 'data.pairs': 'none'}
    yield {'losses.sop.weight': 0.0, 'losses.nsp.weight': 1.0, 'data.pairs': 'nsp'}
    yield {'losses.sop.weight': 1.0, 'data.pairs': 'sop'}
