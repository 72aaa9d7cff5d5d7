"""What the studies of papers' tables share: pretrain each variant once, fine-tune it on tasks and seeds, print one row each.

A size is a scale: `tiny` shows that everything runs, `small` asks the question on two CPU cores, `paper` is the published recipe.
"""

import dataclasses
import types
from collections.abc import Mapping, Sequence

from research.data.tasks import TASKS
from research.experiment import Experiment, Run
from research.models.architecture import Architecture
from research.optim import Optimizer
from research.study.columns import COLUMNS, Column
from research.study.study import Claim, Row, Study, Table
from research.wire import from_wire

# English Wikipedia by its name in TFDS, and BookCorpus, which nobody may distribute, from the files that you have of it.
CORPUS = 'tfds:wikipedia/20230601.en + text:bookcorpus/*.txt'


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much smaller than the paper a size is."""

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
    # 2 million pieces a run: at 8 sequences and 1e-3 a model leaves the plateau at the unigram entropy within some hundred steps.
    'small': Scale(4, 128, 4, 8192, 128, 2000, 8, 300, ('sst2', 'packages'), 3),
}
SEEDS = 5  # of fine-tuning, in the papers
BERT = Architecture()
SIZES = (*SCALES, 'paper')
ALBERT_TASKS = ('squad', 'squad2', 'mnli', 'sst2', 'race')
ALBERT_COLUMNS = ('SQuAD1.1', 'SQuAD2.0', 'MNLI', 'SST-2', 'RACE', 'Avg')


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row: an experiment to pretrain, what the paper prints for it, and what it is in words."""

    title: str
    experiment: Experiment
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)


def narrow(vocabulary: int, layers: int, width: int, length: int, like: Architecture = BERT) -> Architecture:
    """A model that hundreds of steps teach something: heads of 32, no dropout, and initial weights that fit the width."""
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
        deviation=0.02 * (768 / width) ** 0.5,  # 0.02 is made for 768: a narrow model stays longer on the plateau with it
    )


def scaled(published: Experiment, size: str) -> Experiment:
    """The published recipe at a size; its objective, its sharing and whether its embeddings are factorised stay what they are."""
    if size == 'paper':
        return dataclasses.replace(published, data=dataclasses.replace(published.data, source=CORPUS))
    scale, model = SCALES[size], published.model
    small = dataclasses.replace(
        narrow(scale.vocabulary, scale.layers, scale.width, scale.length, model),
        heads=scale.heads,
        embedding=scale.width if model.embedding == model.width else scale.width // 4,
    )
    tokenizer = 'teacher' if published.data.tokenizer == 'teacher' else 'wordpiece'
    twentieth = max(scale.steps // 20, 1)
    return dataclasses.replace(
        published,
        model=small,
        data=dataclasses.replace(published.data, length=scale.length, tokenizer=tokenizer),
        optimizer=Optimizer(lr=1e-3, warmup=0.1),
        run=Run(
            steps=scale.steps,
            batch=scale.batch,
            log_every=max(scale.steps // 100, 1),
            evaluate_every=4 * twentieth,
            checkpoint_every=2 * twentieth,
        ),
    )


def downstream(size: str, wanted: Sequence[str], family: str, recipes: types.ModuleType) -> dict[str, Experiment]:
    """Task -> how it is fine-tuned, by `recipes` (configs.finetune): FAMILY-TASK where there is one, else TASK.

    The tasks are `wanted` at `paper` and the scale's own at other sizes, as far as there are recipes for them; the embedded one
    stands in where there are none.
    """
    names = wanted if size == 'paper' else SCALES[size].tasks
    spelled = {task: f'{family}-{task}' if f'{family}-{task}' in recipes.SIZES else task for task in (*names, 'packages')}
    there = [task for task in names if spelled[task] in recipes.SIZES] or ['packages']
    found = {task: from_wire(recipes.get_config(spelled[task])) for task in there}
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


def task_columns(tasks: Sequence[str], averaged: Sequence[str], relative: str) -> tuple[Column, ...]:
    """A column a task, two for one that is judged by two numbers; the mean of those `averaged`; and its share of one row's.

    Each task counts the same in the mean, which is of all tasks where some of those `averaged` are not among them. `relative` is
    the title of that row; '' is no such column.
    """
    found = [
        Column(each.title, task, each.key, 'percent', 'max', f'{each.what} (× 100)')
        for task in tasks
        for each in TASKS[task].printed
    ]
    counted = averaged if set(averaged) <= set(tasks) else tasks
    weighed = tuple(TASKS[task].printed[part % len(TASKS[task].printed)].title for task in counted for part in range(2))
    found.append(Column('Avg', '', '', 'percent', 'max', of=weighed))
    if relative:
        found.append(
            Column(
                'Avg kept (%)', '', '', 'percent', note=f'the Avg in percent of that of {relative}', of=weighed, relative=relative
            )
        )
    return tuple(found)


def study(
    name: str,
    table: str,
    source: str,
    variants: Mapping[str, Variant],
    tasks: Mapping[str, Experiment],
    seeds: int,
    claims: tuple[Claim, ...] = (),
    columns: tuple[Column, ...] = (COLUMNS['mlm'], COLUMNS['mlm_accuracy']),
    averaged: Sequence[str] = ALBERT_TASKS,
    relative: str = '',
    probes: Mapping[str, Experiment] | None = None,
    note: str = '',
) -> Study:
    """The study of `variants`, each fine-tuned on every task with `seeds` seeds; `columns` come before those of the tasks.

    A published number is kept for the columns that the table has. `averaged` are the tasks of the published Avg: without all of
    them this is another study's size, whose Avg and parameters do not stand beside the published ones. `relative` is the title of
    a row that Avg is told in percent of; each of `probes` starts from every variant once, in a role of its name.
    """
    runs = {key: dataclasses.replace(variant.experiment, name=key) for key, variant in variants.items()}
    rows = []
    of_tasks = task_columns(tuple(tasks), averaged, relative)
    shown = (COLUMNS['parameters'], COLUMNS['flops'], *columns, *of_tasks)
    shown += tuple(COLUMNS[key] for key in ('checkpoint', 'time', 'memory', 'speed', 'latency'))
    titles = {column.title for column in shown}
    if not set(averaged) <= set(tasks):
        titles -= {'Avg', COLUMNS['parameters'].title}
    for key, variant in variants.items():
        mine: dict[str, tuple[str, ...]] = {'pretrain': (key,)}
        for probe, x in (probes or {}).items():
            mine[probe] = (f'{key}-{probe}',)
            runs[f'{key}-{probe}'] = dataclasses.replace(x, name=f'{key}-{probe}', start=f'@{key}')
        for task, x in tasks.items():
            mine[task] = tuple(f'{key}-{task}-{seed}' for seed in range(seeds))
            for seed, run in enumerate(mine[task]):
                runs[run] = dataclasses.replace(x, name=run, seed=seed, start=f'@{key}')
        known = {title: number for title, number in variant.published.items() if title in titles}
        rows.append(Row(variant.title, mine, known, variant.facts))
    return Study(name, runs, Table(table, tuple(rows), shown, score='Avg', source=source), note, claims)


def seeds(size: str) -> int:
    """The seeds of fine-tuning at a size."""
    return SEEDS if size == 'paper' else SCALES[size].seeds


def scores(names: Sequence[str], numbers: str) -> dict[str, float]:
    """The published row '89.9/82.9 80.1/77.8 82.9' as column title -> number, for columns of F1/EM and of single numbers."""
    found = {}
    for name, text in zip(names, numbers.split(), strict=True):
        parts = text.split('/')
        found |= {name: float(text)} if len(parts) == 1 else {f'{name} F1': float(parts[0]), f'{name} EM': float(parts[1])}
    return found
