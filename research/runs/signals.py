"""Signals that end a run. While it trains they wait for the end of the step, so that the state can be saved.

SIGTERM and SIGINT (Ctrl-C) end a run with status 143 and 130. Under Slurm, submitit has a handler for SIGUSR2, which comes some
time before the end of a job, and requeues the job: here it is called once the state is saved.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

from research import processes
from research.errors import Interrupted

Item = TypeVar('Item')


class Pending:
    """The first signal that has come, by its number; None before. Several processes of one run stop after the same step."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._noted: int | None = None
        self._alone = processes.is_alone()

    def note(self, number: int, frame: object) -> None:
        """Handles a signal. A second Ctrl-C raises Interrupted at once."""
        if self._noted is not None and number == signal.SIGINT:
            raise Interrupted(number)
        self._noted = self._noted or number
        if self._alone:
            self.number = self._noted
        else:
            os.kill(os.getpid(), signal.SIGTERM)  # jax tells the other processes

    def ends(self, step: int) -> bool:
        """Whether the run stops after `step`: asked after every step."""
        if not self._alone and processes.agree_to_stop(step):
            self.number = self._noted or signal.SIGTERM
        return self.number is not None

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
    """Within the block a signal is only noted; the block asks for it (`Pending.ends`). A second Ctrl-C ends the block at once.

    Python runs handlers in the main thread only: in another one nothing is noted, and signals act as before.
    """
    pending = Pending()
    if threading.current_thread() is not threading.main_thread():
        yield pending
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)}
    requeue = before[signal.SIGUSR2]
    if not callable(requeue):
        del before[signal.SIGUSR2]
    if not processes.is_alone():
        del before[signal.SIGTERM]  # jax handles it
    for number in before:
        signal.signal(number, pending.note)
    try:
        yield pending
    except Interrupted as error:
        if error.signal == signal.SIGUSR2 and callable(requeue):
            requeue(signal.SIGUSR2, None)  # ends the process
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
