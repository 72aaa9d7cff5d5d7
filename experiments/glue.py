"""GLUE: tasks × seeds × learning rates from one start, RTE, MRPC and STS-B from its MNLI run too (Lan et al. 2020, §4.1).

    python launch.py --config=experiments/glue.py:small --config.start=RUN_OR_HF_FOLDER --config.data.folder=…/glue
    python -m research.glue table runs/glue-small    # settings chosen on a part of train, and the GLUE score

Hypothesis: starting RTE, MRPC and STS-B from a model fine-tuned on MNLI is better than starting them from the pretrained one (size
'mnli-start' against 'rte', 'mrpc', 'stsb'); refuted if the spreads overlap. A size that names a task is that task alone, with five
seeds and four learning rates. Seeds are of fine-tuning: all runs have the one start that you give, and what they show is about it.
"""

import dataclasses
import itertools

from configs import finetune
from experiments.papers import load_recipe
from research.data.tasks.glue import GLUE
from research.experiment import Experiment
from research.study.columns import COLLAPSED, SCORE, Column
from research.study.study import Row, Study, Table
from research.surgery import Surgery

RATES = (5e-5, 4e-5, 3e-5, 2e-5)
NINE = ('mnli', 'cola', 'sst2', 'mrpc', 'qqp', 'stsb', 'qnli', 'rte', 'wnli')
AFTER_MNLI = ('rte', 'mrpc', 'stsb')
# Tasks, number of seeds, learning rates, whether RTE, MRPC and STS-B start from the MNLI run of the same seed.
SIZES: dict[str, tuple[tuple[str, ...], int, tuple[float, ...], bool]] = {
    'small': (('rte', 'mrpc', 'stsb', 'sst2'), 3, (5e-5,), False),
    'full': (NINE, 5, RATES, False),
    'mnli-start': (('mnli', *AFTER_MNLI), 5, (3e-5,), True),
    **{task: ((task,), 5, RATES, False) for task in NINE},
}


def get_study(size: str = 'small') -> Study:
    """Every combination, and a table with the spread over seeds of each task at each learning rate."""
    names, seeds, rates, chained = SIZES[size]
    runs: dict[str, Experiment] = {}
    rows = []
    for task, lr in itertools.product(names, rates):
        members = []
        for seed in range(seeds):
            name = f'{task}-{lr:g}-{seed}'
            x = load_recipe(finetune, task)
            x = dataclasses.replace(x, name=name, seed=seed, optimizer=dataclasses.replace(x.optimizer, lr=lr))
            if chained and task in AFTER_MNLI:
                # The three classes of its head are not theirs.
                x = dataclasses.replace(x, start=f'@mnli-{lr:g}-{seed}', surgery=Surgery(inherit=True, drop=('label',)))
            runs[name] = x
            members.append(name)
        rows.append(Row(f'{GLUE[task].folder}, lr {lr:g}', {'run': tuple(members)}))
    columns = (
        dataclasses.replace(SCORE, better=''),  # rows are tasks: the easiest is not the best
        COLLAPSED,
        Column('majority', 'run', 'baseline:majority:score', 'percent', note='always the commonest label, or the mean score'),
        Column('random', 'run', 'baseline:random:score', 'percent', note='labels or scores drawn evenly'),
        Column('Parameters (M)', 'run', 'parameters:encoder', 'millions', 'min'),
    )
    return Study(
        name=f'glue-{size}',
        runs=runs,
        table=Table(f'GLUE ({size})', tuple(rows), columns),
        note='Checkpoints are selected on a part carved from train unless data.select says otherwise; dev is read once.',
    )
