"""ATTENTION: all kernels agree, and one is chosen by what the device, the dtype and the losses allow."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.models.architecture import Architecture
from research.models.attention import ATTENTION, choose_kernel, validate
from research.parallel import find_platform

HALF = Architecture(dtype='bfloat16', attention_dropout=0.0)


@pytest.mark.parametrize('name', ATTENTION)
@pytest.mark.parametrize('packed', [False, True])
def test_a_kernel_is_softmax_attention(name: str, packed: bool) -> None:
    """Values and gradients, with padding and with packed segments; a kernel that needs another device is left to that device."""
    fault = ATTENTION[name].fault(HALF, frozenset(), find_platform(), True)
    if fault:
        pytest.skip(f'{name}: {fault}')
    keys = jax.random.split(jax.random.key(0), 4)
    query, key, value, g = (jax.random.normal(each, (3, 64, 4, 32)).astype(jnp.bfloat16) for each in keys)
    mask = (jnp.arange(64)[None] < jnp.array([64, 40, 5])[:, None])[:, None, None, :]
    if packed:
        segments = jnp.arange(64)[None] // jnp.array([16, 7, 64])[:, None]
        mask = mask & (segments[:, None, :, None] == segments[:, None, None, :])

    def reference(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        return jax.nn.dot_product_attention(query, key, value, mask=mask)

    full = [x.astype(jnp.float32) for x in (query, key, value)]
    wanted, wanted_back = jax.vjp(reference, *full)
    found, back = jax.vjp(lambda *x: ATTENTION[name].compute(*x, mask, 0.0, None)[0], query, key, value)
    reached = jnp.broadcast_to(mask, (3, 1, 64, 64)).any(-1)[:, 0, :, None, None]  # rows that attend to nothing mean nothing
    np.testing.assert_allclose(jnp.where(reached, found.astype(jnp.float32), 0), jnp.where(reached, wanted, 0), atol=0.05)
    g = jnp.where(reached, g, 0)
    for one, other in zip(back(g), wanted_back(g.astype(jnp.float32)), strict=True):
        np.testing.assert_allclose(one.astype(jnp.float32), other, atol=0.1)


def test_auto_takes_the_fused_kernel_where_nothing_speaks_against_it() -> None:
    assert choose_kernel(HALF, frozenset(), 'cuda', training=True) == ('fused', "attention: fused, cuDNN's")
    dropping = dataclasses.replace(HALF, attention_dropout=0.1)
    assert choose_kernel(dropping, frozenset(), 'cuda', training=False)[0] == 'fused'
    for a, want, platform, reason in (
        (HALF, frozenset(), 'cpu', 'it needs a CUDA GPU of compute capability 8.0 or more, and this is CPU'),
        (HALF, frozenset(), 'gpu', 'it needs a CUDA GPU of compute capability 8.0 or more'),
        (dataclasses.replace(HALF, dtype='float32'), frozenset(), 'cuda', 'it computes in bfloat16, and model.dtype is float32'),
        (dataclasses.replace(HALF, heads=64), frozenset(), 'cuda', 'and model.width ÷ model.heads is 12'),
        (HALF, frozenset({'attention'}), 'cuda', 'a loss reads the attention probabilities'),
        (dropping, frozenset(), 'cuda', '--config.model.attention_dropout=0 allows it'),
    ):
        name, line = choose_kernel(a, want, platform, training=True)
        assert name == 'plain' and reason in line
        with pytest.raises(UserError, match="model.attention='fused' cannot be used: .*; --config.model.attention=auto takes"):
            choose_kernel(dataclasses.replace(a, attention='fused'), want, platform, training=True)


def test_a_kernel_that_is_named_is_taken() -> None:
    assert choose_kernel(dataclasses.replace(HALF, attention='plain'), frozenset(), 'cuda', training=False)[0] == 'plain'
    assert choose_kernel(dataclasses.replace(HALF, attention='fused'), frozenset(), 'cuda', training=True)[0] == 'fused'


def test_a_kernel_that_there_is_not_is_refused() -> None:
    with pytest.raises(UserError, match="no model.attention named 'flash'"):
        validate(dataclasses.replace(HALF, attention='flash'))
