"""BERT (Devlin et al. 2019): an encoder pretrained by masked language modelling and next-sentence prediction.

    python launch.py --config=configs/bert.py:tiny --workdir=runs/bert-tiny

The optimizer is the paper's (§A.2). `base` and `large` see 128 pieces for 90 % of the steps and 512 for the rest (§A.2);
`--config.data.first_length=0` is one length. The smaller sizes see one length, so that it can be any. The default text is the
embedded corpus; name yours with, for example, `--config.data.source='text:wikipedia/*.txt'`. DEVIATIONS, which `--dry` prints, says
where the recipe differs from the paper or the authors' code on purpose.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_collections

from research.data.masking import Masking
from research.data.settings import Causal, Data
from research.experiment import Experiment, Run
from research.models.architecture import Architecture
from research.objectives.losses import Losses, Mlm, Plain
from research.optim import Optimizer
from research.wire import to_wire

# Size -> layers, width. A head is 64 wide and the inner width is four times the width. base and large are the paper's; Google
# released the others with Turc et al. 2019.
SHAPES = {
    'base': (12, 768),
    'large': (24, 1024),
    'tiny': (2, 128),
    'mini': (4, 256),
    'small': (4, 512),
    'medium': (8, 512),
}
TEACHER = Path(__file__).parent.parent / 'assets' / 'teacher'  # of the size `shipped`
SIZES = (*SHAPES, 'budget', 'shipped')
PUBLISHED = ('base', 'large')  # Devlin et al. 2019, Table 1
BASE = Architecture()

# What every size does differently on purpose: KEY=VALUE, as here, and what the paper or google-research/bert does.
COMMON = (
    'data.source=docstrings: the paper reads BooksCorpus and English Wikipedia, 800 M and 2,500 M words (§3.1)',
    'data.held_out=0.05: the paper trains on all documents; a share is kept here to measure on',
    'data.tokenizer=wordpiece: trained on the source; the released vocab.txt can be named instead',
    'data.masking.policy=token: masks are drawn anew in every epoch; the released code writes ten copies of the text (dupe_factor)',
    'optimizer.bias_correction=true: the paper says Adam; the released code corrects no bias',
    'optimizer.decay_from_start=false: in the released code the rate decays during the warm-up too, so that it drops at its end',
)
ONE_LENGTH = 'data.first_length=0: BERT reads 128 pieces for 90 % of the steps (§A.2); here one length, so that it can be any'
CHEAP = (
    *COMMON[:4],
    'data.causal.share=1.0: BERT predicts masked pieces alone; here that follows the causal part of the run',
    'data.masking.rate=0.3: BERT masks .15 (§3.1); the rate falls to that',
    'data.masking.mask=1.0: BERT shows 80 % of the predicted pieces as [MASK] (§3.1)',
    'data.pairs=none: BERT predicts next sentences too (§3.1), but causal rows are single segments',
    'data.first_length=64: BERT reads 128 pieces, then 512 (§A.2)',
    'model.dropout=0.0: BERT drops 0.1 in all layers (§A.2)',
    'optimizer.name=muon: BERT is trained by Adam (§A.2)',
)
DEVIATIONS = {size: COMMON if size in PUBLISHED else (*COMMON, ONE_LENGTH) for size in SHAPES}
DEVIATIONS |= {'budget': CHEAP, 'shipped': CHEAP}


def architecture(size: str) -> Architecture:
    """The architecture of the released model of this `size`."""
    layers, width = SHAPES[size]
    return Architecture(layers=layers, width=width, heads=width // 64, inner=4 * width, embedding=width)


def get_config(size: str = 'base') -> ml_collections.ConfigDict:
    """The recipe: a million steps on 256 sequences, the first 10,000 for the warm-up (Devlin et al. 2019, §A.2).

    The published sizes read 128 pieces for 900,000 steps, then 512 for 100,000; the others 512 in all. `budget` and `shipped` are
    recipes of their own.
    """
    if size in BUDGETS:
        return to_wire(BUDGETS[size]())
    return to_wire(
        Experiment(
            name=f'bert-{size}',
            model=architecture(size),
            data=Data(length=512, pairs='nsp', first_length=128 if size in PUBLISHED else 0),
            losses=Losses(mlm=Mlm(1.0), nsp=Plain(1.0)),
            optimizer=Optimizer(lr=1e-4, warmup=0.01),
            run=Run(steps=1_000_000, batch=256, log_every=100, evaluate_every=10_000, checkpoint_every=2_000),
        )
    )


def budget() -> Experiment:
    """The best recipe known here for a few core-hours, chosen by the race of `experiments/budget_race.py`.

    Next-piece prediction in the first steps (Gisserot-Boukhlef et al. 2025), then [MASK] alone at a rate of .30 that falls to .15
    (Wettig et al. 2023; Yang et al. 2023), Muon on the hidden matrices (Jordan et al. 2024), no dropout and single segments
    (Geiping and Goldstein 2023), short sequences for most of the steps (Devlin et al. 2019, §A.2).
    """
    return Experiment(
        name='bert-budget',
        model=make_narrow(4096, 4, 128, 128),
        data=Data(
            length=128,
            first_length=64,
            first_share=0.8,
            masking=Masking(rate=0.3, rate_end=0.15, mask=1.0, random=0.0),
            causal=Causal(1.0, until=0.3),
        ),
        losses=Losses(mlm=Mlm(1.0)),
        optimizer=Optimizer(name='muon', lr=3e-3, warmup=0.02, beta2=0.98),
        run=Run(steps=20_000, batch=32, log_every=100, evaluate_every=1_000, checkpoint_every=1_000),
    )


def make_narrow(vocabulary: int, layers: int, width: int, length: int, like: Architecture = BASE) -> Architecture:
    """A model for minutes or hours of training: heads of 32, no dropout, and initial weights that fit the width."""
    return dataclasses.replace(
        like,
        vocabulary=vocabulary,
        layers=layers,
        width=width,
        heads=width // 32,
        inner=4 * width,
        embedding=width,
        positions=length,
        dropout=0.0,  # less than one epoch, or a few: there is little to overfit (Lan et al. 2020, Table 8)
        attention_dropout=0.0,
        deviation=0.02 * (768 / width) ** 0.5,  # 0.02 is for width 768: with it a narrow model stays longer at the unigram entropy
    )


def shipped() -> Experiment:
    """The recipe of the encoder in `assets/teacher`; `make teacher BOOKS=…` trains it again."""
    recipe = budget()
    return dataclasses.replace(
        recipe,
        name='bert-shipped',
        model=make_narrow(4096, 4, 192, 128),
        run=dataclasses.replace(recipe.run, steps=6_000, evaluate_batches=64),
    )


BUDGETS = {'budget': budget, 'shipped': shipped}


def sweep_layers() -> Iterator[dict[str, Any]]:
    """Numbers of layers."""
    for layers in (3, 6, 12):
        yield {'model.layers': layers}


def sweep_embedding() -> Iterator[dict[str, Any]]:
    """The embedding sizes of Lan et al. 2020, Table 3."""
    for embedding in (64, 128, 256, 768):
        yield {'model.embedding': embedding}


def sweep_sharing() -> Iterator[dict[str, Any]]:
    """The ways to share weights of Lan et al. 2020, Table 4."""
    for sharing in ('all', 'attention', 'ffn', 'none'):
        yield {'model.sharing': sharing}


def sweep_norm() -> Iterator[dict[str, Any]]:
    """The places of LayerNorm, at the recipe's rate; each has a best rate of its own (Xiong et al. 2020, §3.1)."""
    for norm in ('post', 'pre', 'deepnorm'):
        yield {'model.norm': norm}
