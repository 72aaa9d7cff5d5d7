"""Fine-tuning of any model on each task, with the hyperparameters of BERT (Devlin et al. 2019, §4), DistilBERT or ALBERT.

    python launch.py --config=configs/finetune.py:sst2 --config.start=RUN_OR_HF_FOLDER --config.data.folder=…/glue --workdir=…
    python launch.py --config=configs/finetune.py:albert-rte --config.start=… --config.data.folder=…/glue --workdir=…
    python launch.py --config=configs/finetune.py:custom --config.start=… --config.data.train=train.tsv --workdir=…

The architecture and the tokenizer are those of the start. Without a data.folder, TFDS downloads the task. `--config.run.steps=0`
evaluates the start without training. Checkpoints are selected on a part split off from train; dev is used only once (data.select).
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import ml_collections

from research.data import tasks
from research.data.settings import Data
from research.data.tasks import TASKS
from research.experiment import Experiment, Run
from research.models.architecture import Architecture
from research.objectives.losses import Losses, Mlm, Plain
from research.optim import Optimizer
from research.surgery import Surgery
from research.wire import to_wire

# Name of a recipe -> its data: every task, and the user's own files with scores instead of labels.
DATA = {**{name: Data(task=name) for name in TASKS}, 'custom-score': Data(task='custom', score='score')}
# Name -> (lr, batch, epochs, length) if not 5e-5, 32, 3 and 128. GLUE as in §4.1, where the best lr of {5, 4, 3, 2}e-5 on dev is
# used (--sweep=lr); SQuAD as in §4.2 and §4.3.
BERT = {
    'squad': (5e-5, 32, 3.0, 384),
    'squad2': (5e-5, 48, 2.0, 384),
    'race': (5e-5, 32, 3.0, 512),
    'imdb': (5e-5, 32, 3.0, 512),
}
# Task -> (lr, batch, dropout, steps, warm-up, length): Lan et al. 2020, Table 14.
ALBERT = {
    'cola': (1e-5, 16, 0.0, 5336, 320, 512),
    'stsb': (2e-5, 16, 0.0, 3598, 214, 512),
    'sst2': (1e-5, 32, 0.0, 20_935, 1256, 512),
    'mnli': (3e-5, 128, 0.0, 10_000, 1000, 512),
    'qnli': (1e-5, 32, 0.0, 33_112, 1986, 512),
    'qqp': (5e-5, 128, 0.1, 14_000, 1000, 512),
    'rte': (3e-5, 32, 0.1, 800, 200, 512),
    'mrpc': (2e-5, 32, 0.0, 800, 200, 512),
    'wnli': (2e-5, 16, 0.1, 2000, 250, 512),
    'squad': (5e-5, 48, 0.0, 3649, 365, 384),
    'squad2': (3e-5, 48, 0.0, 8144, 814, 512),
    'race': (2e-5, 32, 0.1, 12_000, 1000, 512),
}
# Loss of a task -> all losses of its experiment.
LOSSES = {
    'label': Losses(mlm=Mlm(0.0), label=Plain(1.0)),
    'regression': Losses(mlm=Mlm(0.0), regression=Plain(1.0)),
    'choice': Losses(mlm=Mlm(0.0), choice=Plain(1.0)),
    'span': Losses(mlm=Mlm(0.0), span=Plain(1.0)),
}
SIZES = (
    *DATA,
    *(f'distilbert-{name}' for name, data in DATA.items() if TASKS[data.task].trains),
    *(f'albert-{name}' for name in ALBERT),
)


def get_config(size: str = 'packages') -> ml_collections.ConfigDict:
    """The recipe of one task: TASK for BERT's, distilbert-TASK and albert-TASK for DistilBERT's and ALBERT's."""
    family, _, name = size.partition('-')
    families = {'distilbert': distilbert, 'albert': albert}
    return to_wire(families[family](name) if family in families else bert(size))


def bert(task: str) -> Experiment:
    """BERT's recipe; the warm-up takes a tenth of the steps (released code)."""
    lr, batch, epochs, length = BERT[task] if task in BERT else (5e-5, 32, 3.0, 128)
    data = DATA[task]
    row = tasks.task(data)
    return Experiment(
        name=f'finetune-{task}',
        data=dataclasses.replace(data, tokenizer='start', length=length),
        losses=LOSSES[row.loss],
        start='runs/bert-base',
        surgery=Surgery(inherit=True),
        optimizer=Optimizer(lr=lr, warmup=0.1),
        run=Run(epochs=epochs, batch=batch, log_every=10, evaluate_every=100, evaluate_batches=0)
        if row.trains
        else Run(steps=0, batch=batch),
    )


def distilbert(task: str) -> Experiment:
    """DistilBERT's recipe: BERT's with DistilBERT's dropout in the heads. The paper (Sanh et al. 2019) gives no hyperparameters."""
    model = Architecture(head_dropout=0.2, span_dropout=0.1)
    return dataclasses.replace(bert(task), name=f'finetune-distilbert-{task}', model=model)


def albert(task: str) -> Experiment:
    """ALBERT's recipe: a fixed number of steps, the last checkpoint, and for most tasks dropout only in the heads."""
    lr, batch, dropout, steps, warmup, length = ALBERT[task]
    x = bert(task)
    return dataclasses.replace(
        x,
        name=f'finetune-albert-{task}',
        model=Architecture(dropout=dropout, attention_dropout=dropout, head_dropout=0.1),
        data=dataclasses.replace(x.data, length=length, select='last'),
        optimizer=dataclasses.replace(x.optimizer, lr=lr, warmup=float(warmup)),
        run=dataclasses.replace(x.run, steps=steps, epochs=0.0, batch=batch),
    )


def sweep_lr() -> Iterator[dict[str, Any]]:
    """The learning rates of §4.1."""
    for lr in (5e-5, 4e-5, 3e-5, 2e-5):
        yield {'optimizer.lr': lr}


def sweep_seed() -> Iterator[dict[str, Any]]:
    """Seeds 0 to 4."""
    for seed in range(5):
        yield {'seed': seed}
