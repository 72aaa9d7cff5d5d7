"""The feed of a task: batches of sequences of like length."""

from typing import Any

import grain
from tokenizers import Tokenizer

from research.data import encoding
from research.data.buckets import by_length
from research.data.encoding import Questions
from research.data.pretraining import Batch
from research.data.settings import Data
from research.data.steps import Steps
from research.data.tokenizers import Vocabulary

ENDLESS = 2**40  # steps


def taught(
    data: Data, tokenizer: Tokenizer, pieces: Vocabulary, batch: int, seed: int
) -> tuple[Steps, dict[str, Questions], dict[str, Any]]:
    """A task: batches of sequences of like length to train on, empty ones without train; and the questions of each split."""
    splits, facts = encoding.read(data, tokenizer, pieces)
    steps = grain.MapDataset.range(1).map(lambda step: Batch())
    if 'train' in splits:
        train = splits['train']
        shuffled = grain.MapDataset.range(train.rows).seed(seed % 2**32).shuffle().repeat()
        chosen = by_length(shuffled, train, batch, seed)
        steps = grain.MapDataset.range(ENDLESS).map(lambda step: train.make(chosen(step)))
    return Steps((steps,), 0), splits, facts
