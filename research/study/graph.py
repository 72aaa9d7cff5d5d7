"""Which runs of a study start from which, and the order that follows. Works on names alone."""

import re
from collections.abc import Iterable, Mapping

from research.errors import UserError, nearest
from research.files import validate_name

Needs = Mapping[str, tuple[str, ...]]  # run -> the runs of the same study that it starts from


# The files of a study folder beside one folder a run.
FILES = ('study.json', 'report.md', 'report.html', 'table.tex', 'table.csv', 'figures')


def validate_run_name(name: str) -> None:
    """Raises UserError if a run cannot have this name, which is its folder's."""
    try:
        validate_name('run', name)
    except UserError as error:
        raise UserError(f"a run cannot be named '{name}': {error}") from None
    if not re.match(r'[\w(]', name) or name in FILES:
        raise UserError(
            f"a run cannot be named '{name}', which would be its folder's name: begin with a letter or digit,"
            f' use no slash, and leave {", ".join(FILES)} to the study'
        )


def siblings(*sources: str) -> tuple[str, ...]:
    """The runs of the same study among some sources, those written '@NAME', each once."""
    return tuple(dict.fromkeys(source[1:] for source in sources if source.startswith('@')))


def order(needs: Needs) -> list[str]:
    """The names of the runs, each after those that it starts from, otherwise as given.

    Raises UserError for a start that the study does not have, and for runs that start from one another in a circle.
    """
    placed: dict[str, None] = {}
    for first in needs:
        if first in placed:
            continue
        trail = {first: iter(needs[first])}  # a chain of starts may be longer than Python's recursion
        while trail:
            last = next(reversed(trail))
            needed = next((each for each in trail[last] if each not in placed), None)
            if needed is None:
                trail.popitem()
                placed[last] = None
            elif needed not in needs:
                raise UserError(
                    f"run '{last}' starts from '@{needed}', which the study does not have"
                    f'{nearest(needed, needs)} (there are: {", ".join(needs)})'
                )
            elif needed in trail:
                names = list(trail)
                circle = ' → '.join((*names[names.index(needed) :], needed))
                raise UserError(f'runs of the study start from one another in a circle: {circle}')
            else:
                trail[needed] = iter(needs[needed])
    return list(placed)


def with_starts(needs: Needs, chosen: Iterable[str]) -> list[str]:
    """The chosen runs and all that they start from, in running order."""
    wanted = set(chosen)
    names = order(needs)
    for name in reversed(names):
        if name in wanted:
            wanted.update(needs[name])
    return [name for name in names if name in wanted]
