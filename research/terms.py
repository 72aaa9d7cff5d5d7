"""Sums with their counts: the form in which losses and metrics are added over batches and devices, before the one division."""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Term:
    """A sum and the number of values in it, float32 scalars. Terms add up exactly; a mean of means would weigh batches wrongly."""

    total: jax.Array
    count: jax.Array

    def __add__(self, other: 'Term') -> 'Term':
        return Term(self.total + other.total, self.count + other.count)

    def mean(self) -> jax.Array:
        """The mean; 0 if the count is 0."""
        return self.total / jnp.maximum(self.count, 1)


def weigh(values: jax.Array, weights: jax.Array) -> Term:
    """The weighted sum of `values` and the sum of their `weights`, two arrays of the same shape."""
    weights = weights.astype(jnp.float32)
    return Term((values.astype(jnp.float32) * weights).sum(), weights.sum())
