"""What do half the layers, and what does sharing them, keep of a BERT? In minutes, from the encoder that ships with this code.

    make quickstart        or        python launch.py --config=experiments/quickstart.py

The teacher is `assets/teacher`, a BERT of 4 layers that this code has pretrained (its README.md says how). Everything learns from
the docstrings of the Python that runs it; the teacher has never seen the held-out ones. Hypotheses: a model of half its layers that
starts from it and is taught by it gains more over frequencies than one that only starts from it (Sanh et al. 2019, Table 4), and
this more than the same model alone; an ALBERT whose one layer is the mean of the teacher's (Lan et al. 2020) gains more than alone.
One seed tests no claim: each has its interval over held-out documents, of these models alone. `experiments/from_scratch.py` is the
chain from nothing: tokenizer, teacher, student.
"""

import dataclasses

from configs import bert
from experiments.papers import claim_gain
from research.data.settings import Data
from research.experiment import Experiment, Run
from research.objectives.losses import Losses, Match, Mlm, Plain, Soft
from research.optim import Optimizer
from research.study.columns import COLUMNS
from research.study.study import Row, Study, Table
from research.surgery import Surgery

# Steps of pretraining, steps of fine-tuning: 'tiny' shows that everything runs.
SIZES = {'small': (120, 120), 'medium': (1500, 300), 'tiny': (10, 5)}
TITLES = {
    'teacher': 'the teacher: BERT, 4 layers',
    'student': '2 layers, started and taught',
    'student-started': '2 layers, started only',
    'student-alone': '2 layers, alone',
    'albert': 'ALBERT, 4 layers in one, started and taught',
    'albert-alone': 'ALBERT, 4 layers in one, alone',
    'random': '4 layers, random weights',
}
TOKENIZER = str(bert.TEACHER / 'tokenizer.json')
CLAIMS = (
    claim_gain('teaching adds to the start', 'student', 'student-started'),
    claim_gain('the start is worth more than random weights', 'student-started', 'student-alone'),
    claim_gain('a teacher helps one shared layer', 'albert', 'albert-alone'),
)


def get_study(size: str = 'small') -> Study:
    """Five models made of the teacher or alone, each fine-tuned to tell the package that a docstring is from; one table."""
    steps, task_steps = SIZES[size]
    pretrained = make_pretraining(steps)
    starts = {name: f'@{name}' for name in pretrained} | {'teacher': str(bert.TEACHER), 'random': ''}
    tasks = {f'{name}-task': make_fine_tuning(name, task_steps, start) for name, start in starts.items()}
    rows = [
        Row(title, {'pretrain': (name,) if name in pretrained else (), 'task': (f'{name}-task',)}) for name, title in TITLES.items()
    ]
    return Study(
        name='quickstart',
        runs={**pretrained, **tasks},
        table=Table(
            'What half the layers and what sharing keep of a BERT',
            tuple(rows),
            tuple(COLUMNS[name] for name in ('parameters', 'flops', 'gain', 'task', 'latency', 'time')),
            score=COLUMNS['gain'].title,
        ),
        note='One seed, one corpus of documentation, a minute of training each.',
        claims=CLAIMS,
    )


def make_pretraining(steps: int) -> dict[str, Experiment]:
    """The teacher, as it is, and the models made of it or alone, by name."""
    shipped = bert.shipped()
    teacher = Experiment(
        name='teacher',
        model=shipped.model,
        start=str(bert.TEACHER),
        surgery=Surgery(inherit=True),
        data=Data(length=64, tokenizer=TOKENIZER),
        losses=Losses(mlm=Mlm(1.0)),
        run=Run(steps=0),
    )
    alone = dataclasses.replace(
        teacher,
        name='student-alone',
        model=dataclasses.replace(shipped.model, layers=2),
        start='',
        surgery=Surgery(),
        optimizer=dataclasses.replace(shipped.optimizer, warmup=0.1),
        run=Run(steps=steps, batch=16, log_every=max(steps // 20, 1), evaluate_every=max(steps // 3, 1), evaluate_batches=8),
    )
    started = dataclasses.replace(alone, name='student-started', start=teacher.start, surgery=Surgery(inherit=True, keep=0.5))
    taught = Losses(mlm=Mlm(2.0), soft=Soft(5.0, temperature=2.0), cosine=Match(1.0))  # DistilBERT's, at all positions
    student = dataclasses.replace(started, name='student', teacher=teacher.start, losses=taught)
    albert = dataclasses.replace(student, name='albert', surgery=Surgery(inherit=True, sharing='all'))
    shared = dataclasses.replace(alone, name='albert-alone', model=dataclasses.replace(shipped.model, sharing='all'))
    return {x.name: x for x in (teacher, albert, student, started, shared, alone)}


def make_fine_tuning(name: str, steps: int, start: str) -> Experiment:
    """The fine-tuning of the model `start` on the embedded task; of random weights of the shipped shape where it is ''."""
    return Experiment(
        name=f'{name}-task',
        model=bert.shipped().model,
        start=start,
        surgery=Surgery(inherit=bool(start)),
        data=Data(task='packages', tokenizer='start' if start else TOKENIZER, length=64),
        losses=Losses(mlm=Mlm(0.0), label=Plain(1.0)),
        optimizer=Optimizer(lr=5e-4, warmup=0.1),
        run=Run(steps=steps, batch=32, log_every=max(steps // 10, 1), evaluate_every=max(steps // 3, 1), evaluate_batches=0),
    )
