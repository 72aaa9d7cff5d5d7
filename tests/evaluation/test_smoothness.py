"""The values of Figure 1 against their definition; padding changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.evaluation import smoothness
from research.evaluation.measures import evaluate
from research.models.architecture import Architecture
from research.models.heads import Model, encode, initialise


def test_distances_and_angles_are_between_the_input_and_the_output_of_each_layer(small: Architecture, make_batch) -> None:
    model = Model(small)
    params = initialise(model, jax.random.key(0))
    batch = make_batch()
    measure = smoothness.make_measure(model)
    compiled = jax.jit(lambda params, frozen, batch: measure(params, frozen, batch, None))
    found = smoothness.group_by_layer(evaluate(compiled, lambda tree: tree, params, [batch]).means, small.layers)
    states = encode(model, params, jax.tree.map(jnp.asarray, batch), want=frozenset({'layers'})).layers
    counted = (batch['mask'] > 0) & (batch['weight'] > 0)[:, None]
    before, after = (np.asarray(states)[layers][:, counted] for layers in (slice(None, -1), slice(1, None)))
    cosine = (before * after).sum(-1) / np.linalg.norm(before, axis=-1) / np.linalg.norm(after, axis=-1)
    assert found['l2'] == pytest.approx(np.linalg.norm(after - before, axis=-1).mean(1).tolist(), rel=1e-4)
    assert found['degrees'] == pytest.approx(np.degrees(np.arccos(cosine)).mean(1).tolist(), rel=1e-3)
    other = {**batch, 'ids': np.where(batch['mask'] > 0, batch['ids'], 7)}
    again = smoothness.group_by_layer(evaluate(compiled, lambda tree: tree, params, [other]).means, small.layers)
    assert again['l2'] == pytest.approx(found['l2'], rel=1e-6)
