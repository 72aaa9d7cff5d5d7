"""What a user is told when the mistake is theirs."""

import difflib
from collections.abc import Iterable


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
