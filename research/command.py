"""What command lines have in common: a parser, exit statuses, and --config.KEY=VALUE."""

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

from research.errors import UserError, nearest


class Parser(argparse.ArgumentParser):
    """A parser of command lines whose errors are those of every other mistake: one line."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f'{message} ({" ".join(self.format_usage().split())})')


def run_command(command: Callable[[list[str]], int | None], arguments: list[str], interrupted: str = 'interrupted') -> int:
    """Runs one command line. Returns the command's exit status (None is 0); 2 for a mistake of the user's, 130 if interrupted."""
    try:
        return command(arguments) or 0
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        print(f'error: {error.strerror or error}{f": {error.filename}" if error.filename else ""}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130


def changes(rest: list[str], known: Iterable[str], flags: str) -> dict[str, str]:
    """Dotted name -> text, of what flags leave of a command line. Both `--config.a=b` and `--config.a b` are understood.

    Raises UserError for anything else, with the nearest of the `known` flags; flags: what is possible, in words.
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
