"""The feed of a task: batches of sequences of similar length."""

import grain
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data import encoding
from research.data.buckets import by_length
from research.data.encoding import Encoded
from research.data.facts import SupervisedFacts
from research.data.pretraining import Batch
from research.data.settings import Data
from research.data.steps import Steps
from research.data.tokenizers import Vocabulary

ENDLESS = 2**40  # steps


def open_supervised(
    data: Data, cache: str, tokenizer: Tokenizer, pieces: Vocabulary, batch: int, seed: int, mine: NDArray[np.int64]
) -> tuple[Steps, dict[str, Encoded], SupervisedFacts]:
    """(the batches to train on, empty ones if there is no train split; the splits; facts about them).

    mine: which of the `batch` rows of each batch are made, increasing.
    """
    splits, facts = encoding.read(data, cache, tokenizer, pieces)
    steps = grain.MapDataset.range(1).map(lambda step: Batch())
    if 'train' in splits:
        train = splits['train']
        shuffled = grain.MapDataset.range(train.rows).seed(seed % 2**32).shuffle().repeat()
        chosen = by_length(shuffled, train, batch, seed)
        steps = grain.MapDataset.range(ENDLESS).map(lambda step: train.make(chosen(step), mine))
    return Steps((steps,), 0), splits, facts
