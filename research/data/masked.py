"""The feed of pretraining: masked sequences of corpora."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import grain
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data import masking
from research.data.corpus import Corpus
from research.data.facts import MaskedFacts
from research.data.frequencies import contextless, find_nats, find_shares
from research.data.held_out import describe_rows
from research.data.masking import Masking
from research.data.preparation import entropy, prepare
from research.data.pretraining import Batch, filler, masked_batch
from research.data.sequences import Sequences, sequences
from research.data.settings import HELD_OUT_MASKS, Data, Stage, stages
from research.data.tokenizers import Vocabulary

BLOCK = 64  # rows of an evaluation split that are made at once
STRIDE = 1_000_003  # between the seeds of two stages
Rows = NDArray[np.int64]
Make = Callable[..., Batch]  # (rows [B], generator, indices of the wanted rows, masking, causal) -> their Batch


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of a split, and how some of them become a Batch: one member, or one for each source of a mixture."""

    members: tuple[tuple[int, float, Make], ...]  # rows, share of the batches, and the function that makes a Batch
    masking: Masking  # with its schedule over the run

    @property
    def rows(self) -> int:
        """All rows, those of the first member first."""
        return sum(rows for rows, _, _ in self.members)

    def make(
        self,
        rows: Rows,
        generator: np.random.Generator,
        mine: Rows | None = None,
        progress: float = 1.0,
        causal: bool = False,
    ) -> Batch:
        """The Batch of some rows [B], in their order; mine: which of the B, increasing, None: all. Draws are for all rows.

        progress: how much of the run is over, which the masking may follow.
        """
        if mine is None:
            mine = np.arange(len(rows))
        how = {'masking': masking.resolve_schedule(self.masking, progress), 'causal': causal}
        if len(self.members) == 1:
            return self.members[0][2](rows, generator, mine, **how)
        batch: Batch = {}
        begin = 0
        for size, _, make in self.members:
            places = np.flatnonzero((rows >= begin) & (rows < begin + size))
            if len(places):
                wanted = np.flatnonzero(np.isin(places, mine))
                for name, array in make(rows[places] - begin, generator, wanted, **how).items():
                    if name not in batch:
                        batch[name] = np.zeros((len(mine), *array.shape[1:]), array.dtype)
                    batch[name][np.searchsorted(mine, places[wanted])] = array
            begin += size
        return batch

    def order(self, seed: int) -> grain.MapDataset[int]:
        """The endless stream of rows. Each pass over a member has an order of its own."""
        orders, begin = [], 0
        for number, (size, _, _) in enumerate(self.members):
            orders.append(grain.MapDataset.range(begin, begin + size).seed((seed + number) % 2**32).shuffle().repeat())
            begin += size
        return orders[0] if len(orders) == 1 else grain.MapDataset.mix(orders, [share for _, share, _ in self.members])


@dataclass(frozen=True, eq=False)
class Batches:
    """The batches of an evaluation split, made when asked for and the same each time.

    Rows come in one random order for all runs, so that the first batches are a sample of the whole split and of each source.
    """

    split: Split
    size: int  # B
    pieces: Vocabulary
    mine: Rows  # which of the B rows of each batch this process makes, increasing
    kept: dict[int, Batch] = field(default_factory=dict)  # the last block

    def __len__(self) -> int:
        return -(-self.split.rows // self.size)

    @cached_property
    def order(self) -> Rows:
        """All rows."""
        return np.random.default_rng(0).permutation(self.split.rows)

    def __getitem__(self, index: int) -> Batch:
        """The rows `mine` of batch `index`, the last batch filled up with rows of weight 0. Only their blocks are made."""
        if not 0 <= index < len(self):
            raise IndexError(f'batch {index} of {len(self)}')
        rows = index * self.size + self.mine
        rows = rows[rows < self.split.rows]
        numbers = np.unique(rows // BLOCK) if len(rows) else np.array([index * self.size // BLOCK])  # the second for its shapes
        blocks = [self.block(int(number)) for number in numbers]
        places = np.searchsorted(numbers, rows // BLOCK) * BLOCK + rows % BLOCK  # only the last block of a split is shorter
        found = {name: np.concatenate([each[name] for each in blocks])[places] for name in blocks[0]}
        return filler(found, len(self.mine), self.pieces)

    def block(self, number: int) -> Batch:
        """BLOCK rows by a generator of their own, so that masks depend neither on the batch size nor on the run's seed."""
        if number not in self.kept:
            rows = self.order[number * BLOCK : (number + 1) * BLOCK]
            made = self.split.make(rows, np.random.default_rng([0, number]))
            self.kept.clear()
            self.kept[number] = made
            return made
        return self.kept[number]

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))


def open_masked(
    data: Data, cache: str, tokenizer: Tokenizer, pieces: Vocabulary, seed: int
) -> tuple[list[Split], dict[str, Split], MaskedFacts, NDArray[Any]]:
    """(a Split of each stage to train on, evaluation splits by name: dev, of held-out documents; facts; `mixed_counts`)."""
    corpora = prepare(data, cache, tokenizer)
    counts = mixed_counts(corpora)
    cut = partial(cut_split, data, corpora, pieces, counts)
    train = [cut(stage, 'train', seed) for stage in stages(data)]
    evaluation, floor = {}, None
    if data.held_out:
        shares, masks = find_shares(counts, pieces.special), HELD_OUT_MASKS[data.held_out_masks](data)
        # Held-out sequences are cut by one seed for all runs, so that their losses are comparable.
        evaluation['dev'] = cut(replace(stages(data)[-1], masking=masks), 'held_out', 0, find_nats(shares))
        floor = None if masking.MASKING[masks.policy].weighs_pieces else contextless(masks, shares)
    facts = joint_facts(data, corpora, entropy(counts[~pieces.special]))
    return (
        train,
        evaluation,
        MaskedFacts(
            **facts,
            tokenizer_fingerprint=pieces.fingerprint,
            pieces=pieces.size,
            examples=round(1 / sum(stage.share / split.rows for stage, split in zip(stages(data), train, strict=True))),
            contextless=floor,
        ),
        counts,
    )


def cut_split(
    data: Data,
    corpora: Sequence[Corpus],
    pieces: Vocabulary,
    counts: NDArray[Any],
    stage: Stage,
    part: str,
    seed: int,
    nats: NDArray[np.float64] | None = None,
) -> Split:
    """The sequences of one part of the corpora, of the length of a stage; counts: of each piece in training [V].

    nats: what `describe_rows` adds to the rows of an evaluation; None for training.
    """
    policy = masking.MASKING[stage.masking.policy]
    weights = masking.smooth(counts, stage.masking.smoothing) if policy.weighs_pieces else None
    members, before = [], 0
    for corpus in corpora:
        source = sequences(
            getattr(corpus, part),
            length=stage.length,
            pairs=data.pairs,
            short=data.short,
            fill=data.fill,
            pack=data.pack,
            seed=seed,
        )
        make: Make = partial(
            masked_batch,
            source,
            pieces=pieces,
            room=masking.predictions(stage.masking, stage.length),
            weights=weights,
            length=stage.length,
            pairs=data.pairs,
        )
        if nats is not None:
            make = partial(make_described, make, source, pieces.mask, nats, before)
        members.append((len(source), corpus.weight, make))
        before += corpus.facts.held_out_documents
    return Split(tuple(members), stage.masking)


def make_described(
    make: Make,
    source: Sequences,
    mask: int,
    nats: NDArray[np.float64],
    before: int,
    rows: Rows,
    generator: np.random.Generator,
    mine: Rows,
    **how: Any,
) -> Batch:
    """The Batch that `make` makes, as `describe_rows` describes it; before: the held-out documents of the sources before."""
    return describe_rows(make(rows, generator, mine, **how), mask, nats, before + source.documents(rows[mine]))


def mixed_counts(corpora: Sequence[Corpus]) -> NDArray[Any]:
    """[V] how often each piece occurs in training: as many pieces as all corpora have, mixed by their weights."""
    if len(corpora) == 1:
        return corpora[0].counts
    total = sum(int(corpus.counts.sum()) for corpus in corpora)
    return np.sum([total * corpus.weight * corpus.counts / corpus.counts.sum() for corpus in corpora], axis=0)


def joint_facts(data: Data, corpora: Sequence[Corpus], unigram_entropy: float) -> dict[str, Any]:
    """The facts of the corpora together; of several, those of each under `sources`."""
    if len(corpora) == 1:
        return asdict(corpora[0].facts)
    each = [asdict(corpus.facts) | {'weight': corpus.weight} for corpus in corpora]
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
