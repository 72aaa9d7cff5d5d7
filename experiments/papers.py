"""Studies of papers' tables: pretrain each variant once, fine-tune it on tasks and seeds, print a row for each.

Sizes: `tiny` shows that everything runs, `small` asks the question on two CPU cores, `paper` is the published recipe.
"""

import dataclasses
import types
from collections.abc import Mapping, Sequence

from configs import finetune
from research.data.tasks import TASKS
from research.experiment import Experiment, Run
from research.models.architecture import Architecture
from research.optim import Optimizer
from research.study.columns import COLUMNS, Column
from research.study.study import Claim, Row, Study, Table
from research.wire import from_wire

# English Wikipedia by its name in TFDS, and BookCorpus, which nobody may distribute, from your own files.
# Shares are of sequences of equal length, so of words: 2,500 M and 800 M, 76 % and 24 % (Devlin et al. 2019, §3.1).
CORPUS = '2500 tfds:wikipedia/20230601.en + 800 text:bookcorpus/*.txt'


@dataclasses.dataclass(frozen=True)
class Scale:
    """The numbers of a size that is smaller than the paper's."""

    layers: int
    width: int
    heads: int
    vocabulary: int
    length: int
    steps: int
    batch: int
    task_steps: int
    tasks: tuple[str, ...]
    seeds: int  # of fine-tuning


SCALES = {
    'tiny': Scale(2, 32, 2, 512, 32, 4, 8, 4, ('packages',), 1),
    # 2 million pieces a run: with 8 sequences and 1e-3 a model gets below the unigram entropy within some hundred steps.
    'small': Scale(4, 128, 4, 8192, 128, 2000, 8, 300, ('sst2', 'packages'), 3),
}
SEEDS = 5  # of fine-tuning, in the papers
BERT = Architecture()
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
    columns: tuple[Column, ...] = (COLUMNS['mlm'], COLUMNS['mlm_accuracy'])  # before those of the tasks
    relative: str = ''  # the title of a row: another column shows Avg in percent of that row's
    probes: Mapping[str, Experiment] = dataclasses.field(default_factory=dict)  # role -> started from every variant once
    note: str = ''


def load_recipe(config: types.ModuleType, size: str) -> Experiment:
    """The experiment that a file of configs/ defines for a size."""
    return from_wire(config.get_config(size))


def make_narrow(vocabulary: int, layers: int, width: int, length: int, like: Architecture = BERT) -> Architecture:
    """A model that learns something within hundreds of steps: heads of 32, no dropout, and initial weights that fit the width."""
    return dataclasses.replace(
        like,
        vocabulary=vocabulary,
        layers=layers,
        width=width,
        heads=width // 32,
        inner=4 * width,
        embedding=width,
        positions=length,
        dropout=0.0,  # less than one epoch: there is nothing to overfit (Lan et al. 2020, Table 8)
        attention_dropout=0.0,
        deviation=0.02 * (768 / width) ** 0.5,  # 0.02 is for width 768: with it a narrow model stays longer at the unigram entropy
    )


def scale_down(published: Experiment, size: str) -> Experiment:
    """The published recipe at a size: with its own objective and sharing, its embeddings factorised or not as published."""
    if size == 'paper':
        return dataclasses.replace(published, data=dataclasses.replace(published.data, source=CORPUS))
    scale, model = SCALES[size], published.model
    small = dataclasses.replace(
        make_narrow(scale.vocabulary, scale.layers, scale.width, scale.length, model),
        heads=scale.heads,
        embedding=scale.width if model.embedding == model.width else scale.width // 4,
    )
    tokenizer = 'teacher' if published.data.tokenizer == 'teacher' else 'wordpiece'
    twentieth = max(scale.steps // 20, 1)
    return dataclasses.replace(
        published,
        model=small,
        data=dataclasses.replace(published.data, length=scale.length, first_length=0, tokenizer=tokenizer),
        optimizer=Optimizer(lr=1e-3, warmup=0.1),
        run=Run(
            steps=scale.steps,
            batch=scale.batch,
            log_every=max(scale.steps // 100, 1),
            evaluate_every=4 * twentieth,
            checkpoint_every=2 * twentieth,
        ),
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


def make_task_columns(tasks: Sequence[str], averaged: Sequence[str], relative: str) -> tuple[Column, ...]:
    """A column a task, two for a task with two numbers; their mean Avg; and Avg in percent of that of the row `relative`, if any.

    Avg is the mean of the tasks `averaged`, or of all `tasks` if some of those are missing.
    """
    found = [
        Column(each.title, task, each.key, 'percent', 'max', f'{each.what} (× 100)')
        for task in tasks
        for each in TASKS[task].printed
    ]
    counted = averaged if set(averaged) <= set(tasks) else tasks
    weighted: list[str] = []  # each task counts the same: its two columns once each, a single column twice
    for task in counted:
        titles = [each.title for each in TASKS[task].printed]
        weighted += titles if len(titles) == 2 else titles * 2
    average = Column('Avg', '', '', 'percent', 'max', of=tuple(weighted))
    found.append(average)
    if relative:
        note = f'the Avg in percent of that of {relative}'
        found.append(dataclasses.replace(average, title='Avg kept (%)', better='', note=note, relative=relative))
    return tuple(found)


def make_study(question: Question, size: str) -> Study:
    """The study of a question at a size: every variant, each fine-tuned on every task with several seeds.

    At a size without all the averaged tasks, Avg and parameters have no published numbers beside them.
    """
    tasks = make_tasks(size, question.tasks, question.family)
    of_tasks = make_task_columns(tuple(tasks), question.averaged, question.relative)
    last = tuple(COLUMNS[key] for key in ('checkpoint', 'time', 'memory', 'speed', 'latency'))
    columns = (COLUMNS['parameters'], COLUMNS['flops'], *question.columns, *of_tasks, *last)
    titles = {column.title for column in columns}
    if not set(question.averaged) <= set(tasks):
        titles -= {'Avg', COLUMNS['parameters'].title}
    runs = {key: dataclasses.replace(variant.experiment, name=key) for key, variant in question.variants.items()}
    rows = []
    for key, variant in question.variants.items():
        followers = make_followers(key, question.probes, tasks, count_seeds(size))
        runs |= {name: x for members in followers.values() for name, x in members.items()}
        roles = {'pretrain': (key,), **{role: tuple(members) for role, members in followers.items()}}
        published = {title: number for title, number in variant.published.items() if title in titles}
        rows.append(Row(variant.title, roles, published, variant.facts))
    table = Table(f'{question.title} ({size})', tuple(rows), columns, score='Avg', source=question.source)
    return Study(question.name, runs, table, question.note, question.claims)


def make_followers(
    key: str, probes: Mapping[str, Experiment], tasks: Mapping[str, Experiment], number: int
) -> dict[str, dict[str, Experiment]]:
    """Role -> the runs that start from the variant `key`, by name: each probe once, each task with `number` seeds."""
    found = {probe: {f'{key}-{probe}': x} for probe, x in probes.items()}
    for task, x in tasks.items():
        found[task] = {f'{key}-{task}-{seed}': dataclasses.replace(x, seed=seed) for seed in range(number)}
    return {
        role: {name: dataclasses.replace(x, name=name, start=f'@{key}') for name, x in members.items()}
        for role, members in found.items()
    }


def count_seeds(size: str) -> int:
    """How many seeds of fine-tuning a size has."""
    return SEEDS if size == 'paper' else SCALES[size].seeds


def parse_scores(names: Sequence[str], numbers: str) -> dict[str, float]:
    """The published row '89.9/82.9 80.1/77.8 82.9' as column title -> number, for columns of F1/EM and of single numbers."""
    found = {}
    for name, text in zip(names, numbers.split(), strict=True):
        parts = text.split('/')
        found |= {name: float(text)} if len(parts) == 1 else {f'{name} F1': float(parts[0]), f'{name} EM': float(parts[1])}
    return found
