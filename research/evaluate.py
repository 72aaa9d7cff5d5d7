"""What a model is measured by, on batches that it was not trained on."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from research.models.heads import Model
from research.objectives.losses import LOSSES, WEIGHTS, Batch, Losses, View
from research.terms import Term, weigh


def _hits(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return (logits.argmax(-1) == labels).astype(jnp.float32)


# Measure -> (its value an item, which items count: a row of objectives.WEIGHTS).
ACCURACIES: dict[str, tuple[Callable[[View, Batch], jax.Array], str]] = {
    'mlm': (lambda view, batch: _hits(view.logits('mlm', 'masked'), batch['masked_labels']), 'masked'),
    'nsp': (lambda view, batch: _hits(view.logits('pair'), batch['pair']), 'examples'),
    'sop': (lambda view, batch: _hits(view.logits('pair'), batch['pair']), 'examples'),
    'label': (lambda view, batch: _hits(view.logits('label'), batch['label']), 'examples'),
}


def measured(heads: Iterable[str], offered: frozenset[str]) -> tuple[str, ...]:
    """The losses that a model with these heads is measured by on data that offer this: those that need no teacher."""
    heads, options = set(heads), Losses()
    return tuple(
        name
        for name, row in LOSSES.items()
        if not row.teacher and set(row.heads(getattr(options, name))) <= heads and row.needs(getattr(options, name)) in offered
    )


def make_measure(model: Model, offered: frozenset[str]) -> Callable[..., dict[str, Term]]:
    """The pure function `measure(params, frozen, batch, axis)` -> each loss in nats and its accuracy, without dropout."""
    names = measured([name for name, _ in model.heads], offered)
    options = Losses()

    def measure(params: Any, frozen: Mapping[str, Any], batch: Batch, axis: str | None) -> dict[str, Term]:
        view = View(model, params, batch)
        found = {}
        for name in names:
            row = LOSSES[name]
            weights = batch[WEIGHTS[row.over(getattr(options, name))]]
            found[name] = weigh(row.values(getattr(options, name), view, None, batch), weights)
            if name in ACCURACIES:
                hits, over = ACCURACIES[name]
                found[f'{name}_accuracy'] = weigh(hits(view, batch), batch[WEIGHTS[over]])
        return found if axis is None else jax.lax.psum(found, axis)

    return measure


def evaluate(
    measure: Callable[..., dict[str, Term]], put: Callable[[Any], Any], params: Any, batches: Iterable[Any]
) -> dict[str, float]:
    """The means over all `batches`; `measure` is compiled, `put` brings a batch to the devices."""
    total: dict[str, Term] = {}
    for batch in batches:
        found = measure(params, {}, put(batch))
        total = {name: total[name] + term if name in total else term for name, term in found.items()}
    return {name: float(term.mean()) for name, term in total.items()}
