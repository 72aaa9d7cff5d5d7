"""Signals that end a run. While it trains they wait for the end of the step, so that the state can be saved.

SIGTERM and SIGINT (Ctrl-C) end a run with status 143 and 130. Under Slurm, submitit has a handler for SIGUSR2, which comes some
time before the end of a job, and requeues the job: here it is called once the state is saved.
"""

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

from research import parallel
from research.errors import Interrupted

Item = TypeVar('Item')


class Pending:
    """The first signal that has come, by its number; None before."""

    def __init__(self) -> None:
        self.number: int | None = None

    def name(self) -> str:
        """The signal's name, such as 'SIGTERM'; '' before one has come."""
        return '' if self.number is None else signal.Signals(self.number).name

    def stop_between(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items; once a signal has come, raises Interrupted instead of giving the next."""
        for item in items:
            if self.number is not None:
                raise Interrupted(self.number)
            yield item


@contextlib.contextmanager
def postponed() -> Iterator[Pending]:
    """Within the block a signal is only noted; the block asks for it. A second Ctrl-C ends the block at once.

    Signals act as before in another thread than the main one, where Python runs no handlers, and in a run of several processes,
    whom a signal would stop at different steps, each of them waiting for the others.
    """
    pending = Pending()
    if threading.current_thread() is not threading.main_thread() or parallel.count_processes() > 1:
        yield pending
        return

    def note(number: int, frame: object) -> None:
        if pending.number is not None and number == signal.SIGINT:
            raise Interrupted(number)
        pending.number = pending.number or number

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)}
    requeue = before[signal.SIGUSR2]
    if not callable(requeue):
        del before[signal.SIGUSR2]
    for number in before:
        signal.signal(number, note)
    try:
        yield pending
    except Interrupted as error:
        if error.signal == signal.SIGUSR2 and callable(requeue):
            requeue(signal.SIGUSR2, None)  # ends the process
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
