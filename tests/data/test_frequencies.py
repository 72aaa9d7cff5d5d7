"""The floor of a model without context, against the whole table of Bayes' rule and against a draw."""

import numpy as np
import pytest

from research.data.frequencies import contextless, find_nats, find_shares
from research.data.masking import Masking
from research.data.preparation import entropy

ZIPF = 1 / np.arange(1, 61)
ZIPF /= ZIPF.sum()


def by_table(masking: Masking, p: np.ndarray) -> float:
    """The same floor from the joint probability of each piece shown and each piece behind it."""
    joint = (1 - masking.mask - masking.random) * np.diag(p) + masking.random / len(p) * p[None]
    posterior = joint / np.maximum(joint.sum(1, keepdims=True), 1e-300)
    hidden = -(joint * np.log(np.where(joint > 0, posterior, 1.0))).sum()
    return float(masking.mask * -(p * np.log(p)).sum() + hidden)


@pytest.mark.parametrize(('mask', 'random'), [(0.8, 0.1), (1.0, 0.0), (0.5, 0.0), (0.0, 0.0), (0.2, 0.8), (0.0, 1.0), (0.0, 0.1)])
def test_the_floor_without_context_is_that_of_bayes(mask: float, random: float) -> None:
    masking = Masking(mask=mask, random=random)
    assert contextless(masking, ZIPF) == pytest.approx(by_table(masking, ZIPF), abs=1e-12)


def test_the_floor_without_context_at_its_ends() -> None:
    known = entropy(np.round(ZIPF * 1e9).astype(np.int64))
    assert contextless(Masking(mask=1.0, random=0.0), ZIPF) == pytest.approx(known, abs=1e-6)  # nothing is seen
    assert contextless(Masking(mask=0.0, random=1.0), ZIPF) == pytest.approx(known, abs=1e-6)  # what is seen says nothing
    assert contextless(Masking(mask=0.0, random=0.0), ZIPF) == 0.0  # all is seen


def test_the_floor_without_context_is_what_the_posterior_scores_on_a_draw() -> None:
    generator, n, size = np.random.default_rng(0), 200_000, len(ZIPF)
    labels, how = generator.choice(size, n, p=ZIPF), generator.random(n)
    shown = np.where(how < 0.9, generator.integers(0, size, n), labels)  # 0.8 to 0.9: at random
    right = ZIPF * (0.1 + 0.1 / size) / (0.1 * ZIPF + 0.1 / size)
    other = ZIPF[labels] * (0.1 / size) / (0.1 * ZIPF + 0.1 / size)[shown]
    losses = np.where(how < 0.8, -np.log(ZIPF[labels]), -np.log(np.where(shown == labels, right[shown], other)))
    assert contextless(Masking(), ZIPF) == pytest.approx(losses.mean(), abs=0.01)
    # Fixed odds of 1:1 for every piece, as this code once had it, are no floor: they cost 0.2 · log 2 and a guess at the others.
    assert contextless(Masking(), ZIPF) < 0.9 * entropy(np.round(ZIPF * 1e9).astype(np.int64)) + 0.2 * np.log(2)


def test_a_piece_that_never_occurs_counts_as_one_that_occurs_once() -> None:
    shares = find_shares(np.array([7, 0, 3, 0]), np.array([True, False, False, False]))
    np.testing.assert_allclose(shares, [0, 1 / 5, 3 / 5, 1 / 5])
    np.testing.assert_allclose(find_nats(shares), [0, np.log(5), np.log(5 / 3), np.log(5)])
