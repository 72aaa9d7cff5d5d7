"""How much does a teacher help, and what does sharing cost, at equal steps, on a corpus of your own?

    python launch.py --config=experiments/distillation.py:small --workdir=runs/books \
        --config.data.source='jsonl:books.jsonl.xz'

Hypotheses: (1) a student of half the depth, started from its teacher's layers and distilled by soft targets and hidden states,
gains more over the frequencies of held-out pieces than the same student alone (Sanh et al. 2019); (2) a part of that is due to the
start, a part to distillation (their Table 4: −3.69 points of GLUE's score without the start, −2.96 without soft targets, −1.46
without cosine); (3) sharing all layers costs some of the gain and saves no FLOPs (Lan et al. 2020, Table 4). Each is refuted if its
claim under the table is. A seed is a teacher and its own students; "the same, trained on" is the teacher that they have.

The teacher is matched at every attended position, as in DistilBERT; `--config.losses.soft.at=masked` matches it only where pieces
are predicted, which costs less.
"""

import dataclasses

from configs.bert import make_narrow
from experiments.papers import SEEDS, claim_gain
from research.data.settings import Data
from research.experiment import Experiment, Run
from research.objectives.losses import Losses, Match, Mlm, Soft
from research.optim import Optimizer
from research.study.columns import COLUMNS, Column
from research.study.seeds import repeat
from research.study.study import Row, Study, Table

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

COLUMNS_OF_RUNS = (
    Column('Parameters (M)', 'run', 'parameters:encoder', 'millions', 'min'),
    Column('FLOPs a token (M)', 'run', 'flops_per_token', 'millions', 'min'),
    dataclasses.replace(COLUMNS['gain'], role='run'),
    Column('MLM loss (nats)', 'run', 'metrics:dev/mlm', 'plain', 'min'),
    Column('MLM accuracy (%)', 'run', 'metrics:dev/mlm_accuracy', 'percent', 'max'),
    Column('Latency (ms)', 'run', 'latency_seconds', 'milliseconds', 'min'),
)
CLAIMS = (
    claim_gain('distillation helps', 'distilled', 'alone'),
    claim_gain('teaching alone helps', 'taught-only', 'alone'),
    claim_gain('the start alone helps', 'started-only', 'alone'),
    claim_gain('depth that shares one block helps', 'shared', 'alone'),
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
    study = Study(
        name='distillation',
        runs=make_runs(size),
        table=Table('Teaching, starting and sharing at equal steps', rows, COLUMNS_OF_RUNS, score=COLUMNS['gain'].title),
        claims=CLAIMS,
    )
    return repeat(study, SEEDS[size])


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
