"""From settings to batches: `load` gives a Feed, whose batch at a step is a pure function of (seed, step)."""

import hashlib
import itertools
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import grain
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data import masking, supervised
from research.data.buckets import Ranked, by_length
from research.data.corpus import Corpus, entropy, prepare, tokenizer_of
from research.data.pretraining import FILLS, PAIRS, Batch, filler, masked_batch, sequences
from research.data.settings import Data, Stage, stages
from research.data.supervised import Questions
from research.data.tokenizers import Vocabulary, vocabulary_of
from research.data.workers import staff
from research.errors import UserError, choose

__all__ = ['Batch', 'Batches', 'Data', 'Feed', 'load']

BLOCK = 64  # rows of an evaluation split that are made at once
STRIDE = 1_000_003  # between the seeds of two stages
ENDLESS = 2**40  # steps
Make = Callable[[NDArray[np.int64], np.random.Generator], Batch]  # rows [B], generator -> the Batch of these rows


@dataclass(frozen=True, eq=False)
class Split:
    """The examples of a split, and how some of them become a Batch: one member, or one for each source of a mixture."""

    members: tuple[tuple[int, float, Make], ...]  # rows, share of the batches, and how some of the rows become a Batch

    @property
    def rows(self) -> int:
        """All examples, those of the first member first."""
        return sum(rows for rows, _, _ in self.members)

    def make(self, rows: NDArray[np.int64], generator: np.random.Generator) -> Batch:
        """The Batch of some examples, in the order asked for."""
        if len(self.members) == 1:
            return self.members[0][2](rows, generator)
        batch: Batch = {}
        begin = 0
        for size, _, make in self.members:
            places = np.flatnonzero((rows >= begin) & (rows < begin + size))
            if len(places):
                for name, array in make(rows[places] - begin, generator).items():
                    if name not in batch:
                        batch[name] = np.zeros((len(rows), *array.shape[1:]), array.dtype)
                    batch[name][places] = array
            begin += size
        return batch

    def order(self, seed: int) -> grain.MapDataset[int]:
        """The examples without end. Each member is gone through again and again, every time in an order of its own."""
        orders, begin = [], 0
        for number, (size, _, _) in enumerate(self.members):
            orders.append(grain.MapDataset.range(begin, begin + size).seed((seed + number) % 2**32).shuffle().repeat())
            begin += size
        return orders[0] if len(orders) == 1 else grain.MapDataset.mix(orders, [share for _, share, _ in self.members])


def boundary(data: Data, steps: int) -> int:
    """The first step of the last stage."""
    return round(steps * stages(data)[0].share) if len(stages(data)) > 1 else 0


def number_of_steps(steps: int, epochs: float, examples: int, batch: int) -> int:
    """How many steps a run takes: `epochs`, of so many examples, decides where it is given."""
    return math.ceil(epochs * examples / batch) if epochs else steps


@dataclass(frozen=True, eq=False)
class Batches:
    """The batches of an evaluation split, made when asked for and the same each time.

    Rows come in one random order for all runs, so that the first batches stand for the whole, for each source of a mixture too.
    """

    split: Split
    size: int  # B
    vocabulary: Vocabulary
    kept: dict[int, Batch] = field(default_factory=dict)  # the block that was made last

    def __len__(self) -> int:
        return -(-self.split.rows // self.size)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """All rows."""
        return np.random.default_rng(0).permutation(self.split.rows)

    def __getitem__(self, index: int) -> Batch:
        """Batch `index`, the last one filled up with rows of weight 0."""
        if not 0 <= index < len(self):
            raise IndexError(f'batch {index} of {len(self)}')
        begin, end = index * self.size, min(self.split.rows, (index + 1) * self.size)
        first = begin // BLOCK
        blocks = [self.block(number) for number in range(first, -(-end // BLOCK))]
        rows = {name: np.concatenate([each[name] for each in blocks]) for name in blocks[0]}
        return filler(
            {name: array[begin - first * BLOCK : end - first * BLOCK] for name, array in rows.items()}, self.size, self.vocabulary
        )

    def block(self, number: int) -> Batch:
        """BLOCK rows by a generator of their own: masks must depend neither on the batch size nor on the run's seed."""
        if number not in self.kept:
            rows = self.order[number * BLOCK : (number + 1) * BLOCK]
            made = self.split.make(rows, np.random.default_rng([0, number]))
            self.kept.clear()
            self.kept[number] = made
            return made
        return self.kept[number]

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True, eq=False)
class Steps:
    """The batches to train on, without end: batch `step` is a pure function of (seed, step)."""

    stages: tuple[grain.MapDataset[Batch], ...]  # one or two, each counting its own steps from 0
    boundary: int  # the first step of the last stage

    def place(self, step: int) -> tuple[int, int]:
        """The stage of a step, and its number there."""
        return (0, step) if step < self.boundary else (len(self.stages) - 1, step - self.boundary)

    def __getitem__(self, step: int) -> Batch:
        stage, number = self.place(step)
        batch = self.stages[stage][number]
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
    check(data, batch, seed)
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


def taught(
    data: Data, tokenizer: Tokenizer, pieces: Vocabulary, batch: int, seed: int
) -> tuple[Steps, dict[str, Questions], dict[str, Any]]:
    """A task: batches of sequences of like length to train on, empty ones without train; and the questions of each split."""
    splits, facts = supervised.read(data, tokenizer, pieces)
    steps = grain.MapDataset.range(1).map(lambda step: Batch())
    if 'train' in splits:
        train = splits['train']
        shuffled = grain.MapDataset.range(train.rows).seed(seed % 2**32).shuffle().repeat()
        chosen = by_length(shuffled, train, batch, seed)
        steps = grain.MapDataset.range(ENDLESS).map(lambda step: train.make(chosen(step)))
    return Steps((steps,), 0), splits, facts


def check(data: Data, batch: int, seed: int) -> None:
    """Raise a UserError for a setting that is out of range, whatever the text."""
    choose('data.pairs', data.pairs, PAIRS)
    choose('data.fill', data.fill, FILLS)
    masking.check(data.masking)
    numbers = [('batch', batch, 1), ('seed', seed, 0), ('data.prefetch', data.prefetch, 0), ('data.workers', data.workers, 0)]
    numbers += [(f'data.answers.{name}', getattr(data.answers, name), 1) for name in ('stride', 'question', 'longest', 'best')]
    for name, value, least in numbers:
        if value < least:
            raise UserError(f'{name}={value} must be {least} at least')
    if seed >= 2**32:
        raise UserError(f'seed={seed} must be below {2**32}')
    if not 8 <= data.length <= 65_536:
        raise UserError(f'data.length={data.length} must lie between 8 and 65536 pieces')
    if not data.task:
        masking.predictions(data.masking, data.length)
    if not 0 <= data.short <= 1:
        raise UserError(f'data.short={data.short} must be a share, between 0 and 1')
    if data.pairs != 'none' and (data.pack or data.fill != 'pieces'):
        given = 'data.pack' if data.pack else f'data.fill={data.fill}'
        raise UserError(
            f'{given} is for single segments, but data.pairs={data.pairs}, whose segments are whole sentences; give none'
        )
    if data.pack and (data.task or data.fill == 'documents'):
        raise UserError(
            'data.pack keeps documents apart: it is for pretraining, and for data.fill=pieces or sentences; without it, give false'
        )
    if data.first_length and not 8 <= data.first_length < data.length:
        raise UserError(f'data.first_length={data.first_length} must be 8 or more and below data.length={data.length}, or 0')
    if not 0 < data.first_share < 1:
        raise UserError(f'data.first_share={data.first_share} must be a share of the steps, between 0 and 1')


def masked(data: Data, tokenizer: Tokenizer, pieces: Vocabulary, seed: int) -> tuple[list[Split], dict[str, Split], dict[str, Any]]:
    """Pretraining: masked sequences of the corpora, to train on (a Split for each stage) and, of held-out documents, dev."""
    corpora = prepare(data, tokenizer)
    counts = mixed_counts(corpora)
    weights = masking.smoothed(counts, data.masking.smoothing) if data.masking.policy == 'frequency' else None

    def split(part: str, stage: Stage, cuts: int) -> Split:
        members = []
        for corpus in corpora:
            here = getattr(corpus, part)
            source = sequences(
                here,
                here.ids,
                length=stage.length,
                pairs=data.pairs,
                short=data.short,
                fill=data.fill,
                pack=data.pack,
                seed=cuts,
            )
            make = partial(
                masked_batch,
                source,
                vocabulary=pieces,
                masking=stage.masking,
                weights=weights,
                length=stage.length,
                pairs=data.pairs,
            )
            members.append((len(source), corpus.weight, make))
        return Split(tuple(members))

    train = [split('train', stage, seed) for stage in stages(data)]
    # Held-out sequences are cut by one seed for all runs, so that their losses are comparable.
    evaluation = {'dev': split('held_out', stages(data)[-1], 0)} if data.held_out else {}
    facts = joint_facts(data, corpora, entropy(counts[~pieces.special]))
    return train, evaluation, facts | {'labels': None}


def mixed_counts(corpora: Sequence[Corpus]) -> NDArray[Any]:
    """How often each piece occurs in training, in as many pieces as all corpora have but mixed by their weights."""
    if len(corpora) == 1:
        return corpora[0].counts
    total = sum(int(corpus.counts.sum()) for corpus in corpora)
    return np.sum([total * corpus.weight * corpus.counts / corpus.counts.sum() for corpus in corpora], axis=0)


def joint_facts(data: Data, corpora: Sequence[Corpus], unigram_entropy: float) -> dict[str, Any]:
    """What is known of the corpora together; with several, those of each under `sources`."""
    if len(corpora) == 1:
        return corpora[0].facts
    each = [corpus.facts | {'weight': corpus.weight} for corpus in corpora]
    sums = {
        name: sum(facts[name] for facts in each)
        for name in ('documents', 'tokens', 'sentences', 'held_out_documents', 'held_out_tokens', 'duplicates')
    }
    content = hashlib.sha256(repr([(facts['fingerprint'], facts['weight']) for facts in each]).encode())
    return sums | {
        'fingerprint': content.hexdigest()[:16],
        'source': data.source,
        'unknown_rate': sum(facts['weight'] * facts['unknown_rate'] for facts in each),
        'unigram_entropy': unigram_entropy,
        'sources': each,
    }
