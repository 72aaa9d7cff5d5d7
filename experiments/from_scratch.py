"""Does a small BERT teach a smaller one? The whole chain from nothing on the embedded corpus: tokenizer, teacher, student, ALBERT.

    python launch.py --config=experiments/from_scratch.py --jobs=2

Hypothesis (Sanh et al. 2019, Table 4): at equal steps a student of half the depth, started from its teacher's layers and distilled
by soft targets and hidden states, gains more over frequencies than the same student alone. One seed tests no claim: it has its
interval over held-out documents. The ALBERT shows what sharing all layers and factorising the embeddings costs and saves:
parameters, but no FLOPs. All are trained by the budget recipe (`configs/bert.py:budget`), without which nothing is learnt in
minutes but the frequencies of pieces.
"""

import dataclasses

from configs import bert
from experiments.papers import claim_gain
from experiments.quickstart import make_fine_tuning
from research.data.settings import Causal
from research.experiment import Experiment, Run
from research.objectives.losses import Losses, Match, Mlm, Soft
from research.study.columns import COLUMNS
from research.study.study import Row, Study, Table

# Steps of pretraining, steps of fine-tuning: in 1,500 steps a model leaves the plateau, 'tiny' shows that everything runs.
SIZES = {'small': (1500, 120), 'medium': (6000, 300), 'tiny': (20, 10)}
TITLES = {
    'teacher': 'BERT teacher (4 layers)',
    'student': 'distilled student (2 layers)',
    'student-alone': 'the same student alone',
    'albert': 'ALBERT (4 layers, all shared)',
}


def get_study(size: str = 'small') -> Study:
    """Four pretrained models, each fine-tuned to predict the package that a docstring is from, and one table."""
    steps, task_steps = SIZES[size]
    pretrained = make_pretraining(steps)
    rows = tuple(Row(title, {'pretrain': (name,), 'task': (f'{name}-task',)}) for name, title in TITLES.items())
    columns = (*(COLUMNS[name] for name in ('parameters', 'flops', 'gain', 'task', 'time', 'speed')),)
    return Study(
        name='from_scratch',
        runs={**pretrained, **{f'{name}-task': make_fine_tuning(name, task_steps, f'@{name}') for name in pretrained}},
        table=Table('Four small encoders from nothing', rows, columns, score=COLUMNS['gain'].title),
        note='One seed, one corpus of documentation, minutes of training: it shows the chain, not how the methods compare.',
        claims=(claim_gain('distillation helps at equal steps', 'student', 'student-alone'),),
    )


def make_pretraining(steps: int) -> dict[str, Experiment]:
    """The four models by name, the longest run first."""
    recipe = bert.budget()
    teacher = dataclasses.replace(
        recipe,
        name='teacher',
        data=dataclasses.replace(recipe.data, length=recipe.data.first_length, first_length=0),
        run=Run(steps=steps, batch=recipe.run.batch, log_every=max(steps // 20, 1), evaluate_every=max(steps // 5, 1)),
    )
    alone = dataclasses.replace(teacher, name='student-alone', model=dataclasses.replace(teacher.model, layers=2))
    student = dataclasses.replace(
        alone,
        name='student',
        teacher='@teacher',
        start='teacher',
        data=dataclasses.replace(teacher.data, causal=Causal()),  # its start has left the plateau
        losses=Losses(mlm=Mlm(2.0), soft=Soft(5.0, temperature=2.0), cosine=Match(1.0)),
    )
    shared = dataclasses.replace(teacher.model, sharing='all', embedding=64)
    albert = dataclasses.replace(teacher, name='albert', model=shared)
    return {x.name: x for x in (teacher, albert, student, alone)}
