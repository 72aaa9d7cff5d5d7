"""Noise: the bits of dropout are good, and a row's depend on its number alone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.models.noise import draw_bits, dropout, fold, make_noise, spread

KEY = jax.random.key(0)
NOISE = make_noise(KEY, jnp.arange(32))


@pytest.mark.parametrize('rate', [0.1, 0.5])
def test_dropout_zeroes_its_rate_and_keeps_the_mean(rate: float) -> None:
    x = jnp.ones((32, 301, 333))
    y = np.asarray(dropout(NOISE, x, rate))
    deviation = (rate * (1 - rate) / y.size) ** 0.5
    assert (y == 0).mean() == pytest.approx(rate, abs=5 * deviation)
    assert y.mean() == pytest.approx(1, abs=5 * deviation / (1 - rate))
    assert np.unique(y) == pytest.approx([0, 1 / (1 - rate)], abs=1e-6)


def test_dropout_is_off_without_noise_or_a_rate() -> None:
    x = jnp.ones((32, 2))
    assert dropout(None, x, 0.5) is x
    assert dropout(NOISE, x, 0.0) is x


def test_the_gradient_is_dropped_where_the_value_is() -> None:
    x = jax.random.normal(KEY, (32, 50)) + 10
    y, back = jax.vjp(lambda x: dropout(NOISE, x, 0.3), x)
    np.testing.assert_allclose(back(jnp.ones_like(x))[0], y / x, rtol=1e-6)


def test_each_bit_is_set_half_of_the_time_and_tells_nothing_of_another() -> None:
    words = np.asarray(draw_bits(NOISE[:4], (4, 512, 512))).ravel()
    bits = (words[:, None] >> np.arange(32)) & 1
    noise = 0.5 / len(words) ** 0.5
    assert np.abs(bits.mean(0) - 0.5).max() < 5 * noise
    correlations = np.asarray(np.corrcoef(bits.T))
    assert np.abs(correlations[~np.eye(32, dtype=bool)]).max() < 5.5 * 2 * noise


def test_neighbours_layers_rows_and_steps_are_independent() -> None:
    """Masks of rate 0.1: no pair that a model could meet is correlated by more than chance."""
    shape = (4, 4, 128, 128)  # [B, N, T, S]

    def mask(step: int, place: int) -> np.ndarray:
        noise = fold(make_noise(jax.random.fold_in(KEY, step), jnp.arange(4)), place)
        assert noise is not None
        return np.asarray(draw_bits(noise, shape) < round(0.1 * 2**32)).astype(float)

    one, layer, step = mask(0, 1), mask(0, 4), mask(1, 1)
    pairs = [(one[..., lag:], one[..., :-lag]) for lag in (1, 2, 3, 4, 8, 16, 64)]
    pairs += [(one[:, :, lag:], one[:, :, :-lag]) for lag in (1, 2, 16)] + [(one[:, 1:], one[:, :-1]), (one[1:], one[:-1])]
    pairs += [(one, layer), (one, step), (layer, step), (one[:, :, :, 1:], layer[:, :, :, :-1])]
    for a, b in pairs:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4.5 / a.size**0.5


def test_counts_in_windows_spread_as_those_of_independent_draws() -> None:
    """Dropped entries in windows of 64: mean and variance of a binomial distribution, whatever the row, the place and the step."""
    counts = []
    for step, place in itertools.product(range(4), range(4)):
        noise = fold(make_noise(jax.random.fold_in(KEY, step), jnp.arange(32)), place)
        assert noise is not None
        counts.append((np.asarray(draw_bits(noise, (32, 64 * 64))) < round(0.1 * 2**32)).reshape(-1, 64).sum(1))
    found = np.concatenate(counts)
    assert found.mean() == pytest.approx(6.4, abs=5 * (5.76 / len(found)) ** 0.5)
    assert found.var() == pytest.approx(5.76, rel=5 * (2 / len(found)) ** 0.5)


def test_a_row_has_the_same_noise_in_any_company_and_another_than_any_other_row() -> None:
    np.testing.assert_array_equal(make_noise(KEY, jnp.array([7, 3])), NOISE[jnp.array([7, 3])])
    x = jnp.ones((32, 40))
    np.testing.assert_array_equal(dropout(NOISE[8:12], x[:4], 0.5), dropout(NOISE, x, 0.5)[8:12])
    assert len(np.unique(np.asarray(NOISE), axis=0)) == 32
    assert len(np.unique(np.concatenate([np.asarray(fold(NOISE, place)) for place in range(40)]), axis=0)) == 40 * 32


def test_the_candidates_of_a_row_have_noise_of_their_own() -> None:
    found = spread(NOISE, 128)
    assert found is not None and found.shape == (128, 2)
    assert len(np.unique(np.asarray(found), axis=0)) == 128
    np.testing.assert_array_equal(spread(NOISE[5:7], 8), found[20:28])
    assert spread(NOISE, 32) is NOISE and spread(None, 4) is None
