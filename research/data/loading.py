"""From settings to batches: `load` gives a Feed, whose batch at a step is a pure function of (seed, step)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grain
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data import masking, supervised
from research.data.buckets import Ranked, by_length
from research.data.corpus import prepare, tokenizer_of
from research.data.pretraining import PAIRS, Batch, filler, masked_batch, sequences
from research.data.settings import Data
from research.data.supervised import Questions
from research.data.tokenizers import Vocabulary, vocabulary_of
from research.errors import UserError, choose

__all__ = ['Batch', 'Batches', 'Data', 'Feed', 'load']

ENDLESS = 2**40  # steps
THREADS = 4  # that make batches ahead; more only wait for the interpreter
Make = Callable[[NDArray[np.int64], np.random.Generator], Batch]  # rows [B], generator -> the Batch of these rows


@dataclass(frozen=True, eq=False)
class Split:
    """The examples of a split, and how some of them become a Batch."""

    rows: int
    make: Make


@dataclass(frozen=True, eq=False)
class Batches:
    """The batches of an evaluation split, made when asked for and the same each time."""

    split: Split
    size: int  # B
    vocabulary: Vocabulary

    def __len__(self) -> int:
        return -(-self.split.rows // self.size)

    def __getitem__(self, index: int) -> Batch:
        """Batch `index`, the last one filled up with rows of weight 0."""
        if not 0 <= index < len(self):
            raise IndexError(f'batch {index} of {len(self)}')
        # Row by row, each with a generator of its own: masks must depend neither on the batch size nor on the run's
        # seed.
        numbers = range(index * self.size, min(self.split.rows, (index + 1) * self.size))
        rows = [self.split.make(np.array([row]), np.random.default_rng([0, row])) for row in numbers]
        whole = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        return filler(whole, self.size, self.vocabulary)

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True, eq=False)
class Steps:
    """The batches to train on, without end: batch `step` is a pure function of (seed, step)."""

    dataset: grain.MapDataset[Batch]

    def __getitem__(self, step: int) -> Batch:
        batch = self.dataset[step]
        assert batch is not None  # a MapDataset holds None only where something was filtered out
        return batch


@dataclass(frozen=True, eq=False)
class Feed:
    """What a run is fed: batches to train on, batches to evaluate on, and facts about them.

    `train[step]` is a pure function of (seed, step): no state is saved, and a resumed run sees what it would have
    seen. An epoch visits every sequence once, in an order of its own; masks and pairs are drawn anew for each batch.
    """

    train: Steps
    evaluation: Mapping[str, Batches | Ranked]  # 'dev', and of a task whatever it has
    tokenizer: Tokenizer
    vocabulary: Vocabulary
    facts: dict[str, Any]  # JSON-able: fingerprints, sizes, unigram_entropy, labels, majority accuracies …
    examples: int  # sequences of an epoch
    prefetch: int  # batches made ahead by `stream`
    questions: Mapping[str, Questions] = field(default_factory=dict)  # of a task, each evaluation split's: what answers are told of

    def stream(self, first_step: int = 0) -> Iterator[Batch]:
        """train[first_step], train[first_step + 1] …, made ahead by threads."""
        options = grain.ReadOptions(num_threads=min(THREADS, self.prefetch), prefetch_buffer_size=max(1, self.prefetch))
        iterator = iter(self.train.dataset.to_iter_dataset(options))
        iterator.set_state({'next_index': first_step})
        return iterator


def load(data: Data, *, batch: int, seed: int, vocabulary: int) -> Feed:
    """The Feed of `data`: batches of `batch` rows, in the order of `seed`.

    vocabulary: how many pieces the model has room for, and a trained tokenizer gets. Evaluation is the same for every
    seed and every batch size. Raises UserError for any mistake in the settings or in the text.
    """
    check(data, batch, seed)
    tokenizer = tokenizer_of(data, vocabulary)
    pieces = vocabulary_of(tokenizer)
    if pieces.size > vocabulary:
        raise UserError(
            f"the tokenizer '{data.tokenizer}' has {pieces.size} pieces but the model has room for {vocabulary}; "
            f'give the model a vocabulary of {pieces.size} or more'
        )
    if data.task:
        return taught(data, tokenizer, pieces, batch, seed)
    splits, facts = masked(data, tokenizer, pieces, seed)
    train = splits['train']
    order = grain.MapDataset.range(train.rows).seed(seed % 2**32).shuffle().repeat()
    return Feed(
        train=Steps(order.batch(batch).random_map(train.make)),
        evaluation={name: Batches(split, batch, pieces) for name, split in splits.items() if name != 'train'},
        tokenizer=tokenizer,
        vocabulary=pieces,
        facts=facts | {'tokenizer_fingerprint': pieces.fingerprint, 'pieces': pieces.size, 'examples': train.rows},
        examples=train.rows,
        prefetch=data.prefetch,
    )


def taught(data: Data, tokenizer: Tokenizer, pieces: Vocabulary, batch: int, seed: int) -> Feed:
    """The Feed of a task: batches of sequences of like length, and every other split whole. Without train it has no examples."""
    splits, facts = supervised.read(data, tokenizer, pieces)
    others = {name: split for name, split in splits.items() if name != 'train'}
    rows, steps = 0, grain.MapDataset.range(1).map(lambda step: Batch())
    if 'train' in splits:
        train = splits['train']
        rows = train.rows
        shuffled = grain.MapDataset.range(rows).seed(seed % 2**32).shuffle().repeat()
        chosen = by_length(shuffled, train, batch, seed)
        steps = grain.MapDataset.range(ENDLESS).map(lambda step: train.make(chosen(step)))
    return Feed(
        train=Steps(steps),
        evaluation={name: Ranked(split, batch) for name, split in others.items()},
        tokenizer=tokenizer,
        vocabulary=pieces,
        facts=facts | {'tokenizer_fingerprint': pieces.fingerprint, 'pieces': pieces.size, 'examples': rows},
        examples=rows,
        prefetch=data.prefetch,
        questions=others,
    )


def check(data: Data, batch: int, seed: int) -> None:
    """Raise a UserError for a setting that is out of range, whatever the text."""
    choose('data.pairs', data.pairs, PAIRS)
    masking.check(data.masking)
    for name, value, least in (('batch', batch, 1), ('seed', seed, 0), ('data.prefetch', data.prefetch, 0)):
        if value < least:
            raise UserError(f'{name}={value} must be {least} at least')
    if not 8 <= data.length <= 65_536:
        raise UserError(f'data.length={data.length} must lie between 8 and 65536 pieces')
    if not 0 <= data.short <= 1:
        raise UserError(f'data.short={data.short} must be a share, between 0 and 1')
    if not 0 <= data.held_out < 1:
        raise UserError(f'data.held_out={data.held_out} must be a share: 0 (no evaluation) or more, below 1')


def masked(data: Data, tokenizer: Tokenizer, pieces: Vocabulary, seed: int) -> tuple[dict[str, Split], dict[str, Any]]:
    """Pretraining: masked sequences of the corpus, train and, of the held-out documents, dev."""
    corpus = prepare(data, tokenizer)
    make = partial(masked_batch, vocabulary=pieces, masking=data.masking, length=data.length, pairs=data.pairs)
    # Held-out sequences are cut by one seed for all runs, so that their losses are comparable.
    parts = {'train': (corpus.train, seed)} | ({'dev': (corpus.held_out, 0)} if data.held_out else {})
    cut = {name: sequences(part, data.length, data.pairs, data.short, cuts) for name, (part, cuts) in parts.items()}
    splits = {name: Split(len(source.first), partial(make, source)) for name, source in cut.items()}
    return splits, corpus.facts | {'labels': None, 'majority_accuracy': None}
