"""What rows have in common: what they cost to train, counted from their definitions before anything trains."""

from collections.abc import Iterable, Mapping

from research import costs
from research.experiment import Experiment
from research.study.graph import siblings

SAME = 1.02  # times: costs that lie closer are called equal


def describe_budget(trained: Mapping[str, Experiment], rows: Iterable[str]) -> str:
    """What the `rows` have in common of steps, pieces, training FLOPs and parameters, and in which of them they differ.

    trained: name -> all runs that pretrain. FLOPs are equal if they lie within 2 %.
    """
    runs = {name: trained[name] for name in rows}
    if any(x.run.epochs for x in runs.values()):
        return 'The steps of some rows follow from epochs: what the rows share is not known beforehand.'
    flops = [count_training_flops(name, trained) for name in runs]
    parameters = [costs.summarize_parameters(x.model)['encoder'] for x in runs.values()]
    spread = {
        'steps': len({x.run.steps for x in runs.values()}) == 1,
        'pieces': len({x.run.steps * x.run.batch * x.data.length for x in runs.values()}) == 1,
        'training FLOPs (with those of the runs that a row starts from or is taught by)': max(flops) <= SAME * min(flops),
        'parameters': max(parameters) <= SAME * min(parameters),
    }
    shared, apart = ([name for name, same in spread.items() if same is wanted] for wanted in (True, False))
    parts = [f'share {", ".join(shared)}'] if shared else []
    parts += [f'differ in {", ".join(apart)}'] if apart else []
    return f'Rows {" and ".join(parts)}.'


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
