"""How wide should a network be whose layers share all? Lan et al. 2020, Table 12.

    python launch.py --config=experiments/albert_width.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (for SST-2 at `small`; without it TFDS fetches SST-2)

Hypothesis: width helps with diminishing returns, and the widest is worse again. Refuted if a claim is, or if the measured averages
are not in the published order. All widths see as many pieces; a wider model takes more FLOPs for them.
"""

import dataclasses

from configs import albert
from experiments.papers import (
    ALBERT_COLUMNS,
    Variant,
    ask_albert,
    claim_gain,
    load_recipe,
    make_study,
    parse_scores,
    reshape,
    scale_down,
)
from research.study.study import Study

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
    base = scale_down(load_recipe(albert, 'large'), size)
    variants = {}
    for width, printed, known in zip(widths, SIZES['paper'][1], PUBLISHED, strict=False):
        model = reshape(base.model, layers, width, width // head)
        variants[f'H{width}'] = Variant(
            f'width {width}', dataclasses.replace(base, model=model), parse_scores(ALBERT_COLUMNS, known), shape=(3, printed)
        )
    first, second, *more = variants
    claims = [claim_gain('width helps', second, first)]
    if more:
        claims.append(claim_gain('the widest is worse again', more[-2], more[-1]))
    return make_study(ask_albert('albert_width', 'width', 'Table 12', variants, tuple(claims)), size)
