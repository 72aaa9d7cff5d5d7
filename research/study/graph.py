"""Which runs of a study start from which, and the order that follows."""

from collections.abc import Iterable

from research.errors import UserError, nearest
from research.experiment import Experiment
from research.study.study import Study


def needs(experiment: Experiment) -> tuple[str, ...]:
    """The names of the runs that `experiment` starts from, each once."""
    references = (experiment.start, experiment.teacher, experiment.data.tokenizer)
    return tuple(dict.fromkeys(reference[1:] for reference in references if reference.startswith('@')))


def order(study: Study) -> list[str]:
    """The names of the runs, each after those it starts from, otherwise as given."""
    placed: list[str] = []

    def place(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            circle = ' → '.join((*trail[trail.index(name) :], name))
            raise UserError(f"runs of study '{study.name}' start from one another in a circle: {circle}")
        if name in placed:
            return
        for needed in needs(study.runs[name]):
            if needed not in study.runs:
                raise UserError(
                    f"run '{name}' starts from '@{needed}', which study '{study.name}' does not have"
                    f'{nearest(needed, study.runs)} (there are: {", ".join(study.runs)})'
                )
            place(needed, (*trail, name))
        placed.append(name)

    for name in study.runs:
        place(name, ())
    return placed


def with_origins(study: Study, chosen: Iterable[str]) -> list[str]:
    """The chosen runs and all that they start from, in running order."""
    wanted = set(chosen)
    names = order(study)
    for name in reversed(names):
        if name in wanted:
            wanted.update(needs(study.runs[name]))
    return [name for name in names if name in wanted]
