"""How large must the vocabulary's embeddings be? Lan et al. 2020, Table 3.

    python launch.py --config=experiments/albert_embedding_size.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (for SST-2 at `small`; without it TFDS fetches SST-2)

Hypothesis: without sharing, larger embeddings are a little better; with all layers shared a small size is enough, and the largest
is not the best. Refuted if a claim is, or if the measured averages are not in the published order.

What `small` can say: its sizes have the paper's order, not its meaning. An embedding of E pieces bounds the rank of the logits by E
whatever the width (Yang et al. 2018), so E = 16 of a width of 128 is no E = 96 of a width of 768, and published numbers stand
beside these rows for their order alone. E = width is also the one size without a projection: its control has one
(`model.projection`), and only the control differs from the smaller sizes in E alone.
"""

import dataclasses

from configs import albert
from experiments.papers import ALBERT_COLUMNS, Variant, ask_albert, claim_gain, load_recipe, make_study, parse_scores, scale_down
from research.study.study import Study

# Size -> the embedding sizes in place of the paper's 64, 128, 256 and 768 (at tiny: of its first and its last).
SIZES = {'tiny': (8, 32), 'small': (16, 32, 64, 128), 'paper': (64, 128, 256, 768)}
PUBLISHED = {
    'none': (
        '89.9/82.9 80.1/77.8 82.9 91.5 66.7 81.3',
        '89.9/82.8 80.3/77.3 83.7 91.5 67.9 81.7',
        '90.2/83.2 80.3/77.4 84.1 91.9 67.3 81.8',
        '90.4/83.2 80.4/77.6 84.5 92.8 68.2 82.3',
    ),
    'all': (
        '88.7/81.4 77.5/74.8 80.8 89.4 63.5 79.0',
        '89.3/82.3 80.0/77.1 81.6 90.3 64.0 80.1',
        '88.8/81.5 79.1/76.3 81.5 90.3 63.4 79.6',
        '88.6/81.5 79.2/76.6 82.0 90.6 63.3 79.8',
    ),
}
TITLES = {'none': 'not shared', 'all': 'all shared'}


def get_study(size: str = 'small') -> Study:
    """Four embedding sizes and a control with a projection at the largest, without sharing and with all layers shared."""
    base = scale_down(load_recipe(albert, 'base'), size)
    sizes = SIZES[size]
    variants = {}
    for sharing, numbers in PUBLISHED.items():
        for embedding, known in zip(sizes, numbers if len(sizes) == 4 else (numbers[0], numbers[-1]), strict=True):
            x = dataclasses.replace(base, model=dataclasses.replace(base.model, sharing=sharing, embedding=embedding))
            title = f'{TITLES[sharing]}, E={embedding}'
            variants[f'{sharing}-E{embedding}'] = Variant(title, x, parse_scores(ALBERT_COLUMNS, known), shape=(12, 768))
        control = dataclasses.replace(x, model=dataclasses.replace(x.model, projection=True))
        variants[f'{sharing}-projected'] = Variant(f'{title}, with a projection', control)
    least, most = sizes[0], sizes[-1]
    claims = (
        claim_gain('unshared, the largest embedding beats the smallest', f'none-E{most}', f'none-E{least}'),
        claim_gain('it does so by its size, not by having no projection', 'none-projected', f'none-E{least}'),
    )
    return make_study(ask_albert('albert_embedding_size', 'embedding size', 'Table 3', variants, claims), size)
