"""How hard is each masking policy? Models trained under each one, measured under all of them.

    python launch.py --config=experiments/masking.py:small --workdir=runs/masking --config.data.source='jsonl:books.jsonl.xz'

Hypotheses: (1) whole words are harder: the held-out loss of a model under whole-word masks is above its loss under token masks, for
the other pieces of a split word help to predict the masked one; (2) n-grams are harder still, for a neighbour is masked too; (3) a
model is better under the policy that it was trained with: under whole-word masks the model trained with them beats the one trained
with token masks, and the other way round. Each is refuted if its claim under the table does not hold.
"""

import dataclasses
import itertools

from configs.bert import make_narrow
from experiments.papers import SEEDS
from research.data.masking import Masking
from research.data.settings import Data
from research.experiment import Experiment, Run
from research.objectives.losses import Losses, Mlm
from research.optim import Optimizer
from research.study.columns import Column
from research.study.seeds import repeat
from research.study.study import Claim, Row, Study, Table

# Steps, batch, width, pieces of the vocabulary: so few that most words are split, because on whole words the policies agree.
SIZES = {'tiny': (20, 8, 32, 512), 'small': (12_000, 16, 128, 1024), 'medium': (20_000, 64, 256, 1024)}
POLICIES = ('token', 'whole_word', 'ngram')


LOSS = 'metrics:dev/mlm'
# Sentence, the run whose loss is lower, the other run. '{a}' and '{b}' would become titles of rows, which do not name the policy.
COMPARED = (
    ('whole words are harder: of models under their own masks, tokens are below whole words', 'token', 'whole_word'),
    ('also for the model trained on tokens: under token masks it is below under whole-word masks', 'token', 'token-as-whole_word'),
    ('n-grams are harder: of models under their own masks, tokens are below n-grams', 'token', 'ngram'),
    ('also for the model trained on tokens: under token masks it is below under n-gram masks', 'token', 'token-as-ngram'),
    (
        'under whole-word masks, trained on whole words is below trained on tokens',
        'whole_word',
        'token-as-whole_word',
    ),
    ('under token masks, trained on tokens is below trained on whole words', 'token', 'whole_word-as-token'),
)


def get_study(size: str = 'small') -> Study:
    """A model trained under each policy, and each of them measured under every other."""
    columns = tuple(Column(f'under {seen}', seen, LOSS, 'plain', 'min') for seen in POLICIES)
    rows = tuple(Row(f'trained on {trained}', {seen: (run_name(trained, seen),) for seen in POLICIES}) for trained in POLICIES)
    study = Study(
        name='masking',
        runs=make_runs(size),
        table=Table('Held-out MLM loss (nats) by the policy trained on and the policy measured under', rows, columns),
        claims=tuple(Claim(text, (left, LOSS), (right, LOSS)) for text, left, right in COMPARED),
    )
    return repeat(study, SEEDS[size])


def run_name(trained: str, seen: str) -> str:
    """The name of the run in which the model trained under one policy is measured under another, or the same."""
    return trained if trained == seen else f'{trained}-as-{seen}'


def make_runs(size: str) -> dict[str, Experiment]:
    """The runs by name: the training under each policy, then the measurements, which take no step."""
    steps, batch, width, vocabulary = SIZES[size]
    base = Experiment(
        model=make_narrow(vocabulary, layers=2, width=width, length=64),
        data=Data(length=64),
        losses=Losses(mlm=Mlm(1.0)),
        optimizer=Optimizer(lr=1e-3, warmup=0.1),
        run=Run(steps=steps, batch=batch, log_every=max(steps // 50, 1), evaluate_batches=0, checkpoint_every=0),
    )
    masks = {policy: Masking(policy) for policy in POLICIES}
    data = {policy: dataclasses.replace(base.data, masking=each, held_out_masks='training') for policy, each in masks.items()}
    runs = {policy: dataclasses.replace(base, name=policy, data=data[policy]) for policy in POLICIES}
    for trained, seen in itertools.permutations(POLICIES, 2):
        name, run = run_name(trained, seen), dataclasses.replace(base.run, steps=0)
        runs[name] = dataclasses.replace(base, name=name, start=f'@{trained}', data=data[seen], run=run)
    return runs
