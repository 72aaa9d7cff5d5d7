"""BERT (Devlin et al. 2019): an encoder pretrained by masked language modelling and next-sentence prediction.

    python launch.py --config=configs/bert.py:tiny --workdir=runs/bert-tiny

The optimizer is the paper's (§A.2). `base` and `large` see 128 pieces for 90 % of the steps and 512 for the rest (§A.2);
`--config.data.first_length=0` is one length. The smaller sizes see one length, so that it can be any. The default text is the
embedded corpus; name yours with, for example, `--config.data.source='text:wikipedia/*.txt'`. DEVIATIONS, which `--dry` prints, says
where the recipe differs from the paper or the authors' code on purpose.
"""

from collections.abc import Iterator
from typing import Any

import ml_collections

from research.data.settings import Data
from research.experiment import Experiment, Run
from research.models.architecture import Architecture
from research.objectives.losses import Losses, Plain
from research.optim import Optimizer
from research.wire import to_wire

# Size -> layers, width. A head is 64 wide and the inner width is four times the width. base and large are the paper's; Google
# released the others with Turc et al. 2019.
SIZES = {
    'base': (12, 768),
    'large': (24, 1024),
    'tiny': (2, 128),
    'mini': (4, 256),
    'small': (4, 512),
    'medium': (8, 512),
}
PUBLISHED = ('base', 'large')  # Devlin et al. 2019, Table 1

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
DEVIATIONS = {size: COMMON if size in PUBLISHED else (*COMMON, ONE_LENGTH) for size in SIZES}


def architecture(size: str) -> Architecture:
    """The architecture of the released model of this `size`."""
    layers, width = SIZES[size]
    return Architecture(layers=layers, width=width, heads=width // 64, inner=4 * width, embedding=width)


def get_config(size: str = 'base') -> ml_collections.ConfigDict:
    """The recipe: a million steps on 256 sequences, the first 10,000 for the warm-up (Devlin et al. 2019, §A.2).

    The published sizes read 128 pieces for 900,000 steps, then 512 for 100,000; the others 512 in all.
    """
    return to_wire(
        Experiment(
            name=f'bert-{size}',
            model=architecture(size),
            data=Data(length=512, pairs='nsp', first_length=128 if size in PUBLISHED else 0),
            losses=Losses(mlm=Plain(1.0), nsp=Plain(1.0)),
            optimizer=Optimizer(lr=1e-4, warmup=0.01),
            run=Run(steps=1_000_000, batch=256, log_every=100, evaluate_every=10_000, checkpoint_every=2_000),
        )
    )


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
