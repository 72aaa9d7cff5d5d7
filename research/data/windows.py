"""A question with windows over a long context: their pieces, and the places of pieces and answers in the context."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data.settings import Answers
from research.data.tokenizers import Vocabulary

Offsets = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Window:
    """[CLS] question [SEP] some pieces of the context [SEP]."""

    question: NDArray[np.int32]
    part: NDArray[np.int32]
    whole: Offsets  # the place of each piece of the context in it, in characters
    begin: int  # the first of them in the part

    @property
    def offsets(self) -> Offsets:
        """The place of each piece of the part in the context, in characters."""
        return self.whole[self.begin : self.begin + len(self.part)]

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
    def cut(text: str) -> tuple[NDArray[np.int32], Offsets]:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        ids = np.array(encoding.ids, np.int32)
        # '[SEP]' in a text is unknown, as in `tokenizers.encode`.
        return np.where(pieces.special[ids], np.int32(pieces.unknown), ids) if len(ids) else ids, trim_offsets(
            text, encoding.offsets
        )

    for question, context in asked:
        short = cut(question)[0][: min(settings.question, (length - 3) // 2)]
        ids, offsets = cut(context)
        room = length - 3 - len(short)
        found = []
        for begin in range(0, max(len(ids), 1), min(settings.stride, room)):
            found.append(Window(short, ids[begin : begin + room], offsets, begin))
            if begin + room >= len(ids):
                break
        yield found


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


def repair_answer(context: str, answer: tuple[int, str]) -> tuple[int, str] | None:
    """The answer at the place of its text that is nearest to its offset; None if the context does not hold the text."""
    start, text = answer
    places = []
    at = context.find(text)
    while at >= 0:
        places.append(at)
        at = context.find(text, at + 1)
    return (min(places, key=lambda place: abs(place - start)), text) if places and text else None
