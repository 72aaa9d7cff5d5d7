"""Is ALBERT better than BERT after equal training time? Lan et al. 2020, Table 6.

    python launch.py --config=experiments/albert_time.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (for SST-2 at `small`; without it TFDS fetches SST-2)

Hypothesis: a wide ALBERT that trains for as long as a deeper BERT of less width is better, although it takes fewer steps
(published: 88.7 against 87.2 on average; 125,000 steps in 32 h, 400,000 in 34 h). Refuted if the claim is.

At `paper` the steps are the published ones. At `small` ALBERT takes the size's steps, and BERT as many as cost the same FLOPs by
the prediction of `research.costs`; the column Time shows how equal the seconds were. The paper's BERT is ALBERT's recipe with
neither sharing nor factorised embeddings: the row of Table 4 that is not shared equals its BERT-base. Its ALBERT-xxlarge has the 12
layers of Table 1.
"""

import dataclasses

from configs import albert
from experiments.budgets import count_step_flops
from experiments.papers import (
    ALBERT_COLUMNS,
    ALBERT_SETTING,
    SCALES,
    Variant,
    ask_albert,
    claim_gain,
    load_recipe,
    make_study,
    parse_scores,
    reshape,
    scale_down,
)
from research.experiment import Experiment
from research.study.study import Study

# Size -> (layers, width, heads) of BERT and of ALBERT; `paper` has those of the recipes.
SHAPES = {'tiny': ((2, 32, 2), (1, 64, 4)), 'small': ((4, 128, 4), (2, 256, 8))}
SIZES = (*SCALES, 'paper')
STEPS = {'bert-large': 400_000, 'albert-xxlarge': 125_000}
PUBLISHED = {
    'bert-large': ('BERT-large', '400,000 steps in 34 h', '93.5/87.4 86.9/84.3 87.8 94.6 77.3 87.2', (24, 1024)),
    'albert-xxlarge': ('ALBERT-xxlarge', '125,000 steps in 32 h', '94.0/88.1 88.3/85.3 87.8 95.4 82.5 88.7', (12, 4096)),
}


def get_study(size: str = 'small') -> Study:
    """The two models, with the steps that make their training equally long."""
    variants = {
        key: Variant(title, x, parse_scores(ALBERT_COLUMNS, known), {'Steps': f'{x.run.steps:,}', 'Published': time}, shape)
        for (key, x), (title, time, known, shape) in zip(make_models(size).items(), PUBLISHED.values(), strict=True)
    }
    claims = (claim_gain('at equal time width beats steps', 'albert-xxlarge', 'bert-large'),)
    question = ask_albert('albert_time', 'equal training time', 'Table 6', variants, claims)
    # Each row has its own steps, which at `paper` are the published ones.
    return make_study(dataclasses.replace(question, setting=dataclasses.replace(ALBERT_SETTING, pieces=0.0)), size)


def make_models(size: str) -> dict[str, Experiment]:
    """The pretraining of BERT and of ALBERT at a size."""
    first, second = (scale_down(load_recipe(albert, name), size) for name in ('large', 'xxlarge'))
    plain = dataclasses.replace(first.model, sharing='none', embedding=first.model.width)
    first = dataclasses.replace(first, model=plain)
    if size in SHAPES:
        first, second = (
            dataclasses.replace(x, model=reshape(x.model, *shape)) for x, shape in zip((first, second), SHAPES[size], strict=True)
        )
        steps = round(second.run.steps * count_step_flops(second, {}) / count_step_flops(first, {}))
        first = dataclasses.replace(first, run=dataclasses.replace(first.run, steps=steps))
    else:
        first, second = (
            dataclasses.replace(x, run=dataclasses.replace(x.run, steps=steps))
            for x, steps in zip((first, second), STEPS.values(), strict=True)
        )
    return dict(zip(PUBLISHED, (first, second), strict=True))
