"""What a model is measured by, on batches that it was not trained on."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.models.heads import Model
from research.objectives.losses import LOSSES, TAUGHT, WEIGHTS, Losses
from research.objectives.view import Batch, View
from research.terms import Term, weigh


class Measured(NamedTuple):
    """What a split says of a model: means of Terms, and of a task each row's logits, for metrics that no mean can give."""

    means: dict[str, float]
    logits: list[np.ndarray]  # of each row of the split, in its order; [] where rows have no number


def _hits(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return (logits.argmax(-1) == labels).astype(jnp.float32)


# Measure -> (its value an item, which items count: a row of objectives.WEIGHTS).
ACCURACIES: dict[str, tuple[Callable[[View, Batch], jax.Array], str]] = {
    'mlm': (lambda view, batch: _hits(view.logits('mlm', 'masked'), batch['masked_labels']), 'masked'),
    'nsp': (lambda view, batch: _hits(view.logits('pair'), batch['pair']), 'examples'),
    'sop': (lambda view, batch: _hits(view.logits('pair'), batch['pair']), 'examples'),
}


def measured(heads: Iterable[str], offered: frozenset[str]) -> tuple[str, ...]:
    """The losses that a model with these heads is measured by on data that offer this: those that need no teacher."""
    heads, options = set(heads), Losses()
    return tuple(
        name
        for name, row in LOSSES.items()
        if not row.teacher and set(row.heads(getattr(options, name))) <= heads and row.needs(getattr(options, name)) in offered
    )


def make_measure(model: Model, offered: frozenset[str]) -> Callable[..., tuple[dict[str, Term], dict[str, jax.Array]]]:
    """The pure function `measure(params, frozen, batch, axis)` -> each loss in nats and its accuracy, and what single rows say.

    The latter are the 'row' numbers and their 'logits', of all devices, where the batch numbers its rows. There is no dropout.
    """
    names = measured([name for name, _ in model.heads], offered)
    options = Losses()
    head = next((TAUGHT[kind] for kind in TAUGHT if kind in offered), '')

    def measure(
        params: Any, frozen: Mapping[str, Any], batch: Batch, axis: str | None
    ) -> tuple[dict[str, Term], dict[str, jax.Array]]:
        view = View(model, params, batch)
        found = {}
        for name in names:
            row = LOSSES[name]
            weights = batch[WEIGHTS[row.over(getattr(options, name))]]
            found[name] = weigh(row.values(getattr(options, name), view, None, batch), weights)
            if name in ACCURACIES:
                hits, over = ACCURACIES[name]
                found[f'{name}_accuracy'] = weigh(hits(view, batch), batch[WEIGHTS[over]])
        said = {'row': batch['row'], 'logits': view.logits(head)} if 'row' in batch else {}
        if axis is None:
            return found, said
        return jax.lax.psum(found, axis), jax.tree.map(lambda x: jax.lax.all_gather(x, axis, tiled=True), said)

    return measure


def evaluate(measure: Callable[..., Any], put: Callable[[Any], Any], params: Any, batches: Iterable[Any]) -> Measured:
    """What all `batches` say; `measure` is compiled, `put` brings a batch to the devices."""
    total: dict[str, Term] = {}
    logits: dict[int, np.ndarray] = {}
    for batch in batches:
        found, said = measure(params, {}, put(batch))
        total = {name: total[name] + term if name in total else term for name, term in found.items()}
        if said:
            rows = zip(np.asarray(said['row']).tolist(), np.asarray(said['logits']), strict=True)
            logits |= {row: each for row, each in rows if row >= 0}
    return Measured({name: float(term.mean()) for name, term in total.items()}, [logits[row] for row in sorted(logits)])
