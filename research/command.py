"""The parts that all command lines share: a parser, exit statuses, and --config.KEY=VALUE."""

import argparse
import contextlib
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from research.errors import Interrupted, UserError, nearest
from research.escape import clean

DEBUG = ('--debug', '--debug=true')
EXHAUSTED = 'RESOURCE_EXHAUSTED'  # how XLA's errors about too little memory begin
DEBUG_HELP = 'after an error, print its traceback too'
FAILURE, MISTAKE, CLOSED = 1, 2, 128 + 13  # exit statuses; the last is what a shell says of a process that SIGPIPE ended


class Parser(argparse.ArgumentParser):
    """An argument parser that knows --debug, and raises UserError instead of printing its usage and exiting."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.add_argument('--debug', action='store_true', default=argparse.SUPPRESS, help=DEBUG_HELP)

    def error(self, message: str) -> NoReturn:
        """Raises UserError with the usage."""
        raise UserError(f'{message} ({" ".join(self.format_usage().split())})')


def run_command(command: Callable[[list[str]], int | None], arguments: list[str], interrupted: str = 'interrupted') -> int:
    """Runs one command line. A failure is one line on the standard error, with --debug after its traceback.

    Returns its exit status (None becomes 0): 2 after a UserError or an OSError, and if XLA lacks memory; 1 if Python lacks memory,
    and after a bug, whose traceback is always printed; 141, and no line, if nobody reads the standard output any more (`| head`);
    128 + the number of the signal that interrupted it. SIGTERM ends a command as Ctrl-C does: what it has begun is cleaned up.
    """
    try:
        with ending_by_sigterm():
            status = command(arguments) or 0
        if sys.stdout is not None:  # None: it was closed
            sys.stdout.flush()  # else the interpreter does, after anybody who could say why it failed
        return status
    except KeyboardInterrupt as error:
        print(str(error) or interrupted, file=sys.stderr)
        return 128 + (error.signal if isinstance(error, Interrupted) else signal.SIGINT)
    except Exception as error:
        if isinstance(error, OSError) and _drop_output(isinstance(error, BrokenPipeError)):
            return CLOSED
        line, status, is_bug = explain(error)
        if is_bug or not set(DEBUG).isdisjoint(arguments):
            for text in ''.join(traceback.format_exception(error)).splitlines():
                print(clean(text), file=sys.stderr)
        print(clean(line), file=sys.stderr)
        return status


def explain(error: Exception) -> tuple[str, int, bool]:
    """(the line that says what went wrong, the exit status, whether it is a bug of ours)."""
    said = ' '.join(str(error).split())
    if isinstance(error, UserError):
        return f'error: {error}', MISTAKE, False
    if isinstance(error, OSError):
        return f'error: {error.strerror or error}{f": {error.filename}" if error.filename else ""}', MISTAKE, False
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith('research'):
        return f'error: {said}: install what this project needs with `make quickstart` or `pip install -e .`', MISTAKE, False
    if isinstance(error, UnicodeEncodeError) and error.encoding.lower() not in ('utf-8', 'utf8'):  # no file of ours is in another
        return f'error: the standard output cannot show every character ({said}): set PYTHONIOENCODING=utf-8', MISTAKE, False
    if isinstance(error, MemoryError) or EXHAUSTED in said:
        hint = 'make run.batch or data.length smaller, or run.accumulate larger (--dry estimates what a run takes)'
        status = FAILURE if isinstance(error, MemoryError) else MISTAKE  # XLA asks for the same again; the system may have more
        return f'error: out of memory{f" ({said})" if said else ""}: {hint}', status, False
    named = f'{type(error).__name__}: {said}' if said else type(error).__name__
    return f'error: this is a bug, not a mistake of yours: please report the lines above and your command ({named})', FAILURE, True


def _drop_output(broken: bool) -> bool:
    """Drops what cannot be written to the standard output, which would fail once more at the exit.

    broken: whether some pipe has no reader. Returns whether it is that of the standard output.
    """
    try:
        output = sys.stdout.fileno()
    except (AttributeError, OSError):  # it was closed, or is no file
        return False
    watch = select.poll()
    watch.register(output, 0)  # errors are always reported
    gone = broken and any(event & select.POLLERR for _, event in watch.poll(0))
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone


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
