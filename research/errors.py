"""Mistakes of the user and the names that they may have meant."""

import difflib
from collections.abc import Iterable, Mapping


class UserError(Exception):
    """A mistake of the user, explained in one line: the value given, the values possible, how to fix it."""


class Interrupted(KeyboardInterrupt):
    """A signal ended the command. `signal` is its number, from which the exit status follows, and the text says what was saved."""

    def __init__(self, number: int, text: str = '') -> None:
        super().__init__(text)
        self.signal = number


def nearest(name: str, options: Iterable[str]) -> str:
    """'; did you mean …?' with the option closest to `name`; '' if none is close."""
    close = difflib.get_close_matches(str(name), list(options), n=1)
    return f"; did you mean '{close[0]}'?" if close else ''


def choose(kind: str, name: str, options: Iterable[str]) -> str:
    """Returns `name` if it is one of `options`. Raises UserError with the nearest and all options if not."""
    options = list(options)
    if name not in options:
        raise UserError(f'no {kind} named {name!r}{nearest(name, options)} (there are: {", ".join(options)})')
    return name


def find_unused(section: str, field: str, name: str, options: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Each key of a section that another row of a table reads and the row `name` does not -> why a change of it does nothing.

    field: the field that names the row. options: row -> the fields of the section that only some rows read. A name that no row has
    gives {}: it is refused by itself.
    """
    if name not in options:
        return {}
    others = dict.fromkeys(option for row in options.values() for option in row if option not in options[name])
    return {f'{section}.{option}': f"{section}.{field}='{name}' does not read it" for option in others}
