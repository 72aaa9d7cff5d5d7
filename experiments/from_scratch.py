"""Does a small BERT teach a smaller one? The whole chain on the embedded corpus, in minutes on a laptop.

    make quickstart        or        python launch.py --config=experiments/quickstart.py

Hypothesis (Sanh et al. 2019, Table 4): at equal steps a student of half the depth, started from its teacher's layers and distilled
by soft targets and hidden states, predicts held-out masked words better than the same student alone. Refuted if the claim under the
table does not hold. The ALBERT shows that sharing all layers and factorising the embeddings saves parameters, but no FLOPs.
"""

import dataclasses

from experiments.papers import make_narrow
from research.data.settings import Data
from research.experiment import Experiment, Run
from research.objectives.losses import Losses, Match, Mlm, Plain, Soft
from research.optim import Optimizer
from research.study.columns import COLUMNS
from research.study.study import Claim, Row, Study, Table
from research.surgery import Surgery

# Steps of pretraining, steps of fine-tuning: 'small' learns something within ten minutes, 'tiny' shows that everything runs.
SIZES = {'small': (400, 120), 'medium': (800, 200), 'tiny': (20, 10)}


TITLES = {
    'teacher': 'BERT teacher (4 layers)',
    'student': 'distilled student (2 layers)',
    'student-alone': 'the same student alone',
    'albert': 'ALBERT (4 layers, all shared)',
}
CLAIMS = (
    Claim(
        'distillation helps at equal steps: the held-out MLM loss of {a} is below that of {b}',
        ('student', 'metrics:dev/mlm'),
        ('student-alone', 'metrics:dev/mlm'),
    ),
    Claim(
        'the teacher has left the plateau: its held-out MLM loss is below the unigram entropy',
        ('teacher', 'metrics:dev/mlm'),
        ('teacher', 'unigram_entropy'),
    ),
)


def get_study(size: str = 'small') -> Study:
    """Four pretrained models, each fine-tuned to predict the package that a docstring is from, and one table."""
    steps, task_steps = SIZES[size]
    pretrained = make_pretraining(steps)
    rows = tuple(Row(title, {'pretrain': (name,), 'task': (f'{name}-task',)}) for name, title in TITLES.items())
    return Study(
        name='quickstart',
        runs={**pretrained, **{f'{name}-task': make_fine_tuning(name, task_steps) for name in pretrained}},
        table=Table('Four small encoders on the embedded corpus', rows, score=COLUMNS['task'].title),
        note='One seed, one corpus of documentation, minutes of training: it shows the chain, not how the methods compare.',
        claims=CLAIMS,
    )


def make_pretraining(steps: int) -> dict[str, Experiment]:
    """The four models by name, the longest run first."""
    model = dataclasses.replace(make_narrow(4096, layers=4, width=128, length=128), deviation=0.05)
    teacher = Experiment(
        name='teacher',
        model=model,
        data=Data(length=128),
        losses=Losses(mlm=Mlm(1.0)),
        # With 8 sequences and 1e-3 the loss gets below the unigram entropy within some hundred steps; with 32 and 3e-3 it does not.
        optimizer=Optimizer(lr=1e-3, warmup=0.1),
        run=Run(steps=steps, batch=8, log_every=max(steps // 20, 1), evaluate_every=max(steps // 5, 1), evaluate_batches=48),
    )
    alone = dataclasses.replace(teacher, name='student-alone', model=dataclasses.replace(model, layers=2))
    student = dataclasses.replace(
        alone,
        name='student',
        teacher='@teacher',
        start='teacher',
        losses=Losses(mlm=Mlm(2.0), soft=Soft(5.0, at='masked', temperature=2.0), cosine=Match(1.0)),
    )
    albert = dataclasses.replace(
        teacher,
        name='albert',
        model=dataclasses.replace(model, sharing='all', embedding=64),
        data=dataclasses.replace(teacher.data, pairs='sop'),
        losses=Losses(mlm=Mlm(1.0), sop=Plain(1.0)),
    )
    return {x.name: x for x in (teacher, albert, student, alone)}


def make_fine_tuning(name: str, steps: int) -> Experiment:
    """The fine-tuning of the pretrained model `name` on the embedded task."""
    third, tenth = max(steps // 3, 1), max(steps // 10, 1)
    return Experiment(
        name=f'{name}-task',
        start=f'@{name}',
        surgery=Surgery(inherit=True),
        data=Data(task='packages', tokenizer='start', length=64),
        losses=Losses(mlm=Mlm(0.0), label=Plain(1.0)),
        optimizer=Optimizer(lr=5e-4, warmup=0.1),
        run=Run(steps=steps, batch=32, log_every=tenth, evaluate_every=third, evaluate_batches=0),
    )
