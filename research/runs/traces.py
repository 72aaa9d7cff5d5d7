"""Traces that jax's profiler has written: how long each operation took, by the place in the model that it comes from.

They are read here as protocol buffers: with jax's own reader, ProfileData, a warning that is an error ends the process.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

# Operations that only hold others, which have times of their own.
HOLDERS = frozenset(('while', 'call', 'conditional', 'async-start', 'async-done', 'tuple'))
# Parts of an operation's name that say nothing of the model.
EMPTY = re.compile(
    r'while|body|cond|closed_call|eval_jaxpr|checkpoint|rematted_computation|dot_general|transpose|jit|jvp\(\)|Model(\.\w+)?|shmap_body|'
)


def measure_operations(path: Path) -> dict[str, float]:
    """Operation -> its share of the time of all, the dearest first, from an xplane.pb.

    An operation is named by its modules and what it computes, such as 'encoder/attention/btd,dnk->bntk (backward)': those of all
    layers are one. What XLA fuses has the name of its last part.
    """
    sources, spent = read_sources(path), defaultdict[str, float](float)
    for plane in _all(memoryview(path.read_bytes()), 1):  # XSpace.planes
        for module, operation, picoseconds in _list_operations(plane):
            opcode, name = sources[module, operation] if (module, operation) in sources else ('', '')
            if opcode not in HOLDERS:
                spent[simplify(name) or opcode or operation] += picoseconds
    total = sum(spent.values()) or 1.0
    return {name: share / total for name, share in sorted(spent.items(), key=lambda item: -item[1])}


def _list_operations(plane: memoryview) -> Iterator[tuple[str, str, int]]:
    """(module, operation, picoseconds) of each event that is an operation of XLA's.

    On a CPU an operation that several threads share ends with an event of its own, 'end: NAME', of the same number.
    """
    events = list(_read_events(plane))
    ends = {stats['_c']: start for name, start, _, stats in events if name.startswith('end: ') and '_c' in stats}
    for _, start, duration, stats in events:
        if 'hlo_op' in stats and 'hlo_module' in stats:
            end = ends[stats['_p']] if '_p' in stats and stats['_p'] in ends else start
            yield str(stats['hlo_module']), str(stats['hlo_op']), max(duration, end - start)


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


# ---- Protocol buffers, of which the wire format alone is known -----------------------------------------------------------------


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


def _read_events(plane: memoryview) -> Iterator[tuple[str, int, int, dict[str, int | str]]]:
    """(name, start, duration, in picoseconds; statistics) of each event of an XPlane."""
    names, kinds = _read_names(plane, 4), _read_names(plane, 5)
    for line in _all(plane, 3):
        began = _number(line, 3) * 1000  # XLine.timestamp_ns
        for event in _all(line, 4):
            stats = dict(_read_stat(stat, kinds) for stat in _all(event, 4))
            yield names[_number(event, 1)], began + _number(event, 2), _number(event, 3), stats


def _read_names(plane: memoryview, number: int) -> dict[int, str]:
    """Number -> name, of a map of XEventMetadata or XStatMetadata."""
    return {_number(entry, 1): next((_text(metadata, 2) for metadata in _all(entry, 2)), '') for entry in _all(plane, number)}


def _read_stat(stat: memoryview, kinds: dict[int, str]) -> tuple[str, int | str]:
    """The name and the value of an XStat: 3 and 4 are numbers, 5 a text, 7 the number of a name; of other kinds the value is 0."""
    kind, value = '', 0
    for number, found in _fields(stat):
        if number == 1 and isinstance(found, int):
            kind = kinds[found]
        elif number == 5 and isinstance(found, memoryview):
            value = bytes(found).decode(errors='replace')
        elif isinstance(found, int):
            value = kinds[found] if number == 7 else found
    return kind, value


def _text(message: memoryview, number: int) -> str:
    return bytes(next(_all(message, number), b'')).decode(errors='replace')


def _number(message: memoryview, number: int) -> int:
    return next((value for field, value in _fields(message) if field == number and isinstance(value, int)), 0)


def _all(message: memoryview, number: int) -> Iterator[memoryview]:
    """The values of a field of a message that are texts, bytes or messages."""
    return (value for field, value in _fields(message) if field == number and isinstance(value, memoryview))


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field of a message, but for floating-point numbers: an int, or the bytes of a text or a message."""
    place = 0
    while place < len(message):
        key, place = _read_varint(message, place)
        kind = key & 7
        if kind == 0:
            value, place = _read_varint(message, place)
            yield key >> 3, value
        elif kind == 2:
            size, place = _read_varint(message, place)
            yield key >> 3, message[place : place + size]
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
