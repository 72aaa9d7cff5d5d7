"""ALBERT (Lan et al. 2020): BERT with shared weights in all layers, factorised embeddings, and SOP instead of NSP.

    python launch.py --config=configs/albert.py:base-v2 --workdir=runs/albert-base-v2

Version 1 has dropout 0.1, except xxlarge; version 2 has no dropout. The paper prints neither the warm-up, nor the form of LAMB, nor
how many pieces are predicted: these are the released code's, whose other defaults are the paper's (batch 4,096, rate 0.00176,
125,000 steps). It predicts at most 20 pieces of a sequence, 3.9 % of 512; `--config.data.masking.predictions=0` predicts 15 %, as
BERT does. DEVIATIONS, which `--dry` prints, says where the recipe differs from the paper or that code on purpose.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import ml_collections

from configs import bert
from research.data.masking import Masking
from research.data.settings import Data
from research.experiment import Experiment, Run
from research.models.architecture import Architecture
from research.objectives.losses import Losses, Mlm, Plain
from research.optim import Optimizer
from research.wire import to_wire

# Size -> layers, width, heads (Table 1; heads as in the released models: xlarge has 16 of width 128).
SHAPES = {'base': (12, 768, 12), 'large': (24, 1024, 16), 'xlarge': (24, 2048, 16), 'xxlarge': (12, 4096, 64)}
SIZES = (*SHAPES, *(f'{size}-v2' for size in SHAPES), 'budget')

# What every size does differently on purpose: KEY=VALUE, as here, and what the paper or google-research/albert does.
COMMON = (
    'data.source=docstrings: the paper reads BookCorpus and English Wikipedia (§4.1)',
    'data.held_out=0.05: the paper trains on all documents, and measures on passages of SQuAD and RACE (§4.2.1)',
    'data.tokenizer=unigram: trained on the source by the tokenizers library; the released spiece.model can be named instead',
    'data.masking.policy=ngram: masks are drawn anew in every epoch; the released code writes 40 copies of the text (dupe_factor)',
    'data.pairs=sop: both segments are always of one document; the released code pairs a lone segment with a random document',
)
LONGER = 'run.steps=125000: version 2 was trained for {} steps, on more text (README of google-research/albert)'
WARM_START = "start=: the paper's xxlarge starts from one of 6 layers (footnote 5); here from random weights"
DEVIATIONS = {
    size: (
        *COMMON,
        *([LONGER.format('10 M' if size == 'base-v2' else '3 M')] if size.endswith('-v2') else []),
        *([WARM_START] if size.startswith('xxlarge') else []),
    )
    for size in SIZES
    if size != 'budget'
}
DEVIATIONS['budget'] = (
    *COMMON[:2],
    *(line for line in bert.CHEAP if line.startswith(('data.causal', 'data.masking.mask', 'data.first_length', 'optimizer'))),
    'data.tokenizer=wordpiece: ALBERT has a SentencePiece model (§4.1)',
    'data.masking.policy=token: ALBERT masks runs of up to three words (§4.1)',
    'data.pairs=none: ALBERT predicts the order of sentences too (§3.1), but causal rows are single segments',
)


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

    From the released code: a warm-up of 3,125 steps, no bias correction, a decay from step 0, at most 20 predictions a sequence.
    """
    if size == 'budget':
        return to_wire(budget())
    return to_wire(
        Experiment(
            name=f'albert-{size}',
            model=architecture(size),
            data=Data(length=512, pairs='sop', tokenizer='unigram', masking=Masking('ngram', predictions=20)),
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


def budget() -> Experiment:
    """`configs/bert.py:budget` with all layers shared and factorised embeddings; no SOP, since causal rows are single segments."""
    recipe = bert.budget()
    model = dataclasses.replace(recipe.model, sharing='all', embedding=recipe.model.width // 2)
    return dataclasses.replace(recipe, name='albert-budget', model=model)


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
