"""What does the size of a BERT give: layers, width, heads? Devlin et al. 2019, Table 6.

    python launch.py --config=experiments/bert_size.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (for SST-2 at `small`; without it TFDS fetches SST-2)

Hypotheses: with each step of depth or width the held-out MLM loss falls, and twelve heads are better than three at one depth and
width. Each is refuted if its claim is. At `small` the shapes have the paper's ratios (depth 1 : 2 : 4 : 8, width 1 : 1.25) and not
its sizes: published numbers stand beside them for their order alone. All rows see as many pieces; a larger one takes more FLOPs.

The paper prints the perplexity of masked words on held-out text; its logarithm stands here, the loss in nats. MNLI, MRPC and SST-2
are accuracies on dev (MNLI matched), the means of five fine-tunings of one pretrained model.
"""

import dataclasses
import itertools
import math

from configs import bert
from experiments.papers import BERT_SETTING, Question, Variant, claim_gain, load_recipe, make_study, reshape, scale_down
from research.data.tasks.example import Printed
from research.study.columns import COLUMNS
from research.study.study import Claim, Study

# Size -> (layers, width, heads) of each row of the paper (at tiny: of two).
SIZES = {
    'tiny': ((1, 32, 2), (2, 32, 2)),
    'small': ((1, 128, 4), (2, 128, 1), (2, 128, 4), (4, 128, 4), (4, 160, 5), (8, 160, 5)),
    'paper': ((3, 768, 12), (6, 768, 3), (6, 768, 12), (12, 768, 12), (12, 1024, 16), (24, 1024, 16)),
}
PUBLISHED = (  # perplexity, MNLI, MRPC, SST-2
    (5.84, 77.9, 79.8, 88.4),
    (5.24, 80.6, 82.2, 90.7),
    (4.68, 81.9, 84.8, 91.3),
    (3.99, 84.4, 86.7, 92.9),
    (3.54, 85.7, 86.9, 93.3),
    (3.23, 86.6, 87.8, 93.7),
)
TASKS = ('mnli', 'mrpc', 'sst2')
FEW_HEADS = 1  # the row that differs from the next in its heads alone


def get_study(size: str = 'small') -> Study:
    """A model of each shape."""
    base = scale_down(load_recipe(bert, 'base'), size)
    variants = {}
    for (layers, width, heads), shape, (perplexity, *scores) in zip(SIZES[size], SIZES['paper'], PUBLISHED, strict=False):
        known = {COLUMNS['mlm'].title: math.log(perplexity), **dict(zip(('MNLI', 'MRPC', 'SST-2'), scores, strict=True))}
        x = dataclasses.replace(base, model=reshape(base.model, layers, width, heads))
        variants[f'L{layers}-H{width}-A{heads}'] = Variant(f'L={layers}, H={width}, A={heads}', x, known, shape=shape[:2])
    question = Question(
        name='bert_size',
        title='BERT, size',
        source='Devlin et al. 2019, Table 6',
        variants=variants,
        tasks=TASKS,
        family='bert',
        averaged=TASKS,
        setting=BERT_SETTING,
        claims=make_claims(list(variants)),
        printed={task: (Printed(title, 'metrics:dev/accuracy'),) for task, title in (('mnli', 'MNLI'), ('mrpc', 'MRPC'))},
    )
    return make_study(question, size)


def make_claims(names: list[str]) -> tuple[Claim, ...]:
    """Each row but that of few heads is better than the one before it, and that of few heads is worse than the next."""
    rising = [name for place, name in enumerate(names) if place != FEW_HEADS or len(names) == 2]
    claims = [claim_gain('size helps', larger, smaller) for smaller, larger in itertools.pairwise(rising)]
    if len(names) > 2:
        claims.append(claim_gain('more heads help', names[FEW_HEADS + 1], names[FEW_HEADS]))
    return tuple(claims)
