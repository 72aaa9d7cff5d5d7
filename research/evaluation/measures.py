"""Losses and accuracies of a model on held-out batches."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.models.heads import Model
from research.objectives.losses import ANSWERED_BY, LOSSES, WEIGHTS, Losses
from research.objectives.view import Batch, View
from research.terms import Term, weigh


class Measured(NamedTuple):
    """The results of a model on one split."""

    means: dict[str, float]  # losses and accuracies by name
    logits: list[np.ndarray]  # of each row in the order of the split, for metrics that are no means; [] if rows are not numbered


def _mark_hits(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return (logits.argmax(-1) == labels).astype(jnp.float32)


# Loss -> its accuracy: (1 for each correct item, else 0; which items count: a name in WEIGHTS).
ACCURACIES: dict[str, tuple[Callable[[View, Batch], jax.Array], str]] = {
    'mlm': (lambda view, batch: _mark_hits(view.logits('mlm', 'masked'), batch['masked_labels']), 'masked'),
    'nsp': (lambda view, batch: _mark_hits(view.logits('pair'), batch['pair']), 'examples'),
    'sop': (lambda view, batch: _mark_hits(view.logits('pair'), batch['pair']), 'examples'),
}


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

    If the batch numbers its rows, the results of single rows are the numbers ('row') and the 'logits' of all devices; else they are
    empty. Dropout is off. tried: `data.answers` starts and ends.
    """
    heads = dict(model.heads)
    names, options = select_losses(heads, offered), Losses()
    want = frozenset(want for name in names for want in LOSSES[name].wants(getattr(options, name)))
    head = next((name for kind, row in ANSWERED_BY.items() if kind in offered for name in row if name in heads), '')

    def evaluation(
        params: Any, frozen: Mapping[str, Any], batch: Batch, axis: str | None
    ) -> tuple[dict[str, Term], dict[str, jax.Array]]:
        view = View(model, params, batch, want=want)
        found = {}
        for name in names:
            row = LOSSES[name]
            weights = batch[WEIGHTS[row.over(getattr(options, name))]]
            found[name] = weigh(row.values(getattr(options, name), view, None, batch), weights)
            if name in ACCURACIES:
                hits, over = ACCURACIES[name]
                found[f'{name}_accuracy'] = weigh(hits(view, batch), batch[WEIGHTS[over]])
        rows = {'row': batch['row'], 'logits': view.search(head, tried)} if 'row' in batch else {}
        if axis is None:
            return found, rows
        return jax.lax.psum(found, axis), jax.tree.map(lambda x: jax.lax.all_gather(x, axis, tiled=True), rows)

    return evaluation


def evaluate(measure: Callable[..., Any], put: Callable[[Any], Any], params: Any, batches: Iterable[Any]) -> Measured:
    """The Measured of all `batches`; `measure` is compiled, `put` copies a batch to the devices."""
    total: dict[str, Term] = {}
    logits: dict[int, np.ndarray] = {}
    for batch in batches:
        found, rows = measure(params, {}, put(batch))
        total = {name: total[name] + term if name in total else term for name, term in found.items()}
        if rows:
            numbered = zip(np.asarray(rows['row']).tolist(), np.asarray(rows['logits']), strict=True)
            logits |= {row: each for row, each in numbered if row >= 0}
    return Measured({name: float(term.mean()) for name, term in total.items()}, [logits[row] for row in sorted(logits)])
