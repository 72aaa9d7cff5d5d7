"""From settings to batches: `load` gives a Feed, whose batch at a step is a pure function of (seed, step)."""

import copy
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data.buckets import SortedBatches
from research.data.encoding import Encoded
from research.data.facts import MaskedFacts, SupervisedFacts
from research.data.masked import STRIDE, Batches, Split, open_masked
from research.data.pretraining import Batch
from research.data.settings import Data
from research.data.steps import Draft, Steps, boundary, number_of_steps
from research.data.supervised import open_supervised
from research.data.tasks.example import Example
from research.data.tokenizer_training import tokenizer_of
from research.data.tokenizers import Vocabulary, vocabulary_of
from research.data.validation import validate, validate_machine
from research.data.workers import staff
from research.errors import UserError
from research.machine import Machine


@dataclass(frozen=True, eq=False)
class Feed:
    """The batches that a run trains and evaluates on, and facts about them.

    `train[step]` is a pure function of (seed, step): no state is saved, and a resumed run gets the same batches as one
    that was never stopped. An epoch visits every sequence once, in an order of its own; masks and pairs are drawn anew
    for each batch. Of several processes each has some rows of each batch; together they are the batch of a single process.
    """

    train: Steps
    evaluation: Mapping[str, Batches | SortedBatches]  # 'dev', and of a task every split but train
    tokenizer: Tokenizer
    pieces: Vocabulary
    facts: MaskedFacts | SupervisedFacts
    examples: int  # sequences of an epoch; of the steps' mean epoch where there are two stages
    ahead: int  # batches that `stream` has made ahead
    workers: int  # processes that make them; 0 for a thread of this one
    again: Callable[[], Callable[[int], Batch]]  # gives `train[step]` of an equal Feed, in another process
    encoded: Mapping[str, Encoded] = field(default_factory=dict)  # of a task, its evaluation splits
    learnt: Sequence[Example] = ()  # of a task, the examples of train
    counts: NDArray[Any] | None = None  # [V] how often each piece occurs in training; None of a task

    def stream(self, first_step: int = 0) -> Generator[Batch]:
        """train[first_step], train[first_step + 1] …, made ahead; the same for any number of workers."""
        steps = itertools.count(first_step)
        if not self.ahead:
            yield from map(self.train.__getitem__, steps)
        with staff(self.workers, self.again) if self.workers else one_thread(self.train.__getitem__) as ask:
            pending = deque(map(ask, itertools.islice(steps, self.ahead)))
            while True:
                batch = pending.popleft().result()
                pending.append(ask(next(steps)))
                yield batch


def load(
    data: Data,
    machine: Machine,
    *,
    batch: int,
    seed: int,
    vocabulary: int,
    steps: int = 0,
    epochs: float = 0.0,
    mine: NDArray[np.int64] | None = None,
    divisor: int = 1,
) -> Feed:
    """The Feed of `data`: batches of `batch` rows, or of as many packed examples of a task, in the order of `seed`.

    vocabulary: how many pieces the model has room for, and a trained tokenizer gets. steps or epochs: the length of the
    run, which matters only where there are two stages. mine: which of the `batch` rows of each batch this process makes,
    increasing; None: all. divisor: the number of devices times that of micro-batches, which divides the rows of a batch;
    packed examples get empty rows for it. Evaluation is the same for every seed and every batch size.
    Raises UserError for any mistake in the settings or in the text.
    """
    validate(data)
    validate_machine(machine)
    tokenizer = tokenizer_of(data, machine.cache, vocabulary)
    pieces = vocabulary_of(tokenizer)
    if pieces.size > vocabulary:
        raise UserError(
            f"the tokenizer '{data.tokenizer}' has {pieces.size} pieces but the model has room for {vocabulary}; "
            f'give the model a vocabulary of {pieces.size} or more'
        )
    mine = np.arange(batch) if mine is None else mine
    if data.task:
        counts = None
        train, splits, facts = open_supervised(data, machine.cache, tokenizer, pieces, batch, seed, mine, divisor)
        encoded = {name: split for name, split in splits.items() if name != 'train'}
        learnt = splits['train'].members if 'train' in splits else ()
        evaluation = {name: SortedBatches(split, batch, mine) for name, split in encoded.items()}
    else:
        parts, held_out, facts, counts = open_masked(data, machine.cache, tokenizer, pieces, seed)
        orders = [split.order(seed + STRIDE * number).batch(batch) for number, split in enumerate(parts)]
        datasets = [order.random_map(partial(draft, split, mine)) for order, split in zip(orders, parts, strict=True)]
        total = number_of_steps(steps, epochs, facts.examples, batch)
        train = Steps(tuple(datasets), total, boundary(data, total), data.causal)
        learnt, encoded, evaluation = (), {}, {name: Batches(split, batch, pieces, mine) for name, split in held_out.items()}
    given = {'batch': batch, 'seed': seed, 'vocabulary': vocabulary, 'steps': steps, 'epochs': epochs}
    given |= {'mine': mine, 'divisor': divisor}
    return Feed(
        train=train,
        evaluation=evaluation,
        tokenizer=tokenizer,
        pieces=pieces,
        facts=facts,
        examples=facts.examples,
        ahead=max(machine.prefetch, 2 * machine.workers),
        workers=machine.workers,
        again=partial(batches_of, data, machine, facts.fingerprint, **given),
        encoded=encoded,
        learnt=learnt,
        counts=counts,
    )


def draft(split: Split, mine: NDArray[np.int64], rows: NDArray[np.int64], generator: np.random.Generator) -> Draft:
    """The batch of some rows, but for what depends on the step."""
    return partial(split.make, rows, copy.deepcopy(generator), mine)  # grain gives the generator itself to the next batch


def batches_of(data: Data, machine: Machine, fingerprint: str, **given: Any) -> Callable[[int], Batch]:
    """`train[step]` of the Feed of `data` that has this fingerprint. Raises UserError if the data have changed since."""
    feed = load(replace(data, changed='refuse'), machine, **given)
    if feed.facts.fingerprint != fingerprint:
        raise UserError('the data have changed since the run began; restore them, and the same command goes on')
    return feed.train.__getitem__


@contextmanager
def one_thread(work: Callable[[int], Batch]) -> Iterator[Callable[[int], Future[Batch]]]:
    """As `staff`, with one thread of this process; several would wait for each other."""
    with ThreadPoolExecutor(1) as pool:
        try:
            yield partial(pool.submit, work)
        finally:
            pool.shutdown(cancel_futures=True)
