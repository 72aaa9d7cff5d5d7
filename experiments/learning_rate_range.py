"""Which learning rate? One run whose rate rises (Smith 2017, §3.3), beside short runs of one rate each.

    python launch.py --config=experiments/learning_rate_range.py:small --workdir=runs/range
    python -m experiments.learning_rate_range runs/range       (says the suggested rate)

Hypothesis: one run whose rate rises linearly from 0 finds what a sweep finds in many: half the rate at which its training loss is
lowest lies within a factor of √10, a step of the sweep, of the best constant rate. Refuted if the second command says so. Both
claims under the table hold if the sweep brackets the best rate; if one does not, move RATES. The second command reads the curve
and the rates of the first seed.
"""

import dataclasses
import math
import statistics
import sys
from pathlib import Path

from configs import bert
from experiments.papers import SEEDS, load_recipe, scale_down
from research.command import Parser, run_command
from research.data.settings import Data
from research.errors import UserError
from research.experiment import Experiment, Run
from research.objectives.losses import Losses, Mlm
from research.optim import Optimizer
from research.runs.folder import read_result
from research.study.columns import COLUMNS
from research.study.curves import read_curve
from research.study.seeds import repeat
from research.study.study import Claim, Row, Study, Table

STEPS = {'tiny': 20, 'small': 300, 'paper': 3000}
SIZES = tuple(STEPS)
RATES = {'1e-4': 1e-4, '3e-4': 3e-4, '1e-3': 1e-3, '3e-3': 3e-3, '1e-2': 1e-2, '3e-2': 3e-2}
LOSS = 'metrics:dev/mlm'
SMOOTHED = 9  # logged losses: their median is one point of the curve


def get_study(size: str = 'small') -> Study:
    """A run whose rate rises to the highest of RATES, and a run of each rate."""
    x, steps = make_base(size), STEPS[size]
    rising = Optimizer(lr=max(RATES.values()), warmup=float(steps))
    runs = {'range': dataclasses.replace(x, name='range', optimizer=rising)}
    for title, rate in RATES.items():
        runs[f'rate-{title}'] = dataclasses.replace(x, name=f'rate-{title}', optimizer=Optimizer(lr=rate, warmup=0.1, power=0.0))
    low, *_, high = RATES
    best = ('rate-1e-3', LOSS)
    study = Study(
        name='learning_rate_range',
        runs=runs,
        table=Table(
            f'Held-out MLM loss by constant learning rate ({size})',
            tuple(Row(title, {'pretrain': (f'rate-{title}',)}) for title in RATES),
            (COLUMNS['mlm'], COLUMNS['time']),
        ),
        note='The curve of `range` is over a rate that rises linearly with the steps: '
        '`python -m experiments.learning_rate_range FOLDER` says where it is lowest.',
        claims=(
            Claim(f'{low} is too low: the loss at {{a}} is below that at {{b}}', best, (f'rate-{low}', LOSS)),
            Claim(f'{high} is too high: the loss at {{a}} is below that at {{b}}', best, (f'rate-{high}', LOSS)),
        ),
    )
    return repeat(study, SEEDS[size])


def make_base(size: str) -> Experiment:
    """What all runs have in common: BERT's recipe at `paper`, else a narrow model that learns something in hundreds of steps."""
    steps = STEPS[size]
    if size == 'paper':
        x = scale_down(load_recipe(bert, 'base'), size)
        return dataclasses.replace(x, run=dataclasses.replace(x.run, steps=steps, log_every=10, evaluate_every=0))
    return Experiment(
        model=bert.make_narrow(1024, layers=2, width=64, length=64),
        data=Data(length=64),
        losses=Losses(mlm=Mlm(1.0)),
        run=Run(steps=steps, batch=16, log_every=max(steps // 100, 1), checkpoint_every=0),
    )


def suggest(folder: Path) -> tuple[float, float]:
    """(the suggested rate, the rate at which the run `range` of the study in `folder` has its lowest smoothed training loss).

    Raises UserError if that run has not been made.
    """
    path = folder / 'range' / 'metrics.jsonl'
    of_step = dict(zip(*read_curve(path, 'train/learning_rate'), strict=True))
    steps, losses = read_curve(path, 'train/loss')
    rates = [of_step[step] for step in steps]
    if len(losses) < SMOOTHED:
        raise UserError(f'{path} has too few steps: run the study first')
    half = SMOOTHED // 2
    smooth = {rates[i]: statistics.median(losses[i - half : i + half + 1]) for i in range(half, len(losses) - half)}
    lowest = min(smooth, key=lambda rate: smooth[rate])
    return lowest / 2, lowest


def compare(folder: Path) -> str:
    """The suggested rate in words, beside the best of the constant rates that are done."""
    rate, lowest = suggest(folder)
    text = f'the training loss is lowest at the rate {lowest:.2g}: suggested rate {rate:.2g}'
    done = {title: result.metrics['dev/mlm'] for title in RATES if (result := read_result(folder / f'rate-{title}')) is not None}
    if len(done) < len(RATES):
        return text
    best = min(done, key=lambda title: done[title])
    near = abs(math.log10(rate / RATES[best])) <= 0.5
    verdict = 'within a factor of √10 of it: the hypothesis holds' if near else 'not within a factor of √10 of it: refuted'
    return f'{text}; the best constant rate is {best} (held-out MLM loss {done[best]:.3f}), {verdict}'


def main(arguments: list[str]) -> None:
    """Prints the suggestion of the study in the folder that the command line names."""
    parser = Parser(prog='python -m experiments.learning_rate_range', description='The suggested learning rate.')
    parser.add_argument('folder', type=Path)
    print(compare(parser.parse_args(arguments).folder))


if __name__ == '__main__':
    sys.exit(run_command(main, sys.argv[1:]))
