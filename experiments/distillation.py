"""How much does a teacher help, and what does sharing cost, at equal steps, on a corpus of your own?

    python launch.py --config=experiments/distillation.py:small --workdir=runs/books \
        --config.data.source='jsonl:books.jsonl.xz'

Hypotheses: (1) a student of half the depth, started from its teacher's layers and distilled by soft targets and hidden states, has
a lower held-out MLM loss than the same student alone (Sanh et al. 2019); (2) a part of that is due to the start, a part to
distillation (their Table 4: −3.69 without the start, −2.96 without soft targets); (3) sharing all layers costs some loss and saves
no FLOPs (Lan et al. 2020, Table 4). Each is refuted if its claim under the table does not hold.

The teacher is matched at every attended position, as in DistilBERT; `--config.losses.soft.at=masked` matches it only where pieces
are predicted, which costs less.
"""

import dataclasses

from experiments.papers import make_narrow
from research.data.settings import Data
from research.experiment import Experiment, Run
from research.objectives.losses import Losses, Match, Mlm, Soft
from research.optim import Optimizer
from research.study.columns import Column
from research.study.study import Claim, Row, Study, Table

# Steps of the teacher, its further steps with the rate raised again, steps of the other runs, batch, layers, width.
SIZES = {
    'tiny': (20, 10, 20, 8, 2, 32),
    'small': (24_000, 16_000, 3000, 8, 4, 128),
    'medium': (40_000, 40_000, 20_000, 64, 6, 256),
}
# Of the students that are called distilled: what is not as in Sanh et al. 2019, so that the rows differ in one thing only.
DISTILLED = (
    'data.masking.policy=token: DistilBERT hides rare pieces more often; here every row hides pieces as its teacher does',
    'model.types=2: DistilBERT has no token types',
    'model.pooler=true: DistilBERT has no pooler',
)
DEVIATIONS = {size: {'distilled*': DISTILLED} for size in SIZES}

LOSS = 'metrics:dev/mlm'
COLUMNS = (
    Column('Parameters (M)', 'run', 'parameters:encoder', 'millions', 'min'),
    Column('FLOPs a token (M)', 'run', 'flops_per_token', 'millions', 'min'),
    Column('MLM loss (nats)', 'run', LOSS, 'plain', 'min'),
    Column('MLM accuracy (%)', 'run', 'metrics:dev/mlm_accuracy', 'percent', 'max'),
    Column('Latency (ms)', 'run', 'latency_seconds', 'milliseconds', 'min'),
)
CLAIMS = (
    Claim('distillation helps: the held-out MLM loss of {a} is below that of {b}', ('distilled', LOSS), ('alone', LOSS)),
    Claim('teaching alone helps: {a} is below {b}', ('taught-only', LOSS), ('alone', LOSS)),
    Claim('the start alone helps: {a} is below {b}', ('started-only', LOSS), ('alone', LOSS)),
    Claim('depth that shares one block helps: {a} is below {b}', ('shared', LOSS), ('alone', LOSS)),
)


def get_study(size: str = 'small') -> Study:
    """A teacher; four students of half its depth that differ in start and teaching; the teacher's shape with shared layers."""
    layers = SIZES[size][4]
    titles = {
        'teacher': f'teacher, {layers} layers',
        'teacher-more': 'the same, trained on',
        'distilled': f'{layers // 2} layers, started from it and taught by it',
        'alone': f'{layers // 2} layers, alone',
        'taught-only': f'{layers // 2} layers, taught, random start',
        'started-only': f'{layers // 2} layers, started, not taught',
        'shared': f'{layers} layers, all shared',
    }
    rows = tuple(Row(title, {'run': (name,)}) for name, title in titles.items())
    return Study(
        name='distillation',
        runs=make_runs(size),
        table=Table('Teaching, starting and sharing at equal steps', rows, COLUMNS, score='MLM loss (nats)'),
        claims=CLAIMS,
    )


def make_runs(size: str) -> dict[str, Experiment]:
    """The runs by name."""
    first_steps, more_steps, steps, batch, layers, width = SIZES[size]
    teacher = Experiment(
        name='teacher',
        model=make_narrow(8192, layers, width, length=128),
        data=Data(length=128),
        losses=Losses(mlm=Mlm(1.0)),
        optimizer=Optimizer(lr=1e-3, warmup=0.05),
        run=make_schedule(first_steps, batch),
    )
    half = dataclasses.replace(teacher.model, layers=layers // 2)
    shared = dataclasses.replace(teacher.model, sharing='all')
    alone = dataclasses.replace(teacher, model=half, run=make_schedule(steps, batch))
    taught = Losses(mlm=Mlm(2.0), soft=Soft(5.0), cosine=Match(1.0))
    runs = {
        'teacher': teacher,
        'teacher-more': dataclasses.replace(teacher, start='@teacher', seed=1, run=make_schedule(more_steps, batch)),
        'distilled': dataclasses.replace(alone, teacher='@teacher-more', start='teacher', losses=taught),
        'alone': alone,
        'shared': dataclasses.replace(alone, model=shared),
        'taught-only': dataclasses.replace(alone, teacher='@teacher-more', losses=taught),
        'started-only': dataclasses.replace(alone, start='@teacher-more'),
    }
    return {name: dataclasses.replace(x, name=name) for name, x in runs.items()}


def make_schedule(steps: int, batch: int) -> Run:
    """A Run that logs a hundred times and evaluates twenty times."""
    twentieth = max(steps // 20, 1)
    return Run(steps=steps, batch=batch, log_every=max(steps // 100, 1), evaluate_every=twentieth, checkpoint_every=twentieth)
