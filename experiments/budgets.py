"""What runs of a study cost to train, counted from their definitions before anything trains."""

from collections.abc import Mapping

from research import costs
from research.experiment import Experiment
from research.study.graph import siblings


def count_training_flops(name: str, trained: Mapping[str, Experiment]) -> float:
    """FLOPs to train a run, its teacher's passes included, and every other of `trained` that it starts from or is taught by."""
    needed, left = set(), [name]
    while left:
        each = left.pop()
        if each in trained and each not in needed:
            needed.add(each)
            left += siblings(trained[each].start, trained[each].teacher)
    return sum(count_step_flops(trained[each], trained) * trained[each].run.steps for each in needed)


def count_step_flops(x: Experiment, trained: Mapping[str, Experiment]) -> float:
    """FLOPs of a training step of `x`, its teacher's pass included, whose architecture is that of one of `trained`."""
    teacher = x.teacher.removeprefix('@')
    known = trained[teacher].model if teacher in trained else None
    return costs.count_flops(x.model, known, x.losses, x.data, x.run.batch)['per_step']
