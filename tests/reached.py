"""Which lines that make a UserError the tests reach: the law that each of them is reached by a test."""

import ast
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from research.errors import UserError

ROOT = Path(__file__).parent.parent
PLACES = ('research', 'configs', 'experiments', 'launch.py')
reached: set[tuple[str, int]] = set()  # (file from the root on, line) of this process


class Site(NamedTuple):
    """A call that makes a UserError, or a `raise` of what a function made: its file, its lines, and its first line's text."""

    file: str
    first: int
    last: int
    text: str


def record() -> None:
    """From now on, every UserError that this process makes notes the line that makes it, and the line that called for it."""
    made = UserError.__init__

    def note(self: UserError, *arguments: Any) -> None:
        frame = sys._getframe(1)
        for _ in range(2):
            if frame is not None and frame.f_code.co_filename.startswith(f'{ROOT}{os.sep}'):
                reached.add((os.path.relpath(frame.f_code.co_filename, ROOT), frame.f_lineno))
            frame = frame and frame.f_back
        made(self, *arguments)

    type.__setattr__(UserError, '__init__', note)


def sites(places: Iterable[Path] = tuple(ROOT / place for place in PLACES)) -> list[Site]:
    """Every call of UserError, or of a class that derives from it, and every `raise` of a call of a function that returns one."""
    paths = [path for place in places for path in (sorted(place.rglob('*.py')) if place.is_dir() else [place])]
    trees = {path: ast.parse(path.read_text()) for path in paths}
    classes, makers = {'UserError'}, set()
    for node in (node for _ in range(2) for tree in trees.values() for node in ast.walk(tree)):  # twice: a class may derive twice
        if isinstance(node, ast.ClassDef) and {_name(base) for base in node.bases} & classes:
            classes.add(node.name)
        if isinstance(node, ast.FunctionDef) and node.returns is not None and _name(node.returns) in classes:
            makers.add(node.name)
    found = set()
    for path, tree in trees.items():
        lines = path.read_text().splitlines()
        for node in ast.walk(tree):
            call = node if isinstance(node, ast.Call) else node.exc if isinstance(node, ast.Raise) else None
            if isinstance(call, ast.Call) and _name(call.func) in (classes if call is node else makers):
                last = call.end_lineno or call.lineno
                text = ' '.join(line.strip() for line in lines[call.lineno - 1 : last][:2])
                found.add(Site(os.path.relpath(path, ROOT), call.lineno, last, text))
    return sorted(found)


def is_whole(config: pytest.Config) -> bool:
    """Whether all fast tests are asked for: no path, no -k, -m, --deselect or --ignore of the user's."""
    option = config.option
    asked = (option.keyword, option.deselect, option.ignore, option.ignore_glob, option.collectonly)
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS and option.markexpr == 'not slow' and not any(asked)


def missed(seen: Iterable[tuple[str, int]] | None = None, among: Iterable[Site] | None = None) -> list[Site]:
    """The sites of which no line was seen; by default all sites, and what this process reached."""
    lines = reached if seen is None else set(seen)
    every = sites() if among is None else among
    return [site for site in every if not any((site.file, line) in lines for line in range(site.first, site.last + 1))]


def _name(node: ast.expr) -> str:
    """The last name of an expression such as `errors.UserError`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ''
