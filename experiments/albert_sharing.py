"""Which parameters can layers share? Lan et al. 2020, Table 4.

    python launch.py --config=experiments/albert_sharing.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (for SST-2 at `small`; without it TFDS fetches SST-2)

Hypothesis: sharing attention costs nothing; sharing the feed-forward blocks costs most of the loss that sharing all costs, at both
embedding sizes. Refuted if a claim is, or if the measured averages are not in the published order. `small` has the larger size
alone, without a projection: the smaller would double its hours.
"""

import dataclasses

from configs import albert
from experiments.papers import ALBERT_COLUMNS, Variant, ask_albert, claim_gain, load_recipe, make_study, parse_scores, scale_down
from research.study.study import Study

# Size -> the embedding sizes in place of the paper's 768 and 128.
SIZES = {'tiny': (32, 8), 'small': (128,), 'paper': (768, 128)}
PUBLISHED = {  # strategy -> the rows of E=768 and of E=128
    'all': ('88.6/81.5 79.2/76.6 82.0 90.6 63.3 79.8', '89.3/82.3 80.0/77.1 82.0 90.3 64.0 80.1'),
    'attention': ('89.9/82.7 80.0/77.2 84.0 91.4 67.7 81.6', '89.9/82.8 80.7/77.9 83.4 91.9 67.6 81.7'),
    'ffn': ('89.2/82.1 78.2/75.4 81.5 90.8 62.6 79.5', '88.9/81.6 78.6/75.6 82.3 91.7 64.4 80.2'),
    'none': ('90.4/83.2 80.4/77.6 84.5 92.8 68.2 82.3', '89.9/82.8 80.3/77.3 83.2 91.5 67.9 81.6'),
}
CLAIMS = (
    ('sharing attention costs less than sharing the rest', 'attention', 'ffn'),
    ('sharing all layers costs', 'none', 'all'),
)
TITLES = {'all': 'all shared', 'attention': 'attention shared', 'ffn': 'feed-forward shared', 'none': 'not shared'}


def get_study(size: str = 'small') -> Study:
    """Four strategies at two embedding sizes."""
    base = scale_down(load_recipe(albert, 'base'), size)
    variants = {}
    for place, embedding in enumerate(SIZES[size]):
        for sharing, known in PUBLISHED.items():
            model = dataclasses.replace(base.model, sharing=sharing, embedding=embedding)
            variants[f'E{embedding}-{sharing}'] = Variant(
                f'E={embedding}, {TITLES[sharing]}',
                dataclasses.replace(base, model=model),
                parse_scores(ALBERT_COLUMNS, known[place]),
                shape=(12, 768),
            )
    claims = tuple(
        claim_gain(text, f'E{embedding}-{better}', f'E{embedding}-{worse}')
        for embedding in SIZES[size]
        for text, better, worse in CLAIMS
    )
    return make_study(ask_albert('albert_sharing', 'cross-layer sharing', 'Table 4', variants, claims), size)
