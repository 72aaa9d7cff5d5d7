"""What does a loss about pairs of sentences give? Lan et al. 2020, Table 5.

    python launch.py --config=experiments/albert_sentence_loss.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (for SST-2 at `small`; without it TFDS fetches SST-2)

Hypothesis: sentence order (SOP) is harder than next sentence (NSP), teaches most of it and helps tasks more, and NSP teaches no
order. Refuted if a claim does not hold, or if the measured averages are not in the published order. The paper does not say how it
measured a model on pairs that it was not trained on. Here every model is measured on both in one way: its embeddings and layers are
frozen, and a new pooler and a new classifier are trained for a tenth of its steps.
"""

import dataclasses

from configs import albert
from experiments import papers
from experiments.papers import ALBERT_COLUMNS, ALBERT_TASKS, Question, Variant, load_recipe, parse_scores
from research.experiment import Experiment
from research.objectives.losses import Losses, Mlm, Plain
from research.optim import Optimizer
from research.study.columns import COLUMNS, Column
from research.study.study import Claim, Study
from research.surgery import Surgery

SIZES = papers.SIZES
LOSSES = {
    'none': Losses(mlm=Mlm(1.0)),
    'nsp': Losses(mlm=Mlm(1.0), nsp=Plain(1.0)),
    'sop': Losses(mlm=Mlm(1.0), sop=Plain(1.0)),
}
INTRINSIC = ('MLM accuracy (%)', 'NSP accuracy (%)', 'SOP accuracy (%)')
PUBLISHED = {
    'none': '54.9 52.4 53.3 88.6/81.5 78.1/75.3 81.5 89.9 61.7 79.0',
    'nsp': '54.5 90.5 52.0 88.4/81.5 77.2/74.6 81.6 91.1 62.3 79.2',
    'sop': '54.0 78.9 86.5 89.3/82.3 80.0/77.1 82.0 90.3 64.0 80.1',
}


OF_PROBES = 'of a classifier on the frozen layers'
COLUMNS_OF_PAIRS = (
    COLUMNS['mlm'],
    COLUMNS['mlm_accuracy'],
    Column(INTRINSIC[1], 'nsp', 'metrics:dev/nsp_accuracy', 'percent', 'max', OF_PROBES),
    Column(INTRINSIC[2], 'sop', 'metrics:dev/sop_accuracy', 'percent', 'max', OF_PROBES),
)
CLAIMS = (
    Claim(
        'sentence order is the harder question: the accuracy of {a} on its own pairs is below that of {b} on its own',
        ('sop-sop', 'metrics:dev/sop_accuracy'),
        ('nsp-nsp', 'metrics:dev/nsp_accuracy'),
    ),
    Claim(
        'next sentences do not teach order: the accuracy of {a} on SOP is below that of {b}',
        ('nsp-sop', 'metrics:dev/sop_accuracy'),
        ('sop-sop', 'metrics:dev/sop_accuracy'),
    ),
    Claim(
        'order teaches next sentences: the accuracy of {a} on NSP is below that of {b}',
        ('none-nsp', 'metrics:dev/nsp_accuracy'),
        ('sop-nsp', 'metrics:dev/nsp_accuracy'),
    ),
)


def get_study(size: str = 'small') -> Study:
    """The same model without a loss of pairs, with NSP and with SOP."""
    base = papers.scale_down(load_recipe(albert, 'base'), size)
    variants = {
        pairs: Variant(
            pairs.upper() if pairs != 'none' else pairs,
            dataclasses.replace(base, losses=losses, data=dataclasses.replace(base.data, pairs=pairs)),
            parse_scores((*INTRINSIC, *ALBERT_COLUMNS), PUBLISHED[pairs]),
        )
        for pairs, losses in LOSSES.items()
    }
    question = Question(
        name='albert_sentence_loss',
        title='ALBERT, sentence losses',
        source='Lan et al. 2020, Table 5',
        variants=variants,
        tasks=ALBERT_TASKS,
        family='albert',
        averaged=ALBERT_TASKS,
        claims=CLAIMS,
        columns=COLUMNS_OF_PAIRS,
        probes={pairs: make_probe(base, pairs) for pairs in ('nsp', 'sop')},
    )
    return papers.make_study(question, size)


def make_probe(base: Experiment, pairs: str) -> Experiment:
    """The training of a new pooler and classifier for `pairs` on the frozen layers of `base`."""
    frozen = ('embeddings', *(f'layer_{layer}' for layer in range(base.model.layers)))
    return dataclasses.replace(
        base,
        losses=dataclasses.replace(LOSSES[pairs], mlm=Mlm()),
        data=dataclasses.replace(base.data, pairs=pairs),
        surgery=Surgery(drop=('pair', 'encoder/pooler')),  # so that no model begins with a trained classifier
        optimizer=Optimizer(lr=1e-3, warmup=0.1, frozen=frozen),
        run=dataclasses.replace(base.run, steps=max(base.run.steps // 10, 2), evaluate_every=0),
    )
