"""Inputs of predictions as sequences of ids."""

import dataclasses
import json
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data import tokenizers
from research.data.encoding import Ids, cut
from research.data.settings import Data
from research.data.tokenizers import Vocabulary
from research.data.windows import windows
from research.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Sequence:
    """One row of a batch."""

    ids: list[int]
    types: list[int]
    positions: tuple[int, ...] = ()  # of the [MASK]s
    offsets: tuple[tuple[int, int], ...] = ()  # answer: where each piece of the context lies in it, in characters
    first: int = 0  # answer: the position of the context's first piece


@dataclasses.dataclass(frozen=True)
class Input:
    """One line of the input."""

    where: str  # for messages
    fields: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Reader:
    """A tokenizer and the longest sequence that the model reads."""

    tokenizer: Tokenizer
    pieces: Vocabulary
    room: int  # T, at most, special pieces included
    types: bool  # whether there is a second token type
    data: Data  # what the model was trained with: how answers are found, and whether there may be none

    def sequence(self, *segments: NDArray[np.int32]) -> tuple[list[int], list[int]]:
        """[CLS] A [SEP] or [CLS] A [SEP] B [SEP], the longer segment cut first if there is not enough room."""
        first, *second = ([segment] for segment in segments)
        ids, types = [self.pieces.cls], [0]
        for kind, (segment,) in enumerate(cut(first, second[0] if second else None, self.room)):
            ids += [*segment.tolist(), self.pieces.sep]
            types += [kind if self.types else 0] * (len(segment) + 1)
        return ids, types


def read_text(reader: Reader, inputs: list[Input]) -> list[list[Sequence]]:
    """Each input's text, and its pair if it has one. '[SEP]' in a text is read as letters, as in training."""
    return assemble(reader, inputs, partial(tokenizers.encode, reader.tokenizer, reader.pieces))


def assemble(reader: Reader, inputs: list[Input], pieces: Callable[[list[str]], Ids]) -> list[list[Sequence]]:
    """A Sequence of each input's text, and its pair if it has one; `pieces` turns texts into ids."""
    texts = pieces([x.fields['text'] for x in inputs])
    pairs = iter(pieces([x.fields['pair'] for x in inputs if 'pair' in x.fields]))
    segments = [[text, next(pairs)] if 'pair' in x.fields else [text] for x, text in zip(inputs, texts, strict=True)]
    return [[Sequence(*reader.sequence(*each))] for each in segments]


def read_masked(reader: Reader, inputs: list[Input]) -> list[list[Sequence]]:
    """Each input's text. The mask piece in it is itself; other special pieces are read as letters.

    Raises UserError for a text without a mask, and for one whose last mask would be cut off.
    """
    mask = str(reader.tokenizer.id_to_token(reader.pieces.mask))
    blank = np.array([reader.pieces.mask], np.int32)

    def pieces(texts: list[str]) -> Ids:
        found = []
        for text in texts:
            *before, last = text.split(mask)
            parts = tokenizers.encode(reader.tokenizer, reader.pieces, [*map(str.rstrip, before), last])
            found.append(np.concatenate([each for part in parts for each in (part, blank)][:-1]))
        return found

    found = []
    for x, (one,) in zip(inputs, assemble(reader, inputs, pieces), strict=True):
        wanted = sum(text.count(mask) for text in x.fields.values())
        if not wanted:
            raise UserError(f'{x.where} has no {mask} for fill-mask to fill: {json.dumps(x.fields["text"][:60])}')
        positions = tuple(i for i, id in enumerate(one.ids) if id == reader.pieces.mask)
        if len(positions) < wanted:
            raise UserError(f'{x.where} is longer than the {reader.room} pieces that are read: its last {mask} would be cut off')
        found.append([dataclasses.replace(one, positions=positions)])
    return found


def read_question(reader: Reader, inputs: list[Input]) -> list[list[Sequence]]:
    """Each input's question with windows over its context."""
    asked = [(x.fields['question'], x.fields['context']) for x in inputs]
    return [
        [
            Sequence(
                *reader.sequence(one.question, one.part),
                offsets=one.offsets,
                first=one.first,
            )
            for one in each
        ]
        for each in windows(reader.tokenizer, reader.pieces, asked, reader.room, reader.data.answers)
    ]
