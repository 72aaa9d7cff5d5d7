"""Which runs may start, and whether their folder is still there: one rule for both executors."""

from collections.abc import Mapping
from pathlib import Path

from research.errors import UserError
from research.study.graph import Needs
from research.study.states import RunState


def may_start(needs: Needs, states: Mapping[str, RunState], name: str, limit: int, tried: bool) -> bool:
    """Whether a run is to be started now: all that it starts from is done, and it is not done, running or out of attempts.

    limit: how many attempts may have failed. tried: whether this launcher has started the run before.
    """
    state = states[name]
    if any(states[needed].state != 'done' for needed in needs[name]):
        return False
    if state.state == 'failed':
        return not tried or (state.again and state.attempts <= limit)
    return state.state in ('waiting', 'interrupted')


def refuse_gone(folder: Path) -> None:
    """Raises UserError if the folder of a study that runs was removed or moved: nothing is begun anew in its old place."""
    if not (folder / 'study.json').exists():
        raise UserError(
            f'{folder} was removed or moved while its study ran, so its runs were stopped: give --workdir=PLACE where it lies now'
        )
