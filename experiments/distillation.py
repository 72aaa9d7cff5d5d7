"""How much does a teacher help, and what does sharing cost, at equal steps, on a corpus of your own?

    python launch.py --config=experiments/distillation.py:small --workdir=runs/books \
        --config.data.source='jsonl:books.jsonl.xz'

Hypotheses: (1) a student of half the depth, started from its teacher's layers and distilled by soft targets and hidden states,
gains more over the frequencies of held-out pieces than the same student alone (Sanh et al. 2019); (2) a part of that is due to the
start, a part to distillation (their Table 4: −3.69 points of GLUE's score without the start, −2.96 without soft targets, −1.46
without cosine); (3) sharing all layers costs some of the gain and saves no FLOPs (Lan et al. 2020, Table 4). Each is refuted if its
claim under the table is. A seed is a teacher and its own students. The row that is started and trains nothing is what the start is
worth before a step.

All are trained by `configs/bert.py:budget`. The causal batches that come first in it are for the teacher and for what learns alone
from random weights, which would stay at the frequencies without them; a started model has left these, and a taught one has its
teacher, which knows masked pieces alone.

The teacher is matched at every attended position, as in DistilBERT; `--config.losses.soft.at=masked` matches it only where pieces
are predicted, which costs less.
"""

import dataclasses

from configs import bert
from experiments.papers import SEEDS, claim_gain, make_schedule
from research.data.settings import Causal
from research.experiment import Experiment, Run
from research.objectives.losses import Losses, Match, Mlm, Soft
from research.study.columns import COLUMNS, Column
from research.study.seeds import repeat
from research.study.study import Row, Study, Table

# Steps of the teacher, steps of the other runs, batch, layers, width. At `small` 12 and 5 million pieces.
SIZES = {
    'tiny': (20, 20, 8, 2, 32),
    'small': (5000, 2000, 32, 4, 128),
    'medium': (40_000, 20_000, 64, 6, 256),
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
    claim_gain('teaching adds to the start', 'distilled', 'started-only'),
    claim_gain('training adds to the start', 'started-only', 'truncated'),
    claim_gain('depth that shares one block helps', 'shared', 'alone'),
)


def get_study(size: str = 'small') -> Study:
    """A teacher; four students of half its depth that differ in start and teaching; the start as it is; shared layers."""
    layers = SIZES[size][3]
    titles = {
        'teacher': f'teacher, {layers} layers',
        'truncated': f'{layers // 2} layers of it, as they are',
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
    first_steps, steps, batch, layers, width = SIZES[size]
    recipe = bert.budget()
    teacher = dataclasses.replace(
        recipe,
        model=bert.make_narrow(recipe.model.vocabulary, layers, width, recipe.model.positions),
        run=make_schedule(first_steps, batch),
    )
    alone = dataclasses.replace(
        teacher, model=dataclasses.replace(teacher.model, layers=layers // 2), run=make_schedule(steps, batch)
    )
    helped = dataclasses.replace(alone, data=dataclasses.replace(alone.data, causal=Causal()))
    taught = Losses(mlm=Mlm(2.0), soft=Soft(5.0), cosine=Match(1.0))
    runs = {
        'teacher': teacher,
        'truncated': dataclasses.replace(helped, start='@teacher', run=Run(steps=0, batch=batch)),
        'distilled': dataclasses.replace(helped, teacher='@teacher', start='teacher', losses=taught),
        'alone': alone,
        'taught-only': dataclasses.replace(helped, teacher='@teacher', losses=taught),
        'started-only': dataclasses.replace(helped, start='@teacher'),
        'shared': dataclasses.replace(alone, model=dataclasses.replace(teacher.model, sharing='all')),
    }
    return {name: dataclasses.replace(x, name=name) for name, x in runs.items()}
