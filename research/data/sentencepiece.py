"""Reads a spiece.model: a unigram model and its rules, as SentencePiece writes them for ALBERT."""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError

SIZE = 3 * 2**23  # bytes of a file of a tokenizer, at most
MOST = 2**19  # pieces of a spiece.model, at most
VARINT = 10  # bytes of a number in a protocol buffer, at most
REPLACEMENT = 100  # characters that replace one, at most; NFKC has 18
CONTROL, USER_DEFINED = 3, 4  # kinds of pieces


class Unigram(NamedTuple):
    """The content of a spiece.model."""

    pieces: list[tuple[str, float, int]]  # piece, score, kind
    kind: int  # of the model; 1 is unigram
    unknown: int  # id of the unknown piece
    charsmap: bytes  # how characters are normalised; b'' for not at all


def read_sentencepiece(file: Path) -> Unigram:
    """The content of a spiece.model. Raises UserError if it cannot be read, or holds what no tokenizer can be made of.

    The field numbers are those of sentencepiece_model.proto: 1 pieces, 2 trainer_spec and 3 normalizer_spec of ModelProto.
    """
    with file.open('rb') as stream:
        content = stream.read(SIZE + 1)
    if len(content) > SIZE:
        raise UserError(f"'{file}' is larger than {SIZE:,} bytes, so it is no spiece.model")
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, Any] = {3: 1, 40: 0}
    charsmap: Any = b''
    try:
        for number, value in parse_fields(content):
            if number == 1:
                if len(pieces) == MOST:
                    raise UserError(f"'{file}' has more than {MOST:,} pieces")
                piece = dict(parse_fields(value))
                score = struct.unpack('<f', piece[2])[0] if 2 in piece else 0.0
                pieces.append((piece[1].decode('utf-8'), score, piece[3] if 3 in piece else 1))
            elif number == 2:
                trainer |= dict(parse_fields(value))
            elif number == 3:
                normalizer = dict(parse_fields(value))
                charsmap = normalizer[2] if 2 in normalizer else b''
    except (IndexError, struct.error, KeyError, UnicodeDecodeError, ValueError, TypeError, AttributeError):
        raise UserError(f"'{file}' is truncated or no SentencePiece model") from None
    if not pieces:
        raise UserError(f"'{file}' is no SentencePiece model: it has no pieces")
    if trainer[3] != 1:
        raise UserError(f"'{file}' is no unigram model; ALBERT's tokenizer needs one")
    if not isinstance(trainer[40], int) or trainer[40] >= len(pieces):
        raise UserError(f"'{file}' has {len(pieces)} pieces, and none of them is the unknown one (id {trainer[40]!r:.40})")
    if not all(math.isfinite(score) for _, score, _ in pieces):
        raise UserError(f"'{file}' has a piece whose score is not finite")
    validate_charsmap(charsmap, f"'{file}'")
    return Unigram(pieces, trainer[3], trainer[40], charsmap)


def parse_fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field of a protocol buffer; the value is an int, or bytes if fixed-size or length-delimited.

    Raises IndexError, KeyError or ValueError for bytes that are no protocol buffer.
    """

    def read_varint() -> int:
        nonlocal at
        value = 0
        for shift in range(0, 7 * VARINT, 7):
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError('a number has too many bytes')

    at = 0
    while at < len(message):
        key = read_varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, read_varint()
            continue
        size = read_varint() if kind == 2 else {1: 8, 5: 4}[kind]
        if at + size > len(message):
            raise IndexError(at)
        yield key >> 3, message[at : at + size]
        at += size


def validate_charsmap(charsmap: Any, label: str) -> None:
    """Raises UserError, which begins with `label`, for a map of characters whose trie leads outside of itself.

    The library indexes without a check and would panic at the first text that takes a wrong branch. The layout is that of
    SentencePiece's normalizer.cc: the size of a double-array trie in bytes, its units (4 bytes each), and the replacements, each
    ended by a zero byte. A unit holds its label (bits 0-7), whether it has a leaf (8) and an offset (10-30, times 256 if bit 9).
    """
    if charsmap == b'':
        return
    wrong = UserError(f'{label} has a map of characters (precompiled_charsmap) that is broken')
    if not isinstance(charsmap, bytes) or len(charsmap) < 8:
        raise wrong
    size = int.from_bytes(charsmap[:4], 'little')
    if size < 4 or size % 4 or size + 4 > len(charsmap):
        raise wrong
    units = np.frombuffer(charsmap, '<u4', size // 4, 4).astype(np.int64)
    replacements = charsmap[4 + size :]
    try:
        longest = measure_replacements(charsmap)
    except UnicodeDecodeError:
        raise wrong from None
    if longest > REPLACEMENT:
        raise UserError(f'{label} has a map of characters that makes {longest:,} of one; at most {REPLACEMENT} are supported')
    offsets = (units >> 10) << ((units & 512) >> 6)
    seen = np.zeros(len(units), bool)
    nodes = offsets[:1]
    while len(nodes := np.unique(nodes)):
        if nodes[-1] >= len(units):
            raise wrong
        nodes = nodes[~seen[nodes]]
        seen[nodes] = True
        below = []
        for byte in range(1, 256):  # one byte at a time: a level may have many nodes
            places = nodes ^ byte
            if len(places) and places.max() >= len(units):
                raise wrong
            chosen = places[(units[places] & 0x800000FF) == byte]
            below.append(chosen ^ offsets[chosen])
            leaves = below[-1][(units[chosen] & 256) > 0]
            if len(leaves) and (leaves.max() >= len(units) or not _is_replacement(units[leaves] & 0x7FFFFFFF, replacements)):
                raise wrong
        nodes = np.concatenate(below)


def measure_replacements(charsmap: bytes) -> int:
    """The number of characters in the longest replacement of a map of characters. Raises UnicodeDecodeError if it is not UTF-8."""
    return max(map(len, charsmap[4 + int.from_bytes(charsmap[:4], 'little') :].decode('utf-8').split('\0')))


def _is_replacement(places: Any, replacements: bytes) -> bool:
    """Whether a character begins at each of these places of UTF-8, or its end is there."""
    if places.max() > len(replacements):
        return False
    continued = np.append((np.frombuffer(replacements, np.uint8) & 0xC0) == 0x80, False)
    return not continued[places].any()
