"""What a user is told when the mistake is theirs."""

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn


class UserError(Exception):
    """A mistake of the user's, told in one line: what was given, what is possible, how to mend it."""


def nearest(name: str, options: Iterable[str]) -> str:
    """The clause that points at the option closest to `name`, or '' when none is close."""
    close = difflib.get_close_matches(str(name), list(options), n=1)
    return f"; did you mean '{close[0]}'?" if close else ''


def choose(kind: str, name: str, options: Iterable[str]) -> str:
    """`name` itself when it is one of `options`; else a UserError that lists them."""
    options = list(options)
    if name not in options:
        raise UserError(f"no {kind} named '{name}'{nearest(name, options)} (there are: {', '.join(options)})")
    return name


class Parser(argparse.ArgumentParser):
    """A parser of command lines whose errors are those of every other mistake: one line."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f'{message} ({" ".join(self.format_usage().split())})')


def run_command(command: Callable[[list[str]], None], arguments: list[str], interrupted: str = 'interrupted') -> int:
    """Runs one command line. Returns the exit status: 0, 2 for a mistake of the user's, 130 when stopped (and says so)."""
    try:
        command(arguments)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        print(f'error: {error.strerror or error}{f": {error.filename}" if error.filename else ""}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
    return 0
