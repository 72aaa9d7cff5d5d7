"""Stored numbers against numbers computed anew: equal in all bits, within a tolerance, or different."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from research.runs.folder import DECISIVE, Environment

Say = Callable[[str], None]  # shows one line

# How far numbers may differ, relative to 1 or the larger of them, where the machine or the code is another.
TOLERANCE = {'float32': 1e-3, 'bfloat16': 2e-2}
SHOWN = 20  # differences that are listed
CHOICES = 0.01  # the share of a split's predictions that may be another choice there


@dataclasses.dataclass(frozen=True)
class Difference:
    """A number, or another thing, that is not what a run recorded."""

    name: str
    stored: Any
    found: Any

    def __str__(self) -> str:
        return f'{self.name}: stored {_show(self.stored)}, found {_show(self.found)}'


@dataclasses.dataclass
class Comparison:
    """What was compared so far. Numbers may differ by `tolerance`; 0 asks for all bits."""

    tolerance: float
    exact: int = 0  # equal in all bits
    near: int = 0  # within the tolerance
    differences: list[Difference] = dataclasses.field(default_factory=list)

    def add(self, name: str, stored: Any, found: Any, tolerance: float | None = None) -> None:
        """Compares two values, and what lies inside of them under 'name.key' and 'name.0'. tolerance: another one for these."""
        if isinstance(stored, Mapping) and isinstance(found, Mapping):
            for key in dict.fromkeys([*stored, *found]):
                pair = [side[key] if key in side else None for side in (stored, found)]
                self.add(f'{name}.{key}' if name else key, *pair, tolerance=tolerance)
        elif _is_list(stored) and _is_list(found) and len(stored) == len(found):
            for number, pair in enumerate(zip(stored, found, strict=True)):
                self.add(f'{name}.{number}', *pair, tolerance=tolerance)
        elif stored == found or (stored != stored and found != found):
            self.exact += 1
        elif _is_near(stored, found, self.tolerance if tolerance is None else tolerance):
            self.near += 1
        else:
            self.differences.append(Difference(name, stored, found))

    def conclude(self, folder: Path, reasons: Sequence[str], say: Say) -> bool:
        """Says the differences, SHOWN at most, and returns whether there is none. reasons: why the last bits may differ."""
        for difference in self.differences[:SHOWN]:
            say(str(difference))
        if len(self.differences) > SHOWN:
            say(f'… and {len(self.differences) - SHOWN:,} more')
        say(f'{folder}: {self._describe(reasons)}')
        return not self.differences

    def _describe(self, reasons: Sequence[str]) -> str:
        count = self.exact + self.near + len(self.differences)
        why = f'; here differ {", ".join(reasons)}' if reasons else ''
        if self.differences:
            asked = f' by more than {self.tolerance:g}' if self.tolerance else ''
            return f'different: {len(self.differences):,} of {count:,} values{asked}{why}'
        if not self.near:
            return f'equal: {count:,} values, all bits'
        return f'equal: {count:,} values, {self.near:,} of them not in all bits but within {self.tolerance:g}{why}'


def compare_environments(sessions: Sequence[Environment], here: Environment) -> tuple[str, ...]:
    """What of DECISIVE is another here than in the sessions of a run, in words: why the last bits may differ."""
    found = {}
    for session in sessions:
        for name, words in DECISIVE.items():
            stored, mine = getattr(session, name), getattr(here, name)
            if isinstance(stored, Mapping) and name in ('versions', 'jax'):  # what either did not record is no difference
                mine = {key: mine[key] for key in stored if key in mine}
                stored = {key: stored[key] for key in mine}
                pairs = [f'{key} {stored[key]} -> {mine[key]}' for key in stored if stored[key] != mine[key]]
                words = f'{words} ({", ".join(pairs)})'
            if stored != mine:
                found[name] = words if stored else f'{words} (not recorded)'
    return tuple(found.values())


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_near(stored: Any, found: Any, tolerance: float) -> bool:
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (stored, found)]
    return all(numbers) and abs(stored - found) <= tolerance * max(1.0, abs(stored), abs(found))


def _show(value: Any) -> str:
    return 'nothing' if value is None else repr(value) if isinstance(value, str) else str(value)
