"""From settings to batches: `load` gives a Feed, whose batch at a step is a pure function of (seed, step)."""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from tokenizers import Tokenizer

from research.data.buckets import Ranked
from research.data.encoding import Questions
from research.data.masked import STRIDE, Batches, masked
from research.data.pretraining import Batch
from research.data.settings import Data, stages
from research.data.steps import Steps, boundary, number_of_steps
from research.data.supervised import taught
from research.data.tokenizer_training import tokenizer_of
from research.data.tokenizers import Vocabulary, vocabulary_of
from research.data.validation import validate
from research.data.workers import staff
from research.errors import UserError


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
    facts: dict[str, Any]  # JSON-able: fingerprints, sizes, unigram_entropy, labels …
    examples: int  # sequences of an epoch; of the steps' mean epoch where there are two stages
    ahead: int  # batches that `stream` has made ahead
    workers: int  # processes that make them; 0 for a thread of this one
    again: Callable[[], Callable[[int], Batch]]  # gives `train[step]` of an equal Feed, in another process
    questions: Mapping[str, Questions] = field(default_factory=dict)  # of a task, each evaluation split's: what answers are told of

    def stream(self, first_step: int = 0) -> Generator[Batch]:
        """train[first_step], train[first_step + 1] …, made ahead; the same whoever makes them."""
        steps = itertools.count(first_step)
        if not self.ahead:
            yield from map(self.train.__getitem__, steps)
        with staff(self.workers, self.again) if self.workers else one_thread(self.train.__getitem__) as ask:
            pending = deque(map(ask, itertools.islice(steps, self.ahead)))
            while True:
                batch = pending.popleft().result()
                pending.append(ask(next(steps)))
                yield batch


def load(data: Data, *, batch: int, seed: int, vocabulary: int, steps: int = 0, epochs: float = 0.0) -> Feed:
    """The Feed of `data`: batches of `batch` rows, in the order of `seed`.

    vocabulary: how many pieces the model has room for, and a trained tokenizer gets. steps or epochs: how long the run
    is, which only a run of two lengths needs to know. Evaluation is the same for every seed and every batch size.
    Raises UserError for any mistake in the settings or in the text.
    """
    validate(data, batch, seed)
    tokenizer = tokenizer_of(data, vocabulary)
    pieces = vocabulary_of(tokenizer)
    if pieces.size > vocabulary:
        raise UserError(
            f"the tokenizer '{data.tokenizer}' has {pieces.size} pieces but the model has room for {vocabulary}; "
            f'give the model a vocabulary of {pieces.size} or more'
        )
    if data.task:
        train, questions, facts = taught(data, tokenizer, pieces, batch, seed)
        examples = questions['train'].rows if 'train' in questions else 0
        questions = {name: split for name, split in questions.items() if name != 'train'}
        evaluation = {name: Ranked(split, batch) for name, split in questions.items()}
    else:
        splits, held_out, facts = masked(data, tokenizer, pieces, seed)
        examples = round(1 / sum(stage.share / split.rows for stage, split in zip(stages(data), splits, strict=True)))
        datasets = [split.order(seed + STRIDE * number).batch(batch).random_map(split.make) for number, split in enumerate(splits)]
        train = Steps(tuple(datasets), boundary(data, number_of_steps(steps, epochs, examples, batch)))
        questions, evaluation = {}, {name: Batches(split, batch, pieces) for name, split in held_out.items()}
    return Feed(
        train=train,
        evaluation=evaluation,
        tokenizer=tokenizer,
        vocabulary=pieces,
        facts=facts | {'tokenizer_fingerprint': pieces.fingerprint, 'pieces': pieces.size, 'examples': examples},
        examples=examples,
        ahead=max(data.prefetch, 2 * data.workers),
        workers=data.workers,
        again=partial(
            batches_of, data, facts['fingerprint'], batch=batch, seed=seed, vocabulary=vocabulary, steps=steps, epochs=epochs
        ),
        questions=questions,
    )


def batches_of(data: Data, fingerprint: str, **given: Any) -> Callable[[int], Batch]:
    """`train[step]` of the Feed of `data` that has this fingerprint. Raises UserError if the data has changed since."""
    feed = load(replace(data, changed='refuse'), **given)
    if feed.facts['fingerprint'] != fingerprint:
        raise UserError('the data has changed since the run began; the same command goes on when it is what it was')
    return feed.train.__getitem__


@contextmanager
def one_thread(work: Callable[[int], Batch]) -> Iterator[Callable[[int], Future[Batch]]]:
    """As `staff`, with a thread of this process. More of them would wait for one another."""
    with ThreadPoolExecutor(1) as pool:
        try:
            yield partial(pool.submit, work)
        finally:
            pool.shutdown(cancel_futures=True)
