"""Which runs of a study start from which, and the order that follows. Works on names alone."""

from collections.abc import Iterable, Mapping

from research.errors import UserError, nearest

Needs = Mapping[str, tuple[str, ...]]  # run -> the runs of the same study that it starts from


def siblings(*sources: str) -> tuple[str, ...]:
    """The runs of the same study among some sources, those written '@NAME', each once."""
    return tuple(dict.fromkeys(source[1:] for source in sources if source.startswith('@')))


def order(needs: Needs) -> list[str]:
    """The names of the runs, each after those that it starts from, otherwise as given.

    Raises UserError for a start that the study does not have, and for runs that start from one another in a circle.
    """
    placed: list[str] = []

    def place(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            circle = ' → '.join((*trail[trail.index(name) :], name))
            raise UserError(f'runs of the study start from one another in a circle: {circle}')
        if name in placed:
            return
        for needed in needs[name]:
            if needed not in needs:
                raise UserError(
                    f"run '{name}' starts from '@{needed}', which the study does not have"
                    f'{nearest(needed, needs)} (there are: {", ".join(needs)})'
                )
            place(needed, (*trail, name))
        placed.append(name)

    for name in needs:
        place(name, ())
    return placed


def with_starts(needs: Needs, chosen: Iterable[str]) -> list[str]:
    """The chosen runs and all that they start from, in running order."""
    wanted = set(chosen)
    names = order(needs)
    for name in reversed(names):
        if name in wanted:
            wanted.update(needs[name])
    return [name for name in names if name in wanted]
