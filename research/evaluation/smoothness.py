"""How much each layer changes its input: distance and angle (Lan et al. 2020, Figure 1)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from research.models.heads import Model, encode
from research.terms import Term, weigh

BATCHES = 4  # of the held-out split; they have thousands of positions, enough for a mean


def make_measure(model: Model) -> Callable[..., tuple[dict[str, Term], dict[str, Any]]]:
    """The pure function `smoothness(params, frozen, batch, axis)` -> (Terms 'l2/i' and 'degrees/i' of each layer i, {}).

    'l2' is the distance between a layer's input and its output, 'degrees' the angle; both are means over attended positions. The
    empty dict is there because `evaluate` expects results of single rows.
    """

    def smoothness(params: Any, frozen: Mapping[str, Any], batch: Mapping[str, Any], axis: str | None) -> Any:
        states = encode(model, params, batch, want=frozenset({'layers'})).layers
        assert states is not None, 'they are requested'
        states = states.astype(jnp.float32)  # [L + 1, B, T, D]
        before, after = states[:-1], states[1:]
        lengths = jnp.linalg.norm(before, axis=-1) * jnp.linalg.norm(after, axis=-1)
        cosine = jnp.sum(before * after, -1) / jnp.maximum(lengths, 1e-12)
        values = {
            'l2': jnp.linalg.norm(after - before, axis=-1),
            'degrees': jnp.degrees(jnp.arccos(jnp.clip(cosine, -1, 1))),
        }
        rows = batch['weight'] if 'weight' in batch else jnp.ones(batch['mask'].shape[0])
        weights = batch['mask'].astype(jnp.float32) * rows[:, None]
        found = {
            f'{name}/{layer}': weigh(each[layer], weights) for name, each in values.items() for layer in range(states.shape[0] - 1)
        }
        return (found if axis is None else jax.lax.psum(found, axis)), {}

    return smoothness


def group_by_layer(means: Mapping[str, float], layers: int) -> dict[str, list[float]]:
    """{'l2': […], 'degrees': […]} from the first layer to the last, from the means of `measure`."""
    return {name: [means[f'{name}/{layer}'] for layer in range(layers)] for name in ('l2', 'degrees')}
