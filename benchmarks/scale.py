"""The tables of docs/scale.md: the time of each paper's recipe on 1 to 512 accelerators, and what a device holds. Nothing is run.

    python benchmarks/scale.py

They come from the code of `launch.py --dry --chip=…`. Everything is in bfloat16, data-parallel, with plain attention; the batch is
divided into as few micro-batches as fit a device's memory.
"""

import dataclasses
import math
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from configs import albert, bert, distilbert
from research import costs, predictions
from research.chips import CHIPS, Chip
from research.experiment import Experiment, student_heads
from research.models.architecture import Architecture
from research.predictions import Work
from research.wire import from_wire, override

DEVICES = (1, 8, 64, 512)
SHOWN = ('a100', 'h100', 'v5e', 'v6e')
PIECES = 3_300e6 * 4 / 3  # BERT's corpus has 3,300 million words (Devlin et al. 2019, §3.1); assumed: four pieces to three words


def list_recipes() -> dict[str, tuple[Experiment, Architecture | None]]:
    """Name -> (the recipe of configs/ with the number of the paper's steps, its teacher)."""
    found = {}
    for size in ('base', 'large'):
        found[f'BERT-{size}'] = from_wire(bert.get_config(size)), None
    for size in albert.SHAPES:
        found[f'ALBERT-{size}'] = from_wire(albert.get_config(size)), None
    student = from_wire(distilbert.get_config('base'))
    steps = math.ceil(student.run.epochs * PIECES / student.data.length / student.run.batch)
    found['DistilBERT'] = override(student, {'run.epochs': 0.0, 'run.steps': steps}), bert.architecture('base')
    return found


def plan(x: Experiment, teacher: Architecture | None, chip: Chip, devices: int) -> list[tuple[float, Work]]:
    """The stages of a recipe in bfloat16, each in as few micro-batches as fit; [] if none fits."""
    planned = []
    for share, work in predictions.plan_work(x, student_heads(x, teacher), teacher):
        batch = work.batch // devices * devices  # DistilBERT's 4,000 on 64 devices or more: the nearest below
        student = dataclasses.replace(work.student, dtype='bfloat16')
        master = None if teacher is None else dataclasses.replace(teacher, dtype='bfloat16')
        work = dataclasses.replace(work, student=student, teacher=master, batch=batch, accumulate=1)
        parts = predictions.find_accumulation(work, chip.memory, devices) if batch else 0
        if not parts:
            return []
        planned.append((share, dataclasses.replace(work, accumulate=parts)))
    return planned


def show_time(x: Experiment, teacher: Architecture | None, chip: Chip, devices: int) -> str:
    """'3.2 days, memory, ÷ 4': the time, its bound, and the micro-batches of the longest sequences."""
    planned = plan(x, teacher, chip, devices)
    if not planned:
        return '–'
    step = predictions.predict_run(planned, chip, devices)
    hours = x.run.steps * step.seconds / 3600
    time = f'{hours:.2g} h' if hours < 48 else f'{hours / 24:.3g} d'
    parts = planned[-1][1].accumulate
    return f'{time}, {step.bound}' + (f', ÷ {parts}' if parts > 1 else '')


def tabulate(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    return '\n'.join(['| ' + ' | '.join(head) + ' |', '|:--' * len(head) + '|', *('| ' + ' | '.join(row) + ' |' for row in rows)])


def make_times() -> str:
    """The table of times."""
    rows = (
        (name, f'{x.run.steps:,} × {x.run.batch:,}', chip, *(show_time(x, teacher, CHIPS[chip], n) for n in DEVICES))
        for name, (x, teacher) in list_recipes().items()
        for chip in SHOWN
    )
    return tabulate(('recipe', 'steps × batch', 'chip', *(f'{n}' for n in DEVICES)), rows)


def make_memory() -> str:
    """The table of what a device holds, in gigabytes: the state and gradients, and the activations of one sequence."""

    def describe(name: str, x: Experiment, teacher: Architecture | None) -> tuple[str, ...]:
        work = predictions.plan_work(x, student_heads(x, teacher), teacher)[-1][1]
        work = dataclasses.replace(work, student=dataclasses.replace(work.student, dtype='bfloat16'), accumulate=1)
        one, two = (predictions.count_memory(work, 1, rows)['activations'] for rows in (1, 2))
        sent = {parallel: predictions.count_sent(dataclasses.replace(work, parallel=parallel), 8) for parallel in ('jit', 'fsdp')}
        state = predictions.state_bytes(work)['total']
        parameters = sum(costs.count_parameters(work.student, student_heads(x, teacher)).values())
        return (
            *(name, f'{parameters / 1e6:,.1f} M', f'{state / 1e9:.2f}', *(f'{state / n / 1e9:.3f}' for n in (8, 64))),
            *(f'{(two - one) / 1e9:.3f}', f'{sent["jit"] / 1e9:.2f}', f'{sent["fsdp"] / 1e9:.2f}'),
        )

    head = ('recipe', 'parameters', 'state', 'fsdp, 8', 'fsdp, 64', 'a sequence', 'sent, data-parallel', 'sent, fsdp')
    return tabulate(head, (describe(name, x, teacher) for name, (x, teacher) in list_recipes().items()))


if __name__ == '__main__':
    print(f'{make_times()}\n\n{make_memory()}')
