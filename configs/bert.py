"""BERT (Devlin et al. 2019): an encoder pretrained by masked language modelling and next-sentence prediction.

    python launch.py --config=configs/bert.py:tiny --workdir=runs/bert-tiny

The optimizer is the paper's (§A.2). The default text is the embedded corpus; name yours with, for example,
`--config.data.source='text:wikipedia/*.txt'`.
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


def architecture(size: str) -> Architecture:
    """The architecture of the released model of this `size`."""
    layers, width = SIZES[size]
    return Architecture(layers=layers, width=width, heads=width // 64, inner=4 * width, embedding=width)


def get_config(size: str = 'base') -> ml_collections.ConfigDict:
    """The recipe: a million steps on 256 sequences of 512 pieces, the first 10,000 for the warm-up (Devlin et al. 2019, §A.2)."""
    return to_wire(
        Experiment(
            name=f'bert-{size}',
            model=architecture(size),
            data=Data(length=512, pairs='nsp'),
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


def sweep_norm() -> Iterator[dict[str, Any]]:
    """The places of LayerNorm, at the recipe's rate; each has a best rate of its own (Xiong et al. 2020, §3.1)."""
    for norm in ('post', 'pre', 'deepnorm'):
        yield {'model.norm': norm}
