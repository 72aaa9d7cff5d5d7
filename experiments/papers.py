"""Studies of papers' tables: pretrain each variant with several seeds, fine-tune each model on tasks, print a row for each variant.

Sizes: `tiny` shows that everything runs, `small` asks the question on two CPU cores by the budget recipe (`scale_down` says what
all rows share, and why), `paper` is the published recipe. The unit is a seed of pretraining (Sellam et al. 2022): each pretrained
model is fine-tuned once on a task, so that the spread of a cell holds the chance of both. The papers print medians or means over
fine-tunings of one pretrained model. A last row is the first variant's architecture fine-tuned from random weights: what the tasks
teach without any pretraining.
"""

import dataclasses
import types
from collections.abc import Mapping, Sequence

from configs import bert, finetune
from configs.bert import BASE, make_narrow
from research.data.settings import Causal
from research.data.tasks import TASKS
from research.data.tasks.example import Printed
from research.experiment import Experiment, Run
from research.models.architecture import Architecture
from research.objectives.losses import Plain
from research.optim import Optimizer
from research.study.columns import COLUMNS, Column
from research.study.seeds import repeat
from research.study.study import Claim, Row, Setting, Study, Table
from research.surgery import Surgery, inherit
from research.wire import from_wire

# English Wikipedia by its name in TFDS, and BookCorpus, which nobody may distribute, from your own files.
# Shares are of sequences of equal length, so of words: 2,500 M and 800 M, 76 % and 24 % (Devlin et al. 2019, §3.1).
CORPUS = '2500 tfds:wikipedia/20230601.en + 800 text:bookcorpus/*.txt'
GAIN = COLUMNS['gain'].key  # what claims about pretraining compare


@dataclasses.dataclass(frozen=True)
class Scale:
    """The numbers of a size that is smaller than the paper's."""

    layers: int
    width: int
    heads: int
    vocabulary: int
    length: int
    first_length: int  # of the first steps; 0: `length` in all
    steps: int
    batch: int
    task_steps: int
    tasks: tuple[str, ...]


SCALES = {
    'tiny': Scale(2, 32, 2, 512, 32, 0, 4, 8, 4, ('packages',)),
    # 8.6 million pieces a run: 3,500 steps of 32 sequences, four fifths of them of 64 pieces.
    'small': Scale(4, 128, 4, 4096, 128, 64, 3500, 32, 300, ('sst2', 'packages')),
}
SEEDS = {'tiny': 1, 'small': 3, 'medium': 3, 'paper': 5}  # of pretraining
# How the papers' numbers came about, the shape of each row aside: pieces read in pretraining, texts, statistic. BERT reads 128
# pieces a row for nine tenths of its steps (Devlin et al. 2019, §A.2).
BERT_SETTING = Setting(pieces=1e6 * 256 * (0.9 * 128 + 0.1 * 512), data=('wikipedia', 'bookcorpus'), statistic='mean')
DISTILBERT_SETTING = Setting(data=('wikipedia', 'bookcorpus'), statistic='median')
ALBERT_SETTING = Setting(pieces=125_000 * 4096 * 512, data=('wikipedia', 'bookcorpus'))
SIZES = (*SCALES, 'paper')
ALBERT_TASKS = ('squad', 'squad2', 'mnli', 'sst2', 'race')
ALBERT_COLUMNS = ('SQuAD1.1', 'SQuAD2.0', 'MNLI', 'SST-2', 'RACE', 'Avg')


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row: an experiment to pretrain, the numbers that the paper prints for it, and facts in words."""

    title: str
    experiment: Experiment
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    shape: tuple[int, int] = (0, 0)  # layers and width of the paper's model


@dataclasses.dataclass(frozen=True)
class Question:
    """A paper's table: which variants are compared, on which tasks, and by which columns and claims."""

    name: str
    title: str
    source: str  # the paper and its table
    variants: Mapping[str, Variant]
    tasks: tuple[str, ...]  # the paper's
    family: str  # whose recipes of fine-tuning: bert, distilbert or albert
    averaged: tuple[str, ...]  # the tasks of the published Avg
    claims: tuple[Claim, ...] = ()
    setting: Setting | None = None  # how the published numbers came about, but for the shape of each variant
    columns: tuple[Column, ...] = (COLUMNS['gain'], COLUMNS['mlm'], COLUMNS['mlm_accuracy'])  # before those of the tasks
    relative: str = ''  # the title of a row: another column shows Avg in percent of that row's
    change: str = ''  # the title of a row: another column, 'Change', shows Avg minus that row's
    probes: Mapping[str, Experiment] = dataclasses.field(default_factory=dict)  # role -> started from every variant once
    printed: Mapping[str, tuple[Printed, ...]] = dataclasses.field(default_factory=dict)  # task -> numbers, if not those of TASKS
    helpers: Mapping[str, Experiment] = dataclasses.field(default_factory=dict)  # runs without a row that variants need, by name
    note: str = ''


def ask_albert(name: str, title: str, table: str, variants: Mapping[str, Variant], claims: tuple[Claim, ...]) -> Question:
    """The Question of a table of Lan et al. 2020 that is about pretraining: its five tasks, on dev, and their mean."""
    return Question(
        name=name,
        title=f'ALBERT, {title}',
        source=f'Lan et al. 2020, {table}',
        variants=variants,
        tasks=ALBERT_TASKS,
        family='albert',
        averaged=ALBERT_TASKS,
        claims=claims,
        setting=ALBERT_SETTING,
    )


def claim_gain(text: str, better: str, worse: str) -> Claim:
    """The claim that the pretraining `better` gains more over frequencies, at the [MASK] of held-out text, than `worse`."""
    return Claim(f'{text}: {{a}} gains less over frequencies than {{b}}', (worse, GAIN), (better, GAIN))


def load_recipe(config: types.ModuleType, size: str) -> Experiment:
    """The experiment that a file of configs/ defines for a size."""
    return from_wire(config.get_config(size))


def reshape(model: Architecture, layers: int, width: int, heads: int) -> Architecture:
    """The model with another shape: its embeddings as wide as the rest if they were, its initial weights as in `make_narrow`."""
    published = model.deviation == BASE.deviation  # which papers have for every width
    return dataclasses.replace(
        model,
        layers=layers,
        width=width,
        heads=heads,
        inner=4 * width,
        embedding=width if model.embedding == model.width else model.embedding,
        deviation=model.deviation if published else 0.02 * (768 / width) ** 0.5,
    )


def scale_down(published: Experiment, size: str, pairs: bool = False) -> Experiment:
    """The published recipe at a size: with its own losses, sharing and choice of pieces, its embeddings factorised or not.

    At `tiny` and `small` all else is `configs/bert.py:budget`, for every row alike: with the published optimizer and masks a model
    of that size stays at the frequencies of pieces for millions of them, and rows would compare nothing. So Muon, [MASK] alone at
    a rate that falls from .30 to .15, no dropout, initial weights that fit the width, short sequences first; and causal batches
    first, but for a model that starts from its teacher, which has left the plateau. Causal rows are single segments: the loss of
    pairs of sentences is left out, unless the study asks about it (`pairs`); then no batch is causal.
    """
    if size == 'paper':
        return dataclasses.replace(published, data=dataclasses.replace(published.data, source=CORPUS))
    scale, model, recipe = SCALES[size], published.model, bert.budget()
    small = dataclasses.replace(
        make_narrow(scale.vocabulary, scale.layers, scale.width, scale.length, model),
        heads=scale.heads,
        embedding=scale.width if model.embedding == model.width else scale.width // 4,
    )
    data = dataclasses.replace(
        published.data,
        length=scale.length,
        first_length=scale.first_length,
        first_share=recipe.data.first_share,
        tokenizer='teacher' if published.data.tokenizer == 'teacher' else 'wordpiece',
        masking=dataclasses.replace(recipe.data.masking, policy=published.data.masking.policy),
    )
    if not pairs:
        data = dataclasses.replace(data, pairs='none', causal=Causal() if published.start else recipe.data.causal)
    return dataclasses.replace(
        published,
        model=small,
        data=data,
        losses=published.losses if pairs else dataclasses.replace(published.losses, nsp=Plain(), sop=Plain()),
        optimizer=recipe.optimizer,
        run=make_schedule(scale.steps, scale.batch),
    )


def make_schedule(steps: int, batch: int) -> Run:
    """A Run that logs a hundred times, evaluates five times and saves ten times."""
    twentieth = max(steps // 20, 1)
    return Run(
        steps=steps, batch=batch, log_every=max(steps // 100, 1), evaluate_every=4 * twentieth, checkpoint_every=2 * twentieth
    )


def make_tasks(size: str, wanted: Sequence[str], family: str) -> dict[str, Experiment]:
    """Task -> its recipe of configs/finetune.py: FAMILY-TASK if there is one, else TASK.

    At `paper` the tasks are `wanted`; at other sizes the scale's own that have a recipe, or the embedded task if none has.
    """
    names = wanted if size == 'paper' else SCALES[size].tasks
    spelled = {task: f'{family}-{task}' if f'{family}-{task}' in finetune.SIZES else task for task in (*names, 'packages')}
    there = [task for task in names if spelled[task] in finetune.SIZES] or ['packages']
    found = {task: load_recipe(finetune, spelled[task]) for task in there}
    if size == 'paper':
        return found
    scale = SCALES[size]
    fifth = max(scale.task_steps // 5, 1)
    run = Run(steps=scale.task_steps, batch=32, log_every=fifth, evaluate_every=fifth, evaluate_batches=0)
    return {
        task: dataclasses.replace(
            x,
            data=dataclasses.replace(x.data, length=min(64, scale.length)),
            optimizer=Optimizer(lr=5e-4, warmup=0.1),
            run=run,
        )
        for task, x in found.items()
    }


def make_task_columns(question: Question, tasks: Sequence[str]) -> tuple[Column, ...]:
    """A column a task, two for a task with two numbers; their mean Avg; and Avg in percent of a row's, and minus a row's, if asked.

    Avg is the mean of the question's tasks `averaged`, or of all `tasks` if some of those are missing.
    """
    printed = {task: question.printed[task] if task in question.printed else TASKS[task].printed for task in tasks}
    found = [
        Column(each.title, task, each.key, 'percent', 'max', f'{each.what} (× 100)')
        for task, numbers in printed.items()
        for each in numbers
    ]
    counted = question.averaged if set(question.averaged) <= set(tasks) else tasks
    weighted: list[str] = []  # each task counts the same: its two columns once each, a single column twice
    for task in counted:
        titles = [each.title for each in printed[task]]
        weighted += titles if len(titles) == 2 else titles * 2
    average = Column('Avg', '', '', 'percent', 'max', of=tuple(weighted))
    found.append(average)
    if question.relative:
        note = f'the Avg in percent of that of {question.relative}'
        found.append(dataclasses.replace(average, title='Avg kept (%)', better='', note=note, relative=question.relative))
    if question.change:
        note = f'the Avg minus that of the row ‘{question.change}’, in points'
        found.append(dataclasses.replace(average, title='Change', better='', note=note, relative=question.change, change=True))
    return tuple(found)


def make_study(question: Question, size: str) -> Study:
    """The study of a question at a size: every variant, fine-tuned on every task, with the size's seeds of pretraining."""
    return repeat(make_one_seed(question, size), SEEDS[size])


def make_one_seed(question: Question, size: str) -> Study:
    """`make_study` with one seed.

    At a size without all the averaged tasks, Avg and parameters have no published numbers beside them.
    """
    tasks = make_tasks(size, question.tasks, question.family)
    of_tasks = make_task_columns(question, tuple(tasks))
    last = tuple(COLUMNS[key] for key in ('checkpoint', 'time', 'memory', 'speed', 'latency'))
    columns = (COLUMNS['parameters'], COLUMNS['flops'], *question.columns, *of_tasks, *last)
    titles = {column.title for column in columns}
    if not set(question.averaged) <= set(tasks):
        titles -= {'Avg', 'Change', COLUMNS['parameters'].title}
    trained = {**{key: variant.experiment for key, variant in question.variants.items()}, **question.helpers}
    runs = {key: dataclasses.replace(x, name=key) for key, x in trained.items()}
    rows = []
    for key, variant in question.variants.items():
        followers = make_followers(key, {**question.probes, **tasks})
        runs |= {x.name: x for x in followers.values()}
        roles = {'pretrain': (key,), **{role: (x.name,) for role, x in followers.items()}}
        published = {title: number for title, number in variant.published.items() if title in titles}
        setting = question.setting and dataclasses.replace(question.setting, layers=variant.shape[0], width=variant.shape[1])
        rows.append(Row(variant.title, roles, published, variant.facts, setting))
    first, variant = next(iter(question.variants.items()))
    floor = {task: make_floor(first, variant.experiment, task, x) for task, x in tasks.items()}
    runs |= {x.name: x for x in floor.values()}
    rows.append(Row(f'random weights, as {variant.title}', {task: (x.name,) for task, x in floor.items()}))
    table = Table(f'{question.title} ({size})', tuple(rows), columns, 'Avg', question.source)
    return Study(question.name, runs, table, question.note, question.claims)


def make_followers(key: str, found: Mapping[str, Experiment]) -> dict[str, Experiment]:
    """Role -> the run that starts from the variant `key`, a probe or a task."""
    return {role: dataclasses.replace(x, name=f'{key}-{role}', start=f'@{key}') for role, x in found.items()}


def make_floor(key: str, pretraining: Experiment, task: str, x: Experiment) -> Experiment:
    """The fine-tuning `x` of the architecture and the tokenizer of the variant `key`, from random weights."""
    model = inherit(Surgery(inherit=True), x.model, pretraining.model)
    model = dataclasses.replace(model, deviation=pretraining.model.deviation)
    data = dataclasses.replace(x.data, tokenizer=f'@{key}')
    return dataclasses.replace(x, name=f'floor-{task}', start='', surgery=Surgery(), model=model, data=data)


def parse_scores(names: Sequence[str], numbers: str) -> dict[str, float]:
    """The published row '89.9/82.9 80.1/77.8 82.9' as column title -> number, for columns of F1/EM and of single numbers."""
    found = {}
    for name, text in zip(names, numbers.split(), strict=True):
        parts = text.split('/')
        found |= {name: float(text)} if len(parts) == 1 else {f'{name} F1': float(parts[0]), f'{name} EM': float(parts[1])}
    return found
