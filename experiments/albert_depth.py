"""How deep should a network be whose layers share all? Lan et al. 2020, Table 11.

    python launch.py --config=experiments/albert_depth.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (for SST-2 at `small`; without it TFDS fetches SST-2)

Hypothesis: depth helps with diminishing returns, and beyond some depth not at all. As in the paper each depth starts from the
shallower one, so that a deeper row has seen more text. The control is the shallowest model with as many steps as the whole chain.
Refuted if a claim is, or if the measured averages are not in the published order.
"""

import dataclasses

from configs import albert
from experiments.papers import ALBERT_COLUMNS, Variant, ask_albert, claim_gain, load_recipe, make_study, parse_scores, scale_down
from research.study.study import Study

SIZES = {'tiny': (1, 2), 'small': (1, 2, 3, 6, 12), 'paper': (1, 3, 6, 12, 24, 48)}
PUBLISHED = {  # layers -> the row of the paper
    1: '31.1/22.9 50.1/50.1 66.4 80.8 40.1 52.9',
    3: '79.8/69.7 64.4/61.7 77.7 86.7 54.0 71.2',
    6: '86.4/78.4 73.8/71.1 81.2 88.9 60.9 77.2',
    12: '89.8/83.3 80.7/77.9 83.3 91.7 66.7 81.5',
    24: '90.3/83.3 81.8/79.0 83.3 91.5 68.7 82.1',
    48: '90.0/83.1 81.8/78.9 83.4 91.9 66.9 81.8',
}


def get_study(size: str = 'small') -> Study:
    """ALBERT-large's shape at several depths, each started from the shallower one, and the shallowest for the steps of all."""
    base = scale_down(load_recipe(albert, 'large'), size)
    variants, before = {}, ''
    for layers in SIZES[size]:
        x = dataclasses.replace(base, model=dataclasses.replace(base.model, layers=layers), start=before)
        known = parse_scores(ALBERT_COLUMNS, PUBLISHED[layers]) if layers in PUBLISHED else {}
        variants[f'L{layers}'] = Variant(f'{layers} layer{"s" if layers > 1 else ""}', x, known, shape=(layers, 1024))
        before = f'@L{layers}'
    first, second, *_ = variants
    deepest = list(variants)[-1]
    alone = variants[first].experiment
    longer = dataclasses.replace(alone, run=dataclasses.replace(alone.run, steps=len(SIZES[size]) * alone.run.steps))
    variants['control'] = Variant(f'{variants[first].title}, the steps of all rows above', longer)
    claims = (
        claim_gain('depth helps although it adds no parameters', second, first),
        claim_gain('and not only by more steps', deepest, 'control'),
    )
    note = 'Each depth but the first starts from the one above it, so it has seen the text of all above.'
    return make_study(dataclasses.replace(ask_albert('albert_depth', 'depth', 'Table 11', variants, claims), note=note), size)
