"""The feed of a task: batches of sequences of similar length, or packed ones."""

from dataclasses import replace

import grain
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data import encoding
from research.data.buckets import Stream, by_length
from research.data.encoding import Encoded
from research.data.facts import SupervisedFacts
from research.data.packing import choose_shape, describe, packed
from research.data.pretraining import Batch
from research.data.settings import Data
from research.data.steps import Steps, keep
from research.data.tokenizers import Vocabulary

ENDLESS = 2**40  # steps


def open_supervised(
    data: Data,
    cache: str,
    tokenizer: Tokenizer,
    pieces: Vocabulary,
    batch: int,
    seed: int,
    mine: NDArray[np.int64],
    divisor: int,
) -> tuple[Steps, dict[str, Encoded], SupervisedFacts]:
    """(the batches to train on, empty ones if there is no train split; the splits; facts about them).

    mine: which of the `batch` rows of each batch are made, increasing; of packed rows, the same parts. divisor: the rows of a
    packed batch are a multiple of it.
    """
    splits, facts = encoding.read(data, cache, tokenizer, pieces)
    steps = grain.MapDataset.range(1).map(lambda step: keep(Batch()))
    if 'train' in splits:
        train = splits['train']
        shuffled = grain.MapDataset.range(train.rows).seed(seed % 2**32).shuffle().repeat()
        stream = Stream(shuffled, train.rows, batch)
        if data.pack:
            shape = choose_shape(train.lengths, batch, data.length)
            facts = replace(facts, notices=[*facts.notices, describe(train.lengths, batch, shape, divisor)])
            steps = grain.MapDataset.range(ENDLESS).map(packed(stream, train, shape, seed, divisor, mine)).map(keep)
        else:
            chosen = by_length(stream, train, seed)
            steps = grain.MapDataset.range(ENDLESS).map(lambda step: keep(train.make(chosen(step), mine)))
    return Steps((steps,), 0), splits, facts
