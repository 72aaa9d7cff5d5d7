"""Fine-tuning (Devlin et al. 2019, §4): a classifier on top of any run, all weights trained.

    python launch.py --config=configs/finetune.py --config.start=runs/bert-tiny --workdir=runs/packages
    python launch.py --config=configs/finetune.py:custom --config.start=runs/bert-tiny --config.data.train=train.tsv …

The architecture and the tokenizer are the start's. Checkpoints are selected on dev, which is a part of train unless you have one;
test is read once, at the end.
"""

from collections.abc import Iterator
from typing import Any

import ml_collections

from research.data.settings import Data
from research.experiment import Experiment, Run, to_wire
from research.objectives.losses import Losses, Plain
from research.optim import Optimizer
from research.surgery import Surgery

SIZES = ('packages', 'custom')


def get_config(size: str = 'packages') -> ml_collections.ConfigDict:
    """The paper's hyperparameters: 3 epochs of batches of 32 at 5e-5, with a warm-up of a tenth (the released code)."""
    return to_wire(
        Experiment(
            name=f'finetune-{size}',
            data=Data(task=size, tokenizer='start', length=128),
            losses=Losses(mlm=Plain(0.0), label=Plain(1.0)),
            start='runs/bert-base',
            surgery=Surgery(inherit=True),
            optimizer=Optimizer(lr=5e-5, warmup=0.1),
            run=Run(epochs=3.0, batch=32, log_every=10, evaluate_every=100, evaluate_batches=0),
        )
    )


def sweep_lr() -> Iterator[dict[str, Any]]:
    """The learning rates of §4.1."""
    for lr in (5e-5, 4e-5, 3e-5, 2e-5):
        yield {'optimizer.lr': lr}


def sweep_seed() -> Iterator[dict[str, Any]]:
    """Five seeds."""
    for seed in range(5):
        yield {'seed': seed}
