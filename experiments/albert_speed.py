"""How do sizes of BERT and ALBERT compare in score, parameters and speed of training? Lan et al. 2020, Table 2.

    python launch.py --config=experiments/albert_speed.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (for SST-2 at `small`; without it TFDS fetches SST-2)

Hypotheses: an ALBERT of BERT-large's shape trains faster than it (published: 1.7 times) and is worse; an ALBERT four times as wide
is better and slower (0.3 times). Each is refuted if its claim is. Speed-up is the measured number of pieces a second in training
relative to BERT-large's, on the same machine with nothing else running; the paper's is on Cloud TPU v3.

The paper's BERT is ALBERT's recipe with neither sharing nor factorised embeddings. Its row of xxlarge prints the scores that Table
13 has for 24 layers; Table 1 has 12, as here, and the scores beside this row are Table 13's for 12.
"""

import dataclasses

from configs import albert
from experiments.papers import (
    ALBERT_COLUMNS,
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
from research.study.columns import Column
from research.study.study import Claim, Study

SIZES = (*SCALES, 'paper')
PAPER = {'base': (12, 768), 'large': (24, 1024), 'xlarge': (24, 2048), 'xxlarge': (12, 4096)}  # layers, width
# Name of a shape -> (layers, width, heads) at a size; `paper` has those of the recipes.
SHAPES = {
    'tiny': {'base': (1, 32, 2), 'large': (2, 32, 2), 'xlarge': (2, 64, 4), 'xxlarge': (1, 64, 4)},
    'small': {'base': (3, 64, 2), 'large': (6, 96, 3), 'xlarge': (6, 192, 6), 'xxlarge': (3, 384, 12)},
}
PUBLISHED = {  # (family, name of a shape) -> speed-up, the row of the paper
    ('BERT', 'base'): (4.7, '90.4/83.2 80.4/77.6 84.5 92.8 68.2 82.3'),
    ('BERT', 'large'): (1.0, '92.2/85.5 85.0/82.2 86.6 93.0 73.9 85.2'),
    ('ALBERT', 'base'): (5.6, '89.3/82.3 80.0/77.1 81.6 90.3 64.0 80.1'),
    ('ALBERT', 'large'): (1.7, '90.6/83.9 82.3/79.4 83.5 91.7 68.5 82.4'),
    ('ALBERT', 'xlarge'): (0.6, '92.5/86.1 86.1/83.1 86.4 92.4 74.8 85.5'),
    ('ALBERT', 'xxlarge'): (0.3, '94.0/88.1 88.3/85.3 87.8 95.4 82.5 88.7'),
}
SPEED = 'tokens_per_second'
ON_TPU = 'speed-up on Cloud TPU v3'  # what the paper prints, and so no difference to it is shown
SPEED_UP = Column(
    'Speed-up', 'pretrain', SPEED, 'times', 'max', 'pieces a second in training', relative='BERT large', published=ON_TPU
)
CLAIMS = (
    Claim('sharing speeds training up: {a} trains fewer pieces a second than {b}', ('BERT-large', SPEED), ('ALBERT-large', SPEED)),
    Claim('width costs speed: {a} trains fewer pieces a second than {b}', ('ALBERT-xxlarge', SPEED), ('BERT-large', SPEED)),
    claim_gain('sharing costs', 'BERT-large', 'ALBERT-large'),
    claim_gain('width regains it', 'ALBERT-xxlarge', 'BERT-large'),
)


def get_study(size: str = 'small') -> Study:
    """Two sizes of BERT and four of ALBERT."""
    variants = {}
    for (family, name), (speed, known) in PUBLISHED.items():
        published = {SPEED_UP.title: speed, **parse_scores(ALBERT_COLUMNS, known)}
        x = make_model(family, name, size)
        variants[f'{family}-{name}'] = Variant(f'{family} {name}', x, published, shape=PAPER[name])
    question = ask_albert('albert_speed', 'sizes and speed', 'Table 2', variants, CLAIMS)
    return make_study(dataclasses.replace(question, columns=(SPEED_UP, *question.columns)), size)


def make_model(family: str, name: str, size: str) -> Experiment:
    """The pretraining of one row."""
    x = scale_down(load_recipe(albert, name), size)
    model = reshape(x.model, *SHAPES[size][name]) if size in SHAPES else x.model
    if family == 'BERT':
        model = dataclasses.replace(model, sharing='none', embedding=model.width)
    return dataclasses.replace(x, model=model)
