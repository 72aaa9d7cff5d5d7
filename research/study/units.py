"""The unit of a study's statistics: the training that a run is one draw of, told apart by its seed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from research.errors import UserError
from research.experiment import Experiment

# Kind of a unit -> its seeds in words.
KINDS = {
    'pretraining': 'pretraining seeds',
    'start': 'fine-tuning seeds of one given start',
    'random': 'seeds of training from random weights',
}


class Unit(NamedTuple):
    """One draw. Rows of a study are paired by its seed."""

    seed: int
    kind: str  # of KINDS


def find_chain(name: str, runs: Mapping[str, Experiment]) -> list[str]:
    """The run and those of the study that its weights come from, nearest first."""
    found, last = {name: None}, name
    while True:
        x = runs[last]
        start = x.teacher if x.start == 'teacher' else x.start
        if not start.startswith('@') or start[1:] not in runs or start[1:] in found:
            return list(found)
        last = start[1:]
        found[last] = None


def find_pretraining(name: str, runs: Mapping[str, Experiment]) -> str:
    """The run of the study that pretrained the weights of `name`; '' if the study pretrains none of them.

    A run that takes no step, or trains with a part frozen, measures what it starts from.
    """
    chain = [each for each in find_chain(name, runs) if not runs[each].data.task]
    trained = [each for each in chain if runs[each].run.steps and not runs[each].optimizer.frozen]
    return (trained or chain[-1:] or [''])[0]


def find_unit(name: str, runs: Mapping[str, Experiment]) -> Unit:
    """The Unit that a run belongs to: its pretraining or, if the study pretrains none, its own training."""
    pretrained = find_pretraining(name, runs)
    if pretrained:
        return Unit(runs[pretrained].seed, 'pretraining')
    return Unit(runs[name].seed, 'start' if runs[find_chain(name, runs)[-1]].start else 'random')


def is_constant(names: Sequence[str], runs: Mapping[str, Experiment]) -> bool:
    """Whether a side of a claim is one run that trains nothing: what it measures is compared with every seed of the other side."""
    return len(names) == 1 and not runs[names[0]].run.steps


def share_seeds(sides: Sequence[Sequence[str]], runs: Mapping[str, Experiment]) -> list[int]:
    """The seeds that all sides have, in increasing order; of two sides that train nothing, those of the first."""
    moving = [side for side in sides if not is_constant(side, runs)] or sides[:1]
    return sorted(set.intersection(*({find_unit(name, runs).seed for name in side} for side in moving)))


def refuse_disjoint_seeds(holder: str, sides: Sequence[Sequence[str]], runs: Mapping[str, Experiment]) -> None:
    """Raises UserError if the sides of a comparison share no seed. `holder` begins the message."""
    if all(sides) and not share_seeds(sides, runs):
        seeds = [', '.join(map(str, sorted({find_unit(name, runs).seed for name in side}))) for side in sides]
        raise UserError(
            f'{holder}: its sides share no seed ({" against ".join(seeds)}), so nothing can be paired: give both the same seeds'
        )
