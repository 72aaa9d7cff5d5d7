"""Does ALBERT need dropout? Lan et al. 2020, Table 8.

    python launch.py --config=experiments/albert_dropout.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (for SST-2 at `small`; without it TFDS fetches SST-2)

Hypothesis: the largest ALBERT does not overfit even after a million steps, and without dropout it is better (published: 90.7
against 90.4 on average). Refuted if the claim is. At `small` both models see less than an epoch of the books.

At `paper` each row trains for a million steps from random weights, with one setting throughout. The paper prints "around 1M steps"
of one ALBERT-xxlarge and does not say when the row without dropout lost it; its text includes that of XLNet and RoBERTa besides
Wikipedia and BookCorpus, which these rows lack, so no difference to its numbers is shown.
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
    scale_down,
)
from research.study.study import Setting, Study

SIZES = (*SCALES, 'paper')
STEPS = 1_000_000
# Two of the texts of XLNet and RoBERTa, which a source would have to name.
SETTING = Setting(pieces=STEPS * 4096 * 512, data=('wikipedia', 'bookcorpus', 'cc-news', 'openwebtext'))
ROWS = {  # variant -> title, rate, the row of the paper
    'without': ('without dropout', 0.0, '94.8/89.5 89.9/87.2 90.4 96.5 86.1 90.7'),
    'with': ('with dropout', 0.1, '94.7/89.2 89.6/86.9 90.0 96.3 85.7 90.4'),
}


def get_study(size: str = 'small') -> Study:
    """The same model with dropout and without."""
    base = scale_down(load_recipe(albert, 'xxlarge'), size)
    if size == 'paper':
        base = dataclasses.replace(base, run=dataclasses.replace(base.run, steps=STEPS))
    variants = {
        key: Variant(
            title,
            dataclasses.replace(base, model=dataclasses.replace(base.model, dropout=rate, attention_dropout=rate)),
            parse_scores(ALBERT_COLUMNS, known),
            shape=(12, 4096),
        )
        for key, (title, rate, known) in ROWS.items()
    }
    claims = (claim_gain('dropout harms', 'without', 'with'),)
    question = ask_albert('albert_dropout', 'dropout', 'Table 8', variants, claims)
    return make_study(dataclasses.replace(question, setting=SETTING), size)
