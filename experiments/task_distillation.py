"""How much does a fine-tuned teacher help a smaller student on its task? Each student with it and without, in one table.

    python launch.py --config=experiments/task_distillation.py:sst2 --workdir=runs/taught-sst2 \
        --config.teacher=RUN_OF_THAT_TASK --config.data.folder=…/glue

Hypothesis (Sanh et al. 2019, §3 and Table 2: +1.1 F1 on SQuAD): a student trained by soft targets and labels is better than the
same student, from the same start, trained by labels alone. Refuted if the claim does not hold beyond the spread of seeds. Students:
half of the teacher's layers, evenly spaced, and all its layers as one shared block (their mean). Seeds are of fine-tuning: all runs
have the one teacher that you give, and what they show is about it.
"""

import dataclasses

from configs import finetune
from configs.finetune import LOSSES
from experiments.papers import load_recipe
from research.data.tasks import TASKS
from research.experiment import Experiment
from research.objectives.losses import Match, Plain, Soft
from research.study.columns import COLLAPSED, SCORE, Column
from research.study.study import Claim, Row, Study, Table
from research.surgery import Surgery

SEEDS = 3
SIZES = ('sst2', 'mnli', 'mrpc', 'stsb', 'squad', 'squad2')
STUDENTS = {'half': Surgery(inherit=True, keep=0.5), 'shared': Surgery(inherit=True, sharing='all')}
TITLES = {'half': "half of the teacher's layers", 'shared': 'all its layers as one shared block'}
# Loss of the task -> the same with a teacher: half soft targets at T = 2, half labels, as DistilBERT's second step. Scores have no
# distribution: half the squared distance to the teacher's.
TAUGHT = {
    'label': dataclasses.replace(LOSSES['label'], label=Plain(0.5), soft=Soft(0.5, at='label')),
    'span': dataclasses.replace(LOSSES['span'], span=Plain(0.5), soft=Soft(0.5, at='span')),
    'regression': dataclasses.replace(LOSSES['regression'], regression=Plain(0.5), mse=Match(0.5, at='score')),
}


def get_study(size: str = 'sst2') -> Study:
    """Two students, each with the teacher and without, three seeds each. All start from the teacher's weights."""
    base = dataclasses.replace(load_recipe(finetune, size), start='teacher', teacher=f'runs/{size}')
    runs: dict[str, Experiment] = {}
    rows, claims = [], []
    for student, surgery in STUDENTS.items():
        members = {}
        for kind, losses in (('taught', TAUGHT[TASKS[size].loss]), ('alone', LOSSES[TASKS[size].loss])):
            names = tuple(f'{student}-{kind}-{seed}' for seed in range(SEEDS))
            for seed, name in enumerate(names):
                runs[name] = dataclasses.replace(base, name=name, seed=seed, surgery=surgery, losses=losses)
            members[kind] = names
            rows.append(Row(f'{TITLES[student]}, {"with" if kind == "taught" else "without"} teacher', {'run': names}))
        claims.append(
            Claim('the teacher helps: {a} scores less than {b}', (members['alone'], 'score'), (members['taught'], 'score'))
        )
    columns = (
        Column('Parameters (M)', 'run', 'parameters:encoder', 'millions', 'min'),
        SCORE,
        COLLAPSED,
        Column('Latency (ms)', 'run', 'latency_seconds', 'milliseconds', 'min'),
    )
    return Study(
        name=f'taught-{size}',
        runs=runs,
        table=Table(f'Task distillation on {size}', tuple(rows), columns, score='score'),
        claims=tuple(claims),
    )
