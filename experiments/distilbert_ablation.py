"""Which part of DistilBERT matters: soft targets, hidden states, masked words, or the start? Sanh et al. 2019, Table 4.

    python launch.py --config=experiments/distilbert_ablation.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (for SST-2 at `small`; without it TFDS fetches SST-2)

The paper's rows name the losses that remain: "∅ − Lcos − Lmlm" has cosine and MLM, and lacks soft targets. Its numbers are changes
of GLUE's score against the student with all three losses and the teacher's layers: −2.96 without soft targets, −1.46 without
cosine, −0.31 without MLM, −3.69 from random weights. The column Change shows the same: Avg over the tasks minus that of the student
with all, on dev, seed by seed.

Hypotheses: without soft targets, without cosine, and from random weights a student gains less over the frequencies of held-out
pieces than with all. Each is refuted if its claim is. None is about the student without MLM, since that measure favours those that
train on it. At `small`, Change is over SST-2 and `packages`, and only its order compares with
the paper's.
"""

import dataclasses

from experiments.distilbert_glue import NINE, PRINTED, make_pair
from experiments.papers import DISTILBERT_SETTING, SCALES, Question, Variant, claim_gain, make_study
from research.experiment import Experiment
from research.objectives.losses import Match, Mlm, Soft
from research.study.study import Study

SIZES = (*SCALES, 'paper')
WHOLE = 'all three losses'
ROWS = {  # variant -> its title, the published change
    'no-soft': ('∅ − Lcos − Lmlm: without soft targets', -2.96),
    'no-cosine': ('Lce − ∅ − Lmlm: without cosine', -1.46),
    'no-mlm': ('Lce − Lcos − ∅: without MLM', -0.31),
    'random': ('all three losses, random weights initialization', -3.69),
}
CLAIMS = tuple(
    claim_gain(f'{what} help', 'distilbert', key)
    for key, what in (('no-soft', 'soft targets'), ('no-cosine', 'hidden states'), ('random', 'the layers of the teacher'))
)


def get_study(size: str = 'small') -> Study:
    """A teacher, the student with all losses and its start, and four students that lack one of these."""
    teacher, student = make_pair(size)
    lacking = make_lacking(student)
    variants = {
        'bert': Variant('BERT, the teacher', teacher),
        'distilbert': Variant(WHOLE, student, shape=(6, 768)),
        **{key: Variant(title, lacking[key], {'Change': change}, shape=(6, 768)) for key, (title, change) in ROWS.items()},
    }
    question = Question(
        name='distilbert_ablation',
        title='DistilBERT, what remains of its losses',
        source='Sanh et al. 2019, Table 4',
        variants=variants,
        tasks=NINE,
        family='distilbert',
        averaged=NINE,
        claims=CLAIMS,
        change=WHOLE,
        printed=PRINTED,
        setting=DISTILBERT_SETTING,
    )
    return make_study(question, size)


def make_lacking(student: Experiment) -> dict[str, Experiment]:
    """Variant -> the student without one loss, all others unchanged; or from random weights."""
    losses = student.losses
    return {
        'no-soft': dataclasses.replace(student, losses=dataclasses.replace(losses, soft=Soft())),
        'no-cosine': dataclasses.replace(student, losses=dataclasses.replace(losses, cosine=Match())),
        'no-mlm': dataclasses.replace(student, losses=dataclasses.replace(losses, mlm=Mlm())),
        'random': dataclasses.replace(student, start=''),
    }
