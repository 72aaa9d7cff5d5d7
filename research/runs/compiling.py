"""What a run compiles, in its log: which program, for which batch, how long it took, and whether it was kept from another run."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from research.parallel import Plan

Say = Callable[[str], None]
LOWERED, COMPILED = '/jax/core/compile/jaxpr_to_mlir_module_duration', '/jax/core/compile/backend_compile_duration'
READ = '/jax/compilation_cache/cache_hits'
LONG = 1.0  # seconds of a compilation that the log names, whatever asked for it


@dataclasses.dataclass
class Tally:
    """The programs that jax compiled in a block of code."""

    programs: int = 0
    kept: int = 0  # of them, read from the folder of compiled programs
    seconds: float = 0.0  # without tracing
    end: float = 0.0  # when the last was ready, as `time.monotonic` counts
    say: Say | None = None  # called for each program that takes LONG or more
    thread: int = dataclasses.field(default_factory=threading.get_ident)

    def describe(self) -> str:
        """'63 small programs in 3.1 s, 60 of them kept from before'."""
        kept = f', {self.kept} of them kept from before' if self.kept else ''
        return f'{self.programs} small program{"s" if self.programs > 1 else ""} in {self.seconds:.1f} s{kept}'


_open: list[Tally] = []  # the innermost last


@contextlib.contextmanager
def tally() -> Iterator[Tally]:
    """Counts what is compiled in the block by this thread, without what a `tally` within it counts."""
    found = Tally()
    _open.append(found)
    try:
        yield found
    finally:
        _open.remove(found)


def _find() -> Tally | None:
    return next((each for each in reversed(_open) if each.thread == threading.get_ident()), None)


def _add_seconds(event: str, duration_secs: float, **kwargs: Any) -> None:
    if event not in (LOWERED, COMPILED) or (found := _find()) is None:
        return
    found.seconds += duration_secs
    found.programs += event == COMPILED
    found.end = time.monotonic()
    if event == COMPILED and duration_secs >= LONG and found.say is not None:
        found.say(f'compiled {kwargs["fun_name"]} in {duration_secs:.1f} s')


def _add_kept(event: str, **kwargs: Any) -> None:
    if event == READ and (found := _find()) is not None:
        found.kept += 1


# jax has no public way to take a listener back, so that there is one for the whole process.
jax.monitoring.register_event_duration_secs_listener(_add_seconds)
jax.monitoring.register_event_listener(_add_kept)


def announce(plan: Plan, say: Say) -> Plan:
    """`plan`, whose compiled functions `say` what they compile: for another batch before they do, and after each time."""

    def compiled(function: Callable, donate: bool = False) -> Callable:
        return _announce(function.__name__, plan.compile(function, donate), say)

    return plan._replace(compile=compiled)


def _announce(name: str, function: Callable, say: Say) -> Callable:
    known: set[Any] = set()

    def call(first: Any, frozen: Any, batch: Any) -> Any:
        shapes = tuple((key, leaf.shape) for key, leaf in sorted(batch.items()))
        new, begin = shapes not in known, time.monotonic()
        if new:
            known.add(shapes)
            say(f'compiling the {name} for {describe_batch(batch)} …')
        with tally() as found:
            result = function(first, frozen, batch)
        if found.programs:
            again = '' if new else f' again for {describe_batch(batch)}: its inputs lie on other devices than before'
            kept = ' (kept from before)' if found.kept == found.programs else ''
            say(f'compiled the {name}{again} in {found.end - begin:.1f} s{kept}')
        return result

    return call


def describe_batch(batch: Mapping[str, Any]) -> str:
    """'ids 16 × 128, masked_positions 16 × 20': the shapes of a batch, each once."""
    shapes: dict[tuple[int, ...], str] = {}
    for name, leaf in batch.items():
        shapes.setdefault(leaf.shape, name)
    return ', '.join(f'{name} {" × ".join(map(str, shape))}' for shape, name in shapes.items())
