"""How wide should a network be whose layers share all? Lan et al. 2020, Table 12.

    python launch.py --config=experiments/albert_width.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (for SST-2 at `small`; without it TFDS fetches SST-2)

Hypothesis: width helps with diminishing returns, and the widest is worse again. Refuted if the measured averages are not in the
published order.
"""

import dataclasses

from configs import albert
from experiments import papers
from experiments.papers import ALBERT_COLUMNS, ALBERT_TASKS, Question, Variant, load_recipe, parse_scores
from research.study.study import Claim, Study

# Size -> (layers, widths, width of a head).
SIZES = {
    'tiny': (1, (32, 64), 16),
    'small': (3, (64, 128, 256, 384), 32),
    'paper': (3, (1024, 2048, 4096, 6144), 64),
}
PUBLISHED = (
    '79.8/69.7 64.4/61.7 77.7 86.7 54.0 71.2',
    '83.3/74.1 69.1/66.6 79.7 88.6 58.2 74.6',
    '85.0/76.4 71.0/68.1 80.3 90.4 60.4 76.3',
    '84.7/75.8 67.8/65.4 78.1 89.1 56.0 74.0',
)


def get_study(size: str = 'small') -> Study:
    """Four widths of a network of three layers, the embedding size the same."""
    layers, widths, head = SIZES[size]
    base = papers.scale_down(load_recipe(albert, 'large'), size)
    variants = {}
    for width, known in zip(widths, PUBLISHED, strict=False):
        model = dataclasses.replace(base.model, layers=layers, width=width, heads=width // head, inner=4 * width)
        variants[f'H{width}'] = Variant(
            f'width {width}', dataclasses.replace(base, model=model), parse_scores(ALBERT_COLUMNS, known)
        )
    first, second = list(variants)[:2]
    return papers.make_study(
        Question(
            name='albert_width',
            title='ALBERT, width',
            source='Lan et al. 2020, Table 12',
            variants=variants,
            tasks=ALBERT_TASKS,
            family='albert',
            averaged=ALBERT_TASKS,
            claims=(
                Claim(
                    'width helps: the held-out MLM loss of {a} is below that of {b}',
                    (second, 'metrics:dev/mlm'),
                    (first, 'metrics:dev/mlm'),
                ),
            ),
        ),
        size,
    )
