"""Which recipe leaves the plateau? One lever at a time, from masked pieces under AdamW to `configs/bert.py:budget`, and on from it.

    python launch.py --config=experiments/budget_race.py:small --workdir=runs/race --config.data.source='jsonl:books.jsonl.xz'

A model of 4 layers that only predicts masked pieces stays at their frequencies for millions of tokens. Hypotheses: next-piece
prediction in the first steps (Gisserot-Boukhlef et al. 2025, arXiv 2507.00994; mixed in every step: Charpentier and Samuel 2024,
GPT-BERT) gains more over frequencies at equal tokens; so does Muon on the hidden matrices (Jordan et al. 2024); both together gain
more than either. Each is refuted if its claim under the table is.
`levers` changes one key of the budget recipe at a time, with one seed: it chooses what is worth more seeds, and decides nothing.
"""

import dataclasses

from configs import bert
from experiments.papers import claim_gain
from research.experiment import Experiment, Run
from research.study.columns import COLUMNS
from research.study.seeds import repeat
from research.study.study import Row, Study, Table
from research.wire import override

# Steps, layers, width, pieces of the vocabulary, seeds. A step has 32 sequences of 64 pieces: 4.1 million pieces at `small`.
SIZES = {
    'tiny': (10, 1, 32, 512, 1),
    'small': (2_000, 4, 128, 4096, 3),
    'levers': (2_000, 4, 128, 4096, 1),
    'paper': (20_000, 4, 256, 4096, 5),
}

ADAM = {'optimizer.name': 'adamw', 'optimizer.lr': 1e-3}
MASKED = {'data.causal.share': 0.0}
# Run -> (title, what it changes of the budget recipe).
LADDER = {
    'masked': ('masked pieces alone, AdamW', {**ADAM, **MASKED}),
    'mixed': ('half of the batches causal, AdamW', {**ADAM, 'data.causal.share': 0.5, 'data.causal.until': 1.0}),
    'causal-first': ('causal for 30 % of the steps, then masked, AdamW', ADAM),
    'muon': ('masked pieces alone, Muon', MASKED),
    'budget': ('causal first and Muon: the budget recipe', {}),
}
CHANGES = {
    'until-15': ('causal for 15 % of the steps', {'data.causal.until': 0.15}),
    'until-50': ('causal for 50 % of the steps', {'data.causal.until': 0.5}),
    'half-until-60': ('half of the batches causal, for 60 % of the steps', {'data.causal.share': 0.5, 'data.causal.until': 0.6}),
    'rate-15': ('masks .15 from the first', {'data.masking.rate': 0.15}),
    'bert-masks': ('80 % [MASK], 10 % random', {'data.masking.mask': 0.8, 'data.masking.random': 0.1}),
    'bias': ('MLM bias from the frequencies', {'model.mlm_bias': 'frequencies'}),
    'pre': ('pre-LN', {'model.norm': 'pre'}),
    'deepnorm': ('DeepNorm', {'model.norm': 'deepnorm'}),
    'rotary': ('rotary positions', {'model.position_kind': 'rotary'}),
    'z-loss': ('z-loss 1e-4', {'losses.mlm.z': 1e-4}),
    'wsd': ('warm-up, stable, decay', {'optimizer.schedule': 'wsd'}),
    'ema': ('moving average .999', {'optimizer.ema': 0.999}),
    'rate-1e-3': ('rate 1e-3', {'optimizer.lr': 1e-3}),
    'rate-1e-2': ('rate 1e-2', {'optimizer.lr': 1e-2}),
    'dropout': ('dropout 0.1', {'model.dropout': 0.1, 'model.attention_dropout': 0.1}),
}
CLAIMS = (('causal-first', 'masked'), ('muon', 'masked'), ('budget', 'causal-first'), ('budget', 'muon'))


def get_study(size: str = 'small') -> Study:
    """A run of each row, the same data and the same number of tokens for all."""
    base, seeds = make_base(size), SIZES[size][-1]
    arms = {'budget': LADDER['budget'], **CHANGES} if size == 'levers' else LADDER
    study = Study(
        name='budget_race',
        runs={name: dataclasses.replace(override(base, changes), name=name) for name, (_, changes) in arms.items()},
        table=Table(
            f'Gain over frequencies by recipe ({size})',
            tuple(Row(title, {'pretrain': (name,)}) for name, (title, _) in arms.items()),
            (COLUMNS['gain'], COLUMNS['mlm_accuracy'], COLUMNS['time'], COLUMNS['speed']),
            score=COLUMNS['gain'].title,
        ),
        claims=tuple(claim_gain('at equal tokens', high, low) for high, low in CLAIMS if high in arms and low in arms),
    )
    return repeat(study, seeds)


def make_base(size: str) -> Experiment:
    """The budget recipe with sequences of one length, as short as those of its first steps."""
    steps, layers, width, vocabulary, _ = SIZES[size]
    x = bert.budget()
    return dataclasses.replace(
        x,
        model=bert.make_narrow(vocabulary, layers, width, x.data.length),
        data=dataclasses.replace(x.data, length=x.data.first_length, first_length=0),
        run=Run(
            steps=steps, batch=x.run.batch, log_every=max(steps // 40, 1), evaluate_every=max(steps // 8, 1), checkpoint_every=0
        ),
    )
