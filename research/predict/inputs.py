"""Inputs of predictions as sequences of ids."""

import dataclasses
from functools import partial

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data import tokenizers
from research.data.encoding import cut
from research.data.settings import Data
from research.data.tokenizers import Vocabulary
from research.data.windows import windows
from research.errors import UserError
from research.records import show


@dataclasses.dataclass(frozen=True, eq=False)
class Sequence:
    """One row of a batch."""

    ids: list[int]
    types: list[int]
    positions: tuple[int, ...] = ()  # of the [MASK]s
    cut: bool = False  # whether the text is longer than what is read of it
    offsets: tuple[tuple[int, int], ...] = ()  # answer: where each piece of the context lies in it, in characters
    first: int = 0  # answer: the position of the context's first piece
    starts: NDArray[np.bool_] = dataclasses.field(default_factory=lambda: np.zeros(0, bool))  # answer: whether one may start there


@dataclasses.dataclass(frozen=True)
class Input:
    """One line of the input."""

    where: str  # for messages
    fields: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Reader:
    """A tokenizer and the longest sequence that the model reads."""

    tokenizer: Tokenizer  # as `tokenizers.with_mask` makes it: [MASK] in a text is the mask
    pieces: Vocabulary
    room: int  # T, at most, special pieces included
    types: bool  # whether there is a second token type
    data: Data  # what the model was trained with: how answers are found, and whether there may be none
    no_answer: float | None = None  # the lead of 'no answer' above which it is predicted; None: as the model was trained

    def sequence(self, *segments: NDArray[np.int32]) -> tuple[list[int], list[int]]:
        """[CLS] A [SEP] or [CLS] A [SEP] B [SEP], the longer segment cut first if there is not enough room."""
        first, *second = ([segment] for segment in segments)
        ids, types = [self.pieces.cls], [0]
        for kind, (segment,) in enumerate(cut(first, second[0] if second else None, self.room)):
            ids += [*segment.tolist(), self.pieces.sep]
            types += [kind if self.types else 0] * (len(segment) + 1)
        return ids, types


def read_text(reader: Reader, inputs: list[Input]) -> list[list[Sequence]]:
    """Each input's text, and its pair if it has one. Of the special pieces, '[MASK]' in a text is itself; '[SEP]' is letters."""
    encode = partial(tokenizers.encode, reader.tokenizer, reader.pieces)
    texts = encode([x.fields['text'] for x in inputs])
    pairs = iter(encode([x.fields['pair'] for x in inputs if 'pair' in x.fields]))
    found = []
    for x, text in zip(inputs, texts, strict=True):
        segments = [text, next(pairs)] if 'pair' in x.fields else [text]
        whole = 1 + sum(len(segment) + 1 for segment in segments)
        found.append([Sequence(*reader.sequence(*segments), cut=whole > reader.room)])
    return found


def read_masked(reader: Reader, inputs: list[Input]) -> list[list[Sequence]]:
    """Each input's text, and its pair if it has one, with the positions of its masks.

    Raises UserError for a text without a mask, and for one whose last mask would be cut off.
    """
    mask = str(reader.tokenizer.id_to_token(reader.pieces.mask))
    found = []
    for x, (one,) in zip(inputs, read_text(reader, inputs), strict=True):
        wanted = sum(text.count(mask) for text in x.fields.values())
        if not wanted:
            raise UserError(f'{x.where} has no {mask} for fill-mask to fill: {show(x.fields["text"])}')
        positions = tuple(i for i, id in enumerate(one.ids) if id == reader.pieces.mask)
        if len(positions) < wanted:
            raise UserError(f'{x.where} is longer than the {reader.room} pieces that are read: its last {mask} would be cut off')
        found.append([dataclasses.replace(one, positions=positions)])
    return found


def read_question(reader: Reader, inputs: list[Input]) -> list[list[Sequence]]:
    """Each input's question with windows over its context; of the two, only the question may be cut."""
    asked = [(x.fields['question'], x.fields['context']) for x in inputs]
    questions = tokenizers.encode(reader.tokenizer, reader.pieces, [question for question, _ in asked])
    found = windows(reader.tokenizer, reader.pieces, asked, reader.room, reader.data.answers)
    return [
        [
            Sequence(
                *reader.sequence(one.question, one.part),
                cut=len(question) > len(one.question),
                offsets=one.offsets,
                first=one.first,
                starts=one.starts,
            )
            for one in each
        ]
        for question, each in zip(questions, found, strict=True)
    ]
