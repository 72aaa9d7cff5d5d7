"""Losses and accuracies of a model on held-out batches."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.data.held_out import KINDS
from research.evaluation.gains import HeldOut, add_up
from research.models.heads import Model
from research.objectives.losses import ANSWERED_BY, LOSSES, WEIGHTS, Losses
from research.objectives.view import Batch, View
from research.terms import Term, weigh


class Measured(NamedTuple):
    """The results of a model on one split."""

    means: dict[str, float]  # losses and accuracies by name
    logits: list[np.ndarray]  # of each row in the order of the split, for metrics that are no means; [] if rows are not numbered
    held_out: HeldOut | None  # sums by document, if the rows name theirs and have pieces shown as [MASK]


def _mark_hits(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return (logits.argmax(-1) == labels).astype(jnp.float32)


# Loss -> its accuracy: (1 for each correct item, else 0; which items count: a name in WEIGHTS).
ACCURACIES: dict[str, tuple[Callable[[View, Batch], jax.Array], str]] = {
    'mlm': (lambda view, batch: _mark_hits(view.logits('mlm', 'masked'), batch['masked_labels']), 'masked'),
    'nsp': (lambda view, batch: _mark_hits(view.logits('pair'), batch['pair']), 'examples'),
    'sop': (lambda view, batch: _mark_hits(view.logits('pair'), batch['pair']), 'examples'),
}


def split_by_kind(values: jax.Array, batch: Batch) -> tuple[dict[str, Term], dict[str, jax.Array]]:
    """(Terms of the MLM loss [B, P] at kept and at random pieces, the sums of each row at [MASK] with its document)."""
    weights = {kind: batch['masked_weights'] * (batch['masked_kinds'] == number) for number, kind in enumerate(KINDS)}
    masked = weights.pop('masked')
    sums = {'count': masked, 'loss': values * masked, 'frequencies': batch['masked_frequencies'] * masked}
    found = {f'mlm_{kind}': weigh(values, each) for kind, each in weights.items()}
    return found, {'document': batch['document'], **{name: each.sum(1) for name, each in sums.items()}}


def select_losses(heads: Iterable[str], offered: frozenset[str]) -> tuple[str, ...]:
    """The losses without a teacher that these heads and data with the features `offered` allow."""
    heads, options = set(heads), Losses()
    return tuple(
        name
        for name, row in LOSSES.items()
        if not row.teacher and set(row.heads(getattr(options, name))) <= heads and row.needs(getattr(options, name)) in offered
    )


def make_measure(
    model: Model, offered: frozenset[str], tried: tuple[int, int] = (5, 5)
) -> Callable[..., tuple[dict[str, Term], dict[str, jax.Array]]]:
    """The pure function `evaluation(params, frozen, batch, axis)` -> (Terms of losses and accuracies, results of single rows).

    If the batch numbers its rows, the results of single rows are the numbers ('row') and the 'logits' of all devices; if it names
    their documents, those of `split_by_kind`; else they are empty. Dropout is off. tried: `data.answers` starts and ends.
    """
    heads = dict(model.heads)
    names, options = select_losses(heads, offered), Losses()
    want = frozenset(want for name in names for want in LOSSES[name].wants(getattr(options, name)))
    head = next((name for kind, row in ANSWERED_BY.items() if kind in offered for name in row if name in heads), '')

    def evaluation(
        params: Any, frozen: Mapping[str, Any], batch: Batch, axis: str | None
    ) -> tuple[dict[str, Term], dict[str, jax.Array]]:
        view = View(model, params, batch, want=want)
        found: dict[str, Term] = {}
        rows: dict[str, jax.Array] = {}
        for name in names:
            row = LOSSES[name]
            weights = batch[WEIGHTS[row.over(getattr(options, name))]]
            values = row.values(getattr(options, name), view, None, batch)
            found[name] = weigh(values, weights)
            if name == 'mlm' and 'document' in batch:
                kinds, rows = split_by_kind(values, batch)
                found |= kinds
            if name in ACCURACIES:
                hits, over = ACCURACIES[name]
                found[f'{name}_accuracy'] = weigh(hits(view, batch), batch[WEIGHTS[over]])
        if 'row' in batch:
            rows = {'row': batch['row'], 'logits': view.search(head, tried)}
        if axis is None:
            return found, rows
        return jax.lax.psum(found, axis), jax.tree.map(lambda x: jax.lax.all_gather(x, axis, tiled=True), rows)

    return evaluation


def evaluate(measure: Callable[..., Any], put: Callable[[Any], Any], params: Any, batches: Iterable[Any]) -> Measured:
    """The Measured of all `batches`; `measure` is compiled, `put` copies a batch to the devices. A mean of nothing is left out."""
    totals: dict[str, tuple[float, float]] = {}
    logits: dict[int, np.ndarray] = {}
    documents: list[dict[str, np.ndarray]] = []
    # A batch is read when the next one is under way: the devices do not wait for the host.
    for found, read in map(jax.device_get, _trail(measure(params, {}, put(batch)) for batch in batches)):
        for name, term in found.items():
            total, count = totals[name] if name in totals else (0.0, 0.0)
            totals[name] = total + float(term.total), count + float(term.count)
        if 'logits' in read:
            logits |= {row: each for row, each in zip(read['row'].tolist(), read['logits'], strict=True) if row >= 0}
        if 'document' in read:
            documents.append(read)
    means = {name: total / count for name, (total, count) in totals.items() if count}
    return Measured(means, [logits[row] for row in sorted(logits)], add_up(documents))


def _trail(items: Iterable[Any]) -> Iterator[Any]:
    """The items, each delayed until the next one has been made."""
    waiting: list[Any] = []
    for item in items:
        yield from waiting
        waiting = [item]
    yield from waiting
