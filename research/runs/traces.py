"""Traces that jax's profiler has written: how long each operation took, by the place in the model that it comes from."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jax.profiler import ProfileData

# Operations that only hold others, which have times of their own.
HOLDERS = frozenset(('while', 'call', 'conditional', 'async-start', 'async-done', 'tuple'))
# Parts of an operation's name that say nothing of the model.
EMPTY = re.compile(
    r'while|body|cond|closed_call|checkpoint|rematted_computation|dot_general|transpose|jit|jvp\(\)|Model(\.\w+)?|shmap_body|'
)


def measure_operations(path: Path) -> dict[str, float]:
    """Operation -> its share of the time of all, the dearest first, from an xplane.pb.

    An operation is named by its modules and what it computes, such as 'encoder/attention/btd,dnk->bntk (backward)': those of all
    layers are one. What XLA fuses has the name of its last part.
    """
    sources, spent = read_sources(path), defaultdict[str, float](float)
    for plane in ProfileData.from_file(str(path)).planes:
        for module, operation, seconds in _list_operations(plane):
            opcode, name = sources[module, operation] if (module, operation) in sources else ('', '')
            if opcode not in HOLDERS:
                spent[simplify(name) or opcode or operation] += seconds
    total = sum(spent.values()) or 1.0
    return {name: seconds / total for name, seconds in sorted(spent.items(), key=lambda item: -item[1])}


def _list_operations(plane: Any) -> Iterator[tuple[str, str, float]]:
    """(module, operation, seconds) of each event that is an operation of XLA's.

    On a CPU an operation that several threads share ends with an event of its own, 'end: NAME', of the same number.
    """
    events = [(event, dict(event.stats)) for line in plane.lines for event in line.events]
    ends = {stats['_c']: event.start_ns for event, stats in events if event.name.startswith('end: ') and '_c' in stats}
    for event, stats in events:
        if 'hlo_op' in stats and 'hlo_module' in stats:
            end = ends[stats['_p']] if '_p' in stats and stats['_p'] in ends else event.start_ns
            yield str(stats['hlo_module']), str(stats['hlo_op']), max(event.duration_ns, end - event.start_ns) / 1e9


def simplify(name: str) -> str:
    """A name of XLA's for a place in the program, as a reader of the model knows it; '' if it has none.

    'jit(step)/transpose(jvp(Model))/encoder/while/body/attention/exp' -> 'encoder/attention/exp (backward)'
    """
    backward = 'transpose(' in name
    parts = [re.sub(r'^transpose\((.*)\)$', r'\1', part) for part in name.split('/')[1:]]
    parts = [re.sub(r'^(?:jvp|jit|remat|vmap)\((.+)\)$', r'\1', part) for part in parts]
    own = ['losses'] if 'jvp()' in parts else []  # what the step's gradient is taken of, outside of the model
    parts = own + [part.rpartition('.')[2].lstrip('_') for part in parts if not EMPTY.fullmatch(part)]
    return '/'.join(parts) + (' (backward)' if backward and parts else '')


# ---- Names: protocol buffers, of which the wire format alone is known ------------------------------------------------------------


def read_sources(path: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """(module, instruction) -> (its opcode, the place in the program that it comes from), from the programs in an xplane.pb."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for plane in _all(memoryview(path.read_bytes()), 1):  # XSpace.planes
        for entry in _all(plane, 4):  # XPlane.event_metadata, a map
            for metadata in _all(entry, 2):
                for stat in _all(metadata, 5):  # XEventMetadata.stats
                    for proto in _all(stat, 6):  # XStat.bytes_value: an HloProto
                        for module in _all(proto, 1):
                            found |= _read_module(module)
    return found


def _read_module(module: memoryview) -> dict[tuple[str, str], tuple[str, str]]:
    name, found = _text(module, 1), {}
    for computation in _all(module, 3):
        for instruction in _all(computation, 2):
            place = next((_text(metadata, 2) for metadata in _all(instruction, 7)), '')
            found[name, _text(instruction, 1)] = (_text(instruction, 2), place)
    return found


def _text(message: memoryview, number: int) -> str:
    return bytes(next(_all(message, number), b'')).decode(errors='replace')


def _all(message: memoryview, number: int) -> Iterator[memoryview]:
    """The values of a field of a message that are texts, bytes or messages."""
    place = 0
    while place < len(message):
        key, place = _read_varint(message, place)
        kind = key & 7
        if kind == 0:
            _, place = _read_varint(message, place)
        elif kind == 2:
            size, place = _read_varint(message, place)
            if key >> 3 == number:
                yield message[place : place + size]
            place += size
        else:
            place += 8 if kind == 1 else 4


def _read_varint(message: memoryview, place: int) -> tuple[int, int]:
    """(a number, the place after it)."""
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
