"""A question with windows over a long context: their pieces, and the places of pieces and answers in the context."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data.settings import Answers
from research.data.tokenizers import Vocabulary

Offsets = tuple[tuple[int, int], ...]
# Format characters (Cf) that belong to what follows: openings of direction, signs before a number, annotations.
OPENING = frozenset(
    '\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd'
    '\u202a\u202b\u202d\u202e\u2066\u2067\u2068\ufff9'
)


@dataclass(frozen=True, eq=False)
class Window:
    """[CLS] question [SEP] some pieces of the context [SEP]."""

    question: NDArray[np.int32]
    part: NDArray[np.int32]
    whole: Offsets  # the place of each piece of the context in it, in characters
    extended: Offsets  # the same with the marks after a piece that no piece covers
    begin: int  # the first of them in the part
    starts: NDArray[np.bool_]  # of each piece of the part, whether an answer may start there: no other window has more around it

    @property
    def offsets(self) -> Offsets:
        """The place of each piece of the part in the context, with the marks after it, in characters: answers are read by it."""
        return self.extended[self.begin : self.begin + len(self.part)]

    @property
    def first(self) -> int:
        """The position of the part's first piece in the sequence."""
        return len(self.question) + 2

    def place(self, start: int, text: str) -> tuple[int, int] | None:
        """The positions of an answer's first and last piece in the sequence; None if the window does not hold all of it.

        White space, and anything else that is in no piece of the context, does not count.
        """
        end = start + len(text)
        inside = [i - self.begin for i, (a, b) in enumerate(self.whole) if a < end and b > start]
        if not inside or inside[0] < 0 or inside[-1] >= len(self.part):
            return None
        return self.first + inside[0], self.first + inside[-1]


def windows(
    tokenizer: Tokenizer, pieces: Vocabulary, asked: Sequence[tuple[str, str]], length: int, settings: Answers
) -> Iterator[list[Window]]:
    """For each (question, context) windows of at most `length` pieces, special ones included, `stride` from one to the next."""

    @lru_cache(maxsize=64)
    def cut(text: str) -> tuple[NDArray[np.int32], Offsets, Offsets]:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        ids = np.array(encoding.ids, np.int32)
        # '[SEP]' in a text is unknown, as in `tokenizers.encode`.
        ids = np.where(pieces.special[ids], np.int32(pieces.unknown), ids) if len(ids) else ids
        offsets = trim_offsets(text, encoding.offsets)
        return ids, offsets, extend_offsets(text, offsets)

    for question, context in asked:
        short = cut(question)[0][: min(settings.question, (length - 3) // 2)]
        ids, offsets, extended = cut(context)
        room = length - 3 - len(short)
        begins = [0]
        while begins[-1] + room < len(ids):
            begins.append(begins[-1] + min(settings.stride, room))
        parts = [ids[begin : begin + room] for begin in begins]
        own = find_most_context(begins, [len(part) for part in parts])
        yield [Window(short, part, offsets, extended, begin, mine) for part, begin, mine in zip(parts, begins, own, strict=True)]


def find_most_context(begins: Sequence[int], sizes: Sequence[int]) -> list[NDArray[np.bool_]]:
    """Of each window, at which of its pieces it has the most context of all windows: each piece of the text has one such window.

    Context is the smaller number of pieces to the left and to the right, and a hundredth of the window's size; of equal windows it
    is the first (Google's code: `_check_is_max_context` of run_squad.py).
    """
    best = np.full(begins[-1] + sizes[-1], -1.0)
    owner = np.zeros(len(best), np.int64)
    for number, (begin, size) in enumerate(zip(begins, sizes, strict=True)):
        place = np.arange(size)
        context = np.minimum(place, size - 1 - place) + 0.01 * size
        more = context > best[begin : begin + size]
        best[begin : begin + size][more] = context[more]
        owner[begin : begin + size][more] = number
    return [owner[begin : begin + size] == number for number, (begin, size) in enumerate(zip(begins, sizes, strict=True))]


def trim_offsets(text: str, offsets: Sequence[tuple[int, int]]) -> Offsets:
    """Offsets without the white space that some tokenizers count as part of a piece."""
    found = []
    for start, end in offsets:
        while start < end and text[start].isspace():
            start += 1
        while end > start and text[end - 1].isspace():
            end -= 1
        found.append((start, end))
    return tuple(found)


def extend_offsets(text: str, offsets: Offsets) -> Offsets:
    """Offsets whose ends take in the combining marks and format characters that follow a piece and are in no piece.

    Tokenizers that strip accents, or clean text, leave these out of every piece; an answer that ends in one includes it.
    """
    if text.isascii():
        return offsets
    covered = np.zeros(len(text) + 1, bool)
    for start, end in offsets:
        covered[start:end] = True
    found = []
    for start, end in offsets:
        while start < end < len(text) and not covered[end] and is_mark(text[end]):
            end += 1
        found.append((start, end))
    return tuple(found)


def is_mark(character: str) -> bool:
    """Whether a character is a combining mark, or a format character that belongs to what precedes it."""
    return unicodedata.category(character) in ('Mn', 'Mc', 'Me', 'Cf') and character not in OPENING


def repair_answer(context: str, answer: tuple[int, str]) -> tuple[int, str] | None:
    """The answer at the place of its text that is nearest to its offset; None if the context does not hold the text."""
    start, text = answer
    places = []
    at = context.find(text)
    while at >= 0:
        places.append(at)
        at = context.find(text, at + 1)
    return (min(places, key=lambda place: abs(place - start)), text) if places and text else None
