"""Valid files made invalid: what hypothesis draws to fuzz a parser."""

import copy
import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Files = dict[str, bytes]

NUMBERS: tuple[Any, ...] = (0, -1, 1, 2, 7, 10**9, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.0, 1e308, 5e-324, 3.0)
PIECES = ('', ' ', 'a', 'a' * 300, '1', 'é', 'e\u0301', '名', '\u202e', '\x00', '\x1b[31m', '\ud800', 'a\nb', '../x', '/etc/passwd')
PIECES += (
    '@x',
    '[/x]',
    '$x_{$',
    '=1+1',
    '<script>',
    '" onload="',
    '%s',
    '{}',
    'nan',
    'NaN',
    'none',
    'all',
    'text',
    'label',
    'bert',
)
PIECES += ('albert', '[MASK]', '[PAD]', '##a')
NESTED: tuple[Any, ...] = ([], {}, [None], [[]], [0] * 50, {'': 0}, {'a': {'b': []}})
HOSTILE: tuple[Any, ...] = (None, True, False, *NUMBERS, *PIECES, *NESTED, float('nan'), float('inf'))
RAW = (b'', b'\x00', b'\xff', b'\xef\xbb\xbf', b'\r', b'\n', b'\r\n', b'"', b'[', b'{', b'}', b'\\', b'\xed\xa0\x80', b'\x80\x02')
RAW += (b'PK\x03\x04', b'9' * 500, b'[' * 2000, b'1e999', b'NaN', b'\\ud800', b'\xf0\x9f\x98\x80', b'\t', b',', b'\x0b')
RAW += (b'\xff' * 40, (2**40).to_bytes(8, 'little'))


@st.composite
def changed_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` with up to six places cut, repeated, flipped or overwritten."""
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(content)))
        size = draw(st.sampled_from((0, 1, 1, 2, 4, 8, 64, 1000)))
        kind = draw(st.sampled_from(('flip', 'insert', 'remove', 'repeat', 'end', 'overwrite')))
        if kind == 'end':
            content = content[:place]
        elif kind == 'remove':
            content = content[:place] + content[place + size :]
        elif kind == 'repeat':
            content = content[:place] + content[place : place + size] * 9 + content[place:]
        elif kind == 'flip' and place < len(content):
            content = content[:place] + bytes([content[place] ^ (1 << draw(st.integers(0, 7)))]) + content[place + 1 :]
        else:
            new = draw(st.sampled_from(RAW)) if draw(st.booleans()) else draw(st.binary(max_size=8))
            content = content[:place] + new + content[place + (len(new) if kind == 'overwrite' else 0) :]
    return content


def hostile() -> st.SearchStrategy[Any]:
    """One of HOSTILE, of which each draw has its own copy: a later change may be made inside it."""
    return st.sampled_from(HOSTILE).map(copy.deepcopy)


@st.composite
def changed_lines(draw: st.DrawFn, content: bytes) -> bytes:
    """Text with up to three of its lines replaced, added, doubled, left out or moved."""
    lines = content.split(b'\n')
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(('replace', 'add', 'double', 'remove', 'move')))
        line = draw(st.sampled_from(PIECES)).encode('utf-8', 'surrogatepass') if kind in ('replace', 'add') else lines[place]
        into = draw(st.integers(0, len(lines) - 1)) if kind == 'move' else place
        if kind in ('replace', 'remove', 'move') and len(lines) > 1:
            del lines[place]
        if kind != 'remove':
            lines.insert(into, line)
    return b'\n'.join(lines)


def similar(value: Any) -> st.SearchStrategy[Any]:
    """Another value of the same type, small if it is a number: what more often passes the first checks of a parser."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        return st.integers(0, 16)
    if isinstance(value, float):
        return st.floats(0, 1)
    return st.sampled_from(PIECES) if isinstance(value, str) else hostile()


def list_places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a JSON value, its own aside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [each for key, inside in inner for each in ((*path, key), *list_places(inside, (*path, key)))]


@st.composite
def changed_value(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with up to three of its values replaced, left out, doubled, or exchanged for others of its own."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        places = list_places(value)
        if not places:
            return draw(hostile())
        *path, key = draw(st.sampled_from(places))
        holder = value
        for step in path:
            holder = holder[step]
        kind = draw(st.sampled_from(('replace', 'similar', 'similar', 'remove', 'rename', 'own', 'wrap')))
        if kind == 'remove':
            del holder[key]
        elif kind == 'rename' and isinstance(holder, dict):
            holder[draw(st.sampled_from(PIECES))] = holder.pop(key)
        elif kind == 'own':
            other: Any = value
            for step in draw(st.sampled_from(places)):
                other = other[step]
            holder[key] = json.loads(json.dumps(other))
        elif kind == 'similar':
            holder[key] = draw(similar(holder[key]))
        elif kind == 'wrap':
            holder[key] = [holder[key]] * draw(st.integers(1, 3))
        else:
            holder[key] = draw(hostile())
    return value


@st.composite
def changed_json(draw: st.DrawFn, content: bytes) -> bytes:
    """JSON, or the first line of JSON lines, with some of its values changed."""
    first, newline, rest = content.partition(b'\n')
    try:
        value, newline, rest = json.loads(content), b'', b''
    except (ValueError, RecursionError):
        value = json.loads(first)
    return (
        json.dumps(draw(changed_value(value)), ensure_ascii=draw(st.booleans())).encode('utf-8', 'surrogatepass') + newline + rest
    )


def is_json(content: bytes) -> bool:
    """Whether the content, or its first line, is a JSON object or list."""
    for text in (content, content.partition(b'\n')[0]):
        try:
            return isinstance(json.loads(text), dict | list)
        except (ValueError, RecursionError):
            continue
    return False


def is_text(content: bytes) -> bool:
    """Whether the content is lines of text."""
    try:
        return b'\n' in content and b'\0' not in content and bool(content.decode())
    except UnicodeDecodeError:
        return False


@st.composite
def changed_files(draw: st.DrawFn, files: Mapping[str, bytes]) -> Files:
    """The files with one or two of them changed, or one left out."""
    files = dict(files)
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(sorted(files)))
        if draw(st.integers(0, 30)) == 0:
            del files[name]
            return files
        content, deep = files[name], draw(st.integers(0, 7)) > 0
        if deep and is_json(content):
            files[name] = draw(changed_json(content))
        else:
            files[name] = draw(changed_lines(content) if deep and is_text(content) else changed_bytes(content))
    return files
