"""Term: a sum with its count, divided once."""

import jax
import jax.numpy as jnp
import pytest

from research.terms import Term, weigh


def test_terms_add_up_but_means_do_not() -> None:
    one = weigh(jnp.array([1.0, 2.0, 9.0]), jnp.array([1, 1, 0]))
    two = weigh(jnp.array([6.0]), jnp.array([1.0]))
    assert float((one + two).mean()) == pytest.approx(3.0)
    assert float((one.mean() + two.mean()) / 2) == pytest.approx(3.75)


def test_a_mean_of_nothing_is_zero() -> None:
    assert float(weigh(jnp.array([3.0]), jnp.array([0.0])).mean()) == 0


def test_a_term_is_a_tree_of_float32() -> None:
    term = weigh(jnp.array([1, 2], jnp.bfloat16), jnp.array([1, 1], jnp.int32))
    assert [leaf.dtype for leaf in jax.tree.leaves(term)] == [jnp.float32, jnp.float32]
    assert isinstance(jax.tree.map(lambda x: x * 2, term), Term)
