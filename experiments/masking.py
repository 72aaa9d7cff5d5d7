"""What is hidden from a model: what each masking policy makes of the same steps, seen through every policy's own eyes.

    python launch.py --config=experiments/masking.py:small --workdir=runs/masking --config.data.source='jsonl:books.jsonl.xz'

Hypotheses: (1) hiding whole words is the harder task: with the same model, held-out loss under whole-word masks is above that under
token masks, because the rest of a split word gives the hidden piece away; (2) n-grams are harder still, as a neighbour is hidden
too; (3) who trained on a task is better at it: under whole-word masks the model that trained on them beats the one that trained on
token masks, and the other way round. Each is refuted where its claim under the table does not hold.
"""

import dataclasses

from experiments.papers import narrow
from research.data.masking import Masking
from research.data.settings import Data
from research.experiment import Experiment, Run
from research.objectives.losses import Losses, Plain
from research.optim import Optimizer
from research.study.columns import Column
from research.study.study import Claim, Row, Study, Table

# Steps, batch, width, pieces of the vocabulary: so few that most words are split, since on whole ones the policies differ little.
SIZES = {'tiny': (20, 8, 32, 512), 'small': (12_000, 16, 128, 1024), 'medium': (20_000, 64, 256, 1024)}
POLICIES = ('token', 'whole_word', 'ngram')


def get_study(size: str = 'small') -> Study:
    """A model trained under each policy, and each of them measured under every other."""
    steps, batch, width, vocabulary = SIZES[size]
    token = Experiment(
        name='token',
        model=narrow(vocabulary, layers=2, width=width, length=64),
        data=Data(length=64),
        losses=Losses(mlm=Plain(1.0)),
        optimizer=Optimizer(lr=1e-3, warmup=0.1),
        run=Run(steps=steps, batch=batch, log_every=max(steps // 50, 1), evaluate_batches=0, checkpoint_every=0),
    )
    runs: dict[str, Experiment] = {}
    for trained in POLICIES:
        data = dataclasses.replace(token.data, masking=Masking(trained))
        runs[trained] = dataclasses.replace(token, name=trained, data=data)
    for trained in POLICIES:
        for seen in POLICIES:
            if seen != trained:
                # No step: what the other run left is measured under other masks.
                name = f'{trained}-as-{seen}'
                data = dataclasses.replace(token.data, masking=Masking(seen))
                runs[name] = dataclasses.replace(
                    token, name=name, start=f'@{trained}', data=data, run=dataclasses.replace(token.run, steps=0)
                )

    def run(trained: str, seen: str) -> str:
        return trained if trained == seen else f'{trained}-as-{seen}'

    key = 'metrics:dev/mlm'
    columns = tuple(Column(f'under {seen}', seen, key, 'plain', 'min') for seen in POLICIES)
    rows = tuple(Row(f'trained on {trained}', {seen: (run(trained, seen),) for seen in POLICIES}) for trained in POLICIES)
    # '{a}' and '{b}' would be titles of rows, and a row holds the same model under every policy.
    compared = (
        ('whole words are harder: who trained on a task meets it, token masks below whole-word masks', 'token', 'whole_word'),
        ('also for the model trained on tokens: under token masks below under whole-word masks', 'token', 'token-as-whole_word'),
        ('n-grams are harder: who trained on a task meets it, token masks below n-gram masks', 'token', 'ngram'),
        ('also for the model trained on tokens: under token masks below under n-gram masks', 'token', 'token-as-ngram'),
        ('under whole-word masks, trained on whole words below trained on tokens', 'whole_word', 'token-as-whole_word'),
        ('under token masks, trained on tokens below trained on whole words', 'token', 'whole_word-as-token'),
    )
    return Study(
        name='masking',
        runs=runs,
        table=Table('Held-out MLM loss (nats) by the policy trained on and the policy measured under', rows, columns),
        claims=tuple(Claim(text, (left, key), (right, key)) for text, left, right in compared),
    )
