"""What should stand in place of a word to predict: [MASK], the word itself, or a random one? Devlin et al. 2019, Table 8.

    python launch.py --config=experiments/bert_masks.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (for SST-2 at `small`; without it TFDS fetches SST-2)

Hypotheses: fine-tuning hardly depends on the shares, but random words alone are worse than 80/10/10; used as fixed features, what
was trained with [MASK] alone is worse than 80/10/10, for it has never seen a sentence without [MASK]. Each is refuted if its claim
is.

What the code has of the table: MNLI by fine-tuning (published: 84.2, 84.3, 84.1, 84.4, 83.7 and 83.6 in the order of the rows), and
SST-2 and `packages` in its place at `small`. What it has not: NER on CoNLL-2003, fine-tuned or by features of the last four layers
under a BiLSTM. In the place of the latter stand columns 'frozen': a new pooler and classifier of sentences on frozen embeddings and
layers, which the paper does not print. All models' held-out text is masked as BERT's (data.held_out_masks), so that gains compare.
"""

import dataclasses

from configs import bert
from experiments.papers import BERT_SETTING, SCALES, Question, Variant, load_recipe, make_study, make_tasks, scale_down
from research.data.tasks import TASKS
from research.experiment import Experiment
from research.optim import Optimizer
from research.study.columns import COLUMNS, Column
from research.study.study import Claim, Study

SIZES = (*SCALES, 'paper')
# Percent of the predicted words that are masked, kept and random -> MNLI as published.
PUBLISHED = {
    (80, 10, 10): 84.2,
    (100, 0, 0): 84.3,
    (80, 0, 20): 84.1,
    (80, 20, 0): 84.4,
    (0, 20, 80): 83.7,
    (0, 0, 100): 83.6,
}
ROWS = {'tiny': 2}  # of PUBLISHED, at a size that does not have them all


def get_study(size: str = 'small') -> Study:
    """A model for each of the shares."""
    base = scale_down(load_recipe(bert, 'base'), size)
    variants = {}
    for shares in list(PUBLISHED)[: ROWS[size] if size in ROWS else len(PUBLISHED)]:
        masked, kept, random = shares
        masking = dataclasses.replace(base.data.masking, mask=masked / 100, random=random / 100)
        x = dataclasses.replace(base, data=dataclasses.replace(base.data, masking=masking))
        title = f'{masked} % [MASK], {kept} % same, {random} % random'
        variants[name_row(shares)] = Variant(title, x, {'MNLI': PUBLISHED[shares]}, shape=(12, 768))
    tasks = make_tasks(size, ('mnli',), 'bert')
    question = Question(
        name='bert_masks',
        title='BERT, what replaces the words to predict',
        source='Devlin et al. 2019, Table 8',
        variants=variants,
        tasks=('mnli',),
        family='bert',
        averaged=('mnli',),
        setting=BERT_SETTING,
        claims=make_claims(list(variants), next(iter(tasks))),
        columns=(COLUMNS['gain'],)
        + tuple(
            Column(f'{TASKS[task].printed[0].title} frozen', f'{task}-frozen', 'score', 'percent', 'max', 'layers frozen')
            for task in tasks
        ),
        probes={f'{task}-frozen': freeze(x, base.model.layers) for task, x in tasks.items()},
    )
    return make_study(question, size)


def name_row(shares: tuple[int, int, int]) -> str:
    """The name of the pretraining with these shares."""
    return '-'.join(map(str, shares))


def freeze(x: Experiment, layers: int) -> Experiment:
    """The fine-tuning `x` of a new pooler and classifier on frozen embeddings and layers."""
    frozen = ('embeddings', *(f'layer_{layer}' for layer in range(layers)))
    return dataclasses.replace(
        x,
        surgery=dataclasses.replace(x.surgery, drop=('encoder/pooler',)),
        optimizer=Optimizer(lr=1e-3, warmup=0.1, frozen=frozen),
    )


def make_claims(names: list[str], task: str) -> tuple[Claim, ...]:
    """The claims about those of the rows that are there, on the first task."""
    whole, masks, random = (name_row(shares) for shares in ((80, 10, 10), (100, 0, 0), (0, 0, 100)))
    claims = {
        masks: Claim(
            '[MASK] alone makes worse features: the score of {a} on frozen layers is below that of {b}',
            (f'{masks}-{task}-frozen', 'score'),
            (f'{whole}-{task}-frozen', 'score'),
        ),
        random: Claim(
            'random words alone are worse: the score of {a} is below that of {b}',
            (f'{random}-{task}', 'score'),
            (f'{whole}-{task}', 'score'),
        ),
    }
    return tuple(claim for name, claim in claims.items() if name in names)
