"""The one way numbers travel: as sums with their counts, divided once, at the edge."""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Term:
    """A sum and the number of things summed, float32 scalars: `a + b` is exact where a mean of means is another number."""

    total: jax.Array
    count: jax.Array

    def __add__(self, other: 'Term') -> 'Term':
        return Term(self.total + other.total, self.count + other.count)

    def mean(self) -> jax.Array:
        """The mean; 0 where nothing was counted."""
        return self.total / jnp.maximum(self.count, 1)


def weigh(values: jax.Array, weights: jax.Array) -> Term:
    """The Term of `values` under `weights`, two arrays of one shape."""
    weights = weights.astype(jnp.float32)
    return Term((values.astype(jnp.float32) * weights).sum(), weights.sum())
