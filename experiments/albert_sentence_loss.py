"""What does a loss about pairs of sentences give? Lan et al. 2020, Table 5.

    python launch.py --config=experiments/albert_sentence_loss.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (for SST-2 at `small`; without it TFDS fetches SST-2)

Hypothesis: sentence order (SOP) is harder than next sentence (NSP), teaches most of it and helps tasks more, and NSP teaches no
order. Refuted if a claim is, or if the measured averages are not in the published order.

Rows without a loss of pairs read the very segments of the row that they are the control of, with the same masks; only the loss is
off. (The paper's row without one reads single segments, as XLNet and RoBERTa do.) Every model is asked about both kinds of pairs
twice: by the head that it has, as it is, without a step (a model without a loss of pairs has a random one) — the published numbers
stand beside these; and by a probe: a new pooler and classifier on its frozen layers, trained for a tenth of the steps, which no
paper prints. All rows have seen two segments, so that the frozen embeddings of the second are trained in each.
"""

import dataclasses

from configs import albert
from experiments.papers import (
    ALBERT_COLUMNS,
    SCALES,
    Variant,
    ask_albert,
    load_recipe,
    make_study,
    parse_scores,
    scale_down,
)
from research.experiment import Experiment
from research.objectives.losses import Losses, Mlm, Plain
from research.optim import Optimizer
from research.study.columns import COLUMNS, Column
from research.study.study import Claim, Study
from research.surgery import Surgery

SIZES = (*SCALES, 'paper')
LOSSES = {
    'nsp': Losses(mlm=Mlm(1.0), nsp=Plain(1.0)),
    'sop': Losses(mlm=Mlm(1.0), sop=Plain(1.0)),
}
# Row -> its title, what its segments are, whether they are asked about.
ROWS = {
    'none': ('none, on the segments of SOP', 'sop', False),
    'nsp-off': ('none, on the segments of NSP', 'nsp', False),
    'nsp': ('NSP', 'nsp', True),
    'sop': ('SOP', 'sop', True),
}
INTRINSIC = ('MLM accuracy (%)', 'NSP accuracy (%)', 'SOP accuracy (%)')
PUBLISHED = {
    'none': '54.9 52.4 53.3 88.6/81.5 78.1/75.3 81.5 89.9 61.7 79.0',
    'nsp': '54.5 90.5 52.0 88.4/81.5 77.2/74.6 81.6 91.1 62.3 79.2',
    'sop': '54.0 78.9 86.5 89.3/82.3 80.0/77.1 82.0 90.3 64.0 80.1',
}
KEYS = {'nsp': 'metrics:dev/nsp_accuracy', 'sop': 'metrics:dev/sop_accuracy'}
COLUMNS_OF_PAIRS = (
    COLUMNS['gain'],
    COLUMNS['mlm'],
    COLUMNS['mlm_accuracy'],
    *(
        Column(f'{pairs.upper()} accuracy (%)', f'{pairs}-head', key, 'percent', 'max', 'of the model’s own head as it is')
        for pairs, key in KEYS.items()
    ),
    *(
        Column(
            f'{pairs.upper()} probe (%)', f'{pairs}-probe', key, 'percent', 'max', 'of a classifier trained on the frozen layers'
        )
        for pairs, key in KEYS.items()
    ),
)
CLAIMS = (
    Claim(
        'sentence order is the harder question: the accuracy of {a} on its own pairs is below that of {b} on its own',
        ('sop-sop-head', KEYS['sop']),
        ('nsp-nsp-head', KEYS['nsp']),
    ),
    Claim(
        'next sentences do not teach order: the accuracy of {a} on SOP is below that of {b}',
        ('nsp-sop-head', KEYS['sop']),
        ('sop-sop-head', KEYS['sop']),
    ),
    Claim(
        'order teaches next sentences: the accuracy of {a} on NSP is below that of {b}',
        ('none-nsp-head', KEYS['nsp']),
        ('sop-nsp-head', KEYS['nsp']),
    ),
    Claim(
        'a probe finds so too: the accuracy on NSP of a probe of {a} is below that of {b}',
        ('none-nsp-probe', KEYS['nsp']),
        ('sop-nsp-probe', KEYS['nsp']),
    ),
)


def get_study(size: str = 'small') -> Study:
    """The same model with NSP, with SOP, and without a loss of pairs on the segments of either."""
    base = scale_down(load_recipe(albert, 'base'), size, pairs=True)
    variants = {}
    for key, (title, pairs, asked) in ROWS.items():
        losses = LOSSES[pairs] if asked else Losses(mlm=Mlm(1.0))
        x = dataclasses.replace(base, losses=losses, data=dataclasses.replace(base.data, pairs=pairs))
        known = parse_scores((*INTRINSIC, *ALBERT_COLUMNS), PUBLISHED[key]) if key in PUBLISHED else {}
        variants[key] = Variant(title, x, known, shape=(12, 768))
    question = ask_albert('albert_sentence_loss', 'sentence losses', 'Table 5', variants, CLAIMS)
    probes = {f'{pairs}-head': make_head(base, pairs) for pairs in LOSSES}
    probes |= {f'{pairs}-probe': make_probe(base, pairs) for pairs in LOSSES}
    return make_study(dataclasses.replace(question, columns=COLUMNS_OF_PAIRS, probes=probes), size)


def make_head(base: Experiment, pairs: str) -> Experiment:
    """The measurement of a model's own classifier on `pairs`, on all held-out text, without a step."""
    return dataclasses.replace(
        base,
        losses=dataclasses.replace(LOSSES[pairs], mlm=Mlm()),
        data=dataclasses.replace(base.data, pairs=pairs),
        run=dataclasses.replace(base.run, steps=0, evaluate_every=0, evaluate_batches=0),
    )


def make_probe(base: Experiment, pairs: str) -> Experiment:
    """The training of a new pooler and classifier for `pairs` on the frozen layers of `base`."""
    frozen = ('embeddings', *(f'layer_{layer}' for layer in range(base.model.layers)))
    head = make_head(base, pairs)
    return dataclasses.replace(
        head,
        surgery=Surgery(drop=('pair', 'encoder/pooler')),  # so that no model begins with a trained classifier
        optimizer=Optimizer(lr=1e-3, warmup=0.1, frozen=frozen),
        run=dataclasses.replace(head.run, steps=max(base.run.steps // 10, 2)),
    )
