"""Predictions in batches of sequences of like length."""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.errors import JaxRuntimeError
from numpy.typing import NDArray

from research.compiled import use_compiled
from research.data.settings import Answers, Data
from research.data.tokenizers import describe_unreachable, load_tokenizer, vocabulary_of, with_mask
from research.errors import UserError, choose
from research.escape import clean
from research.models.architecture import Architecture
from research.models.attention import choose_kernel
from research.models.heads import HEADS, Heads, Model
from research.parallel import find_platform
from research.predict.inputs import Input, Reader, Sequence
from research.predict.kinds import KINDS, Kind
from research.runs.exhaustion import is_exhaustion
from research.surgery import Donor

WINDOW = 1024  # inputs that are held at once; within a window they are batched by length
TOKENS = 4096  # pieces of a batch, padding included
SHORTEST = 16  # pieces; batches are padded to this times a power of two, so few programs are compiled


def require(donor: Donor, name: str) -> Kind:
    """The row of KINDS called `name`. Raises UserError if there is none, the model lacks its head or a tokenizer, or is broken."""
    kind = KINDS[choose('kind of prediction', name, KINDS)]
    fault = next((donor.faults[head] for head in kind.heads if head in donor.faults), kind.fault(donor))
    if fault:
        raise UserError(f"kind '{name}' cannot be computed by {donor.label}: {fault}")
    if kind.heads and not set(kind.heads) & set(dict(donor.heads)):
        has = ', '.join(head for head, _ in donor.heads) or 'none'
        raise UserError(f"kind '{name}' needs the {' or '.join(kind.heads)} head, which {donor.label} lacks (it has: {has})")
    if donor.tokenizer is None:
        raise UserError(f'{donor.label} has no tokenizer, so it can read no text: put its tokenizer.json or vocab.txt beside it')
    for path, leaf in jax.tree_util.tree_leaves_with_path(donor.params):
        if not np.isfinite(leaf).all():
            name = jax.tree_util.keystr(path, simple=True, separator='/')
            raise UserError(f'{donor.label} is broken: its parameter {name} holds NaN or infinity, so it can predict nothing')
    return kind


@lru_cache(maxsize=8)
def _compile(kind: Kind, a: Architecture, heads: Heads, settings: Answers) -> Callable[..., Any]:
    return jax.jit(partial(kind.compute, Model(a, heads), settings))


def predict(
    donor: Donor,
    kind: Kind,
    data: Data,
    inputs: Iterable[Input],
    report: Callable[[int], None] = lambda more: None,
    no_answer: float | None = None,
) -> Iterator[dict[str, Any]]:
    """The prediction of `donor` for each input, in order; longer ones are cut to the length of its training, in pieces.

    data: what the model was trained with. report: called with the number of inputs just finished. no_answer: as in `Reader`.
    How many inputs were cut, and capitals that the vocabulary cannot read, are printed on the standard error.
    Raises UserError if the model computes a number that is not finite.
    """
    use_compiled()
    a = dataclasses.replace(donor.architecture, unroll=1, attention='auto')  # rolled: each of the few shapes compiles fast
    a = dataclasses.replace(a, attention=choose_kernel(a, frozenset(), find_platform(), training=False)[0])
    assert donor.tokenizer is not None, '`require` asks for one'
    tokenizer = load_tokenizer(donor.tokenizer)
    pieces = vocabulary_of(tokenizer)
    if notice := describe_unreachable(tokenizer, pieces):
        print(clean(notice), file=sys.stderr, flush=True)
    longest = min(data.length, a.positions, kind.longest(donor))
    # A head that searches knows the context by the types; a table of one type gives all of them its row.
    types = a.types != 1 or any(HEADS[name].searches for name, _ in donor.heads)
    reader = Reader(*with_mask(tokenizer, pieces), longest, types, data, no_answer)
    params = kind.prepare(reader, jax.tree.map(jnp.asarray, donor.params))
    compute = _compile(kind, a, donor.heads, data.answers)
    sizes: dict[int, int] = {}
    inputs = iter(inputs)
    total = long = 0
    while window := list(islice(inputs, WINDOW)):
        rows = [(i, one) for i, sequences in enumerate(kind.read(reader, window)) for one in sequences]
        results: list[Any] = [None] * len(rows)
        for members, batch in batches([one for _, one in rows], reader, sizes):
            try:
                found = jax.tree.map(np.asarray, compute(params, batch))
            except JaxRuntimeError as error:
                if not is_exhaustion(error):
                    raise
                rows, length = batch['ids'].shape
                raise UserError(
                    f'out of memory: {donor.label} reads {rows} × {length} pieces at once, too many for this machine '
                    f'({" ".join(str(error).split())}); give fewer inputs at a time, or shorter ones'
                ) from error
            for place, member in enumerate(members):
                results[member] = jax.tree.map(lambda x, place=place: x[place], found)
        of: list[list[tuple[Sequence, Any]]] = [[] for _ in window]
        for (i, one), result in zip(rows, results, strict=True):
            of[i].append((one, result))
        for x, mine in zip(window, of, strict=True):
            if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves([result for _, result in mine])):
                raise UserError(f'{x.where}: {donor.label} computes NaN or infinity for it; its weights are too large or broken')
            yield kind.describe(donor, reader, x, mine)
        total, long = total + len(window), long + sum(any(one.cut for one, _ in mine) for mine in of)
        report(len(window))
    if long:
        note = f'{long:,} of {total:,} inputs are longer than is read of them (at most {reader.room} pieces) and were cut'
        print(note, file=sys.stderr, flush=True)


def batches(
    rows: list[Sequence], reader: Reader, sizes: dict[int, int]
) -> Iterator[tuple[list[int], dict[str, NDArray[np.int32]]]]:
    """Batches of rows of similar length, with the numbers of their rows: [B, T] for a T that is one of few, B the same for each T.

    sizes: T -> B, kept from one call to the next. Rows that fill a batch up have one piece.
    """
    by_length: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        by_length.setdefault(min(reader.room, power_of_two(len(row.ids), SHORTEST)), []).append(i)
    for length, members in sorted(by_length.items()):
        wanted = min(max(TOKENS // length, 1), power_of_two(len(members), 1))
        sizes[length] = max(wanted, sizes[length]) if length in sizes else wanted
        for begin in range(0, len(members), sizes[length]):
            part = members[begin : begin + sizes[length]]
            masks = power_of_two(max(len(rows[i].positions) for i in part), 1)
            batch = {
                'ids': np.full((sizes[length], length), reader.pieces.pad, np.int32),
                'types': np.zeros((sizes[length], length), np.int32),
                'mask': np.zeros((sizes[length], length), np.int32),
                'masked_positions': np.zeros((sizes[length], masks), np.int32),
            }
            batch['mask'][:, 0] = 1
            for place, i in enumerate(part):
                n = len(rows[i].ids)
                batch['ids'][place, :n] = rows[i].ids
                batch['types'][place, :n] = rows[i].types
                batch['mask'][place, :n] = 1
                batch['masked_positions'][place, : len(rows[i].positions)] = rows[i].positions
            yield part, batch


def power_of_two(n: int, least: int) -> int:
    """The smallest `least` · 2^k that is at least `n`."""
    return least << max(0, (max(n, 1) - 1) // least).bit_length()
