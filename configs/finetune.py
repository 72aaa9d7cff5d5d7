"""Fine-tuning of any model on each task, with the hyperparameters of BERT (Devlin et al. 2019, §4), DistilBERT or ALBERT.

    python launch.py --config=configs/finetune.py:sst2 --config.start=RUN_OR_HF_FOLDER --config.data.folder=…/glue --workdir=…
    python launch.py --config=configs/finetune.py:albert-rte --config.start=… --config.data.folder=…/glue --workdir=…
    python launch.py --config=configs/finetune.py:custom --config.start=… --config.data.train=train.tsv --workdir=…

The architecture and the tokenizer are those of the start. Without a data.folder, TFDS downloads the task. `--config.run.steps=0`
evaluates the start without training.

BERT's and DistilBERT's recipes select the checkpoint on a part split off from train, so that dev is read once. ALBERT's select on
dev, as its authors do, and the result says so. `--config.data.select=train`, `dev` or `last` decides otherwise. DEVIATIONS, which
`--dry` prints, says where a recipe differs from the paper or the authors' code on purpose.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import ml_collections

from research.data import tasks
from research.data.settings import Data
from research.data.tasks import TASKS
from research.data.tasks.glue import GLUE
from research.experiment import Experiment, Run
from research.models.architecture import Architecture
from research.objectives.losses import Losses, Mlm, Plain
from research.objectives.supervised import Answer
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
# Task -> (lr, batch, dropout, steps, warm-up, length): Lan et al. 2020, Table 14. race-v2 is for version 2 of the models, which
# diverge with the rate and dropout of RACE; all other tasks are as before (README of google-research/albert).
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
    'race-v2': (1e-5, 32, 0.0, 12_000, 1000, 512),
}
# Task -> steps between the checkpoints that are evaluated, if not 100 (google-research/albert: run_glue.sh, run_squad_*.py).
EVERY = {'qnli': 200, 'squad': 1000, 'squad2': 1000}
# Loss of a task -> all losses of its experiment.
LOSSES = {
    'label': Losses(mlm=Mlm(0.0), label=Plain(1.0)),
    'regression': Losses(mlm=Mlm(0.0), regression=Plain(1.0)),
    'choice': Losses(mlm=Mlm(0.0), choice=Plain(1.0)),
    'span': Losses(mlm=Mlm(0.0), span=Plain(1.0)),
}
# ALBERT's of SQuAD 2.0: an end that depends on the start, and a class for no answer (Lan et al. 2020, §A.3; squad_utils.py).
ANSWER = Losses(mlm=Mlm(0.0), answer=Answer(1.0))
SIZES = (
    *DATA,
    *(f'distilbert-{name}' for name, data in DATA.items() if TASKS[data.task].trains),
    *(f'albert-{name}' for name in ALBERT),
    *(f'albert-code-{name}' for name in ALBERT),
)

# What recipes do differently on purpose: KEY=VALUE, as here, and what the paper or the authors' code does.
BUCKETS = 'data.buckets=16,32,64,128,256: a batch holds texts of like length, padded to one of these; the authors draw evenly'
SELECT = 'data.select=train: a tenth of train selects the checkpoint and is not trained on; the authors train on all, keep the last'
OF_BERT = (
    BUCKETS,
    SELECT,
    'optimizer.bias_correction=true: the paper says Adam; the released code corrects no bias',
    'optimizer.decay_from_start=false: in the released code the rate decays during the warm-up too, so that it drops at its end',
)
RATE = 'optimizer.lr=5e-05: the paper takes the best of 5, 4, 3 and 2e-5 on dev of each task (§4.1): --sweep=lr'
OF_DISTILBERT = (BUCKETS, SELECT, "run.epochs=3.0: the paper prints no hyperparameters of fine-tuning; these are BERT's")
OF_ALBERT = (
    BUCKETS,
    'run.patience=0: the paper stops early on dev (§4.2.2), not saying when; here all steps are taken and the best on dev is kept',
)
MEAN = 'data.select=dev: the mean of both metrics on dev selects the checkpoint; the released code takes {} alone'
MEANS = {'mrpc': MEAN.format('accuracy'), 'qqp': MEAN.format('accuracy'), 'stsb': MEAN.format("Pearson's correlation")}
TUNED = 'data.select=train: a tenth of train selects the checkpoint and the threshold for no answer; the authors tune both on dev'
# What a paper trains on, and the tasks of BERT whose rate it chooses on dev.
DISTILBERTS, SWEPT, ANSWERED = {*GLUE, 'imdb', 'squad'} - {'ax'}, set(GLUE) - {'wnli', 'ax'}, ('squad', 'squad2')


def deviations(size: str) -> tuple[str, ...]:
    """The deviations of one recipe; none for a task that its paper does not train on."""
    family, task = split_size(size)
    if family == 'distilbert-':
        return OF_DISTILBERT if task in DISTILBERTS else ()
    if family:
        lines = (BUCKETS, *([MEANS[task]] if task in MEANS else [])) if family == 'albert-code-' else OF_ALBERT
        return (*lines, TUNED) if task in TASKS and TASKS[task].no_answer else lines
    if task in ANSWERED:
        return OF_BERT
    return (*OF_BERT, RATE) if task in SWEPT else ()


def get_config(size: str = 'packages') -> ml_collections.ConfigDict:
    """The recipe of one task: TASK is BERT's, distilbert-TASK and albert-TASK are those of DistilBERT and ALBERT.

    albert-code-TASK is that of ALBERT's released code.
    """
    family, task = split_size(size)
    return to_wire(FAMILIES[family](task))


def split_size(size: str) -> tuple[str, str]:
    """(the row of FAMILIES, the rest) of a size."""
    family = next(name for name in FAMILIES if size.startswith(name))
    return family, size.removeprefix(family)


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


def albert(name: str) -> Experiment:
    """ALBERT's recipe as published: Table 14, and the checkpoint that is best on dev (Lan et al. 2020, §4.2.2).

    The paper stops early on dev: `--config.run.patience=10` ends a run after ten evaluations without a better score. Its RTE, MRPC
    and STS-B start from a run of MNLI (footnote 4): experiments/glue.py:mnli-start.
    """
    lr, batch, dropout, steps, warmup, length = ALBERT[name]
    task = name.removesuffix('-v2')
    x, row = bert(task), TASKS[task]
    return dataclasses.replace(
        x,
        name=f'finetune-albert-{name}',
        model=Architecture(dropout=dropout, attention_dropout=dropout, head_dropout=0.1),
        # The threshold for no answer is tuned on what selects, which is never dev.
        data=dataclasses.replace(x.data, length=length, select='train' if row.no_answer else 'dev'),
        losses=ANSWER if row.no_answer else x.losses,
        optimizer=dataclasses.replace(x.optimizer, lr=lr, warmup=float(warmup)),
        run=dataclasses.replace(x.run, steps=steps, epochs=0.0, batch=batch, evaluate_every=EVERY[task] if task in EVERY else 100),
    )


def albert_code(name: str) -> Experiment:
    """ALBERT's recipe as its released code runs it: AdamW without bias correction, whose decay runs during the warm-up too.

    It keeps the checkpoint that is best on dev (run_classifier.py, lines 421 to 470) and takes all steps.
    """
    x = albert(name)
    optimizer = dataclasses.replace(x.optimizer, bias_correction=False, decay_from_start=True)
    return dataclasses.replace(x, name=f'finetune-albert-code-{name}', optimizer=optimizer)


# The beginning of a size -> the recipe of the task that the rest of it names; the first that fits.
FAMILIES = {'distilbert-': distilbert, 'albert-code-': albert_code, 'albert-': albert, '': bert}
DEVIATIONS = {size: deviations(size) for size in SIZES}


def sweep_lr() -> Iterator[dict[str, Any]]:
    """The learning rates of §4.1."""
    for lr in (5e-5, 4e-5, 3e-5, 2e-5):
        yield {'optimizer.lr': lr}


def sweep_seed() -> Iterator[dict[str, Any]]:
    """Seeds 0 to 4."""
    for seed in range(5):
        yield {'seed': seed}
