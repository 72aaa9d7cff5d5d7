"""The parts that all command lines share: a parser, exit statuses, and --config.KEY=VALUE."""

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

from research.errors import Interrupted, UserError, nearest
from research.escape import clean


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UserError instead of printing its usage and exiting."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError with the usage."""
        raise UserError(f'{message} ({" ".join(self.format_usage().split())})')


def run_command(command: Callable[[list[str]], int | None], arguments: list[str], interrupted: str = 'interrupted') -> int:
    """Runs one command line. Returns its exit status (None becomes 0): 2 after a UserError or an OSError.

    SIGTERM ends a command as Ctrl-C does: what it has begun is cleaned up, and the status is 128 + the signal's number.
    """
    try:
        with ending_by_sigterm():
            return command(arguments) or 0
    except UserError as error:
        print(f'error: {clean(str(error))}', file=sys.stderr)
        return 2
    except OSError as error:
        print(clean(f'error: {error.strerror or error}{f": {error.filename}" if error.filename else ""}'), file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(str(error) or interrupted, file=sys.stderr)
        return 128 + (error.signal if isinstance(error, Interrupted) else signal.SIGINT)


@contextlib.contextmanager
def ending_by_sigterm() -> Iterator[None]:
    """Within the block SIGTERM raises Interrupted, if it did nothing but end the process before."""

    def end(number: int, frame: object) -> None:
        raise Interrupted(number)

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def parse_changes(rest: list[str], known: Iterable[str], flags: str) -> dict[str, str]:
    """{dotted name: text} of the --config arguments of a command line: `--config.a=b` and `--config.a b` are both accepted.

    rest: the arguments left after the flags. Raises UserError for any other argument; the message names the nearest of the `known`
    flags and ends with `flags`, the list of all.
    """
    found = {}
    rest = list(rest)
    while rest:
        given = rest.pop(0)
        name, equals, value = given.removeprefix('--').partition('=')
        if not given.startswith('--config.'):
            raise UserError(f"unknown argument '{given}'{nearest(name, known)} (flags: {flags})")
        if not equals:
            if not rest or rest[0].startswith('--'):
                raise UserError(f'{given} has no value: give {given}=VALUE')
            value = rest.pop(0)
        found[name.removeprefix('config.')] = value
    return found
