"""Laws of every masking policy, and of what is put in the place of what is hidden."""

import numpy as np
import pytest

from research.data.masking import MASKING, Masking, check, corrupt, predictions
from research.data.tokenizers import Vocabulary
from research.errors import UserError

V = 100  # 0 pad, 1 unknown, 2 cls, 3 sep, 4 mask; even ids begin a word
START = (np.arange(V) % 2 == 0) | (np.arange(V) < 5)
VOCABULARY = Vocabulary(V, 0, 1, 2, 3, 4, START, np.arange(V) < 5, 'made up')


def sequences(rows: int = 64, length: int = 128) -> np.ndarray:
    """Ids [B, T] as batches hold them, of different lengths, with some unknown pieces."""
    generator = np.random.default_rng(0)
    ids = generator.integers(5, V, (rows, length)).astype(np.int32)
    ids[generator.random(ids.shape) < 0.02] = 1
    sizes = generator.integers(3, length + 1, rows)
    ids[np.arange(length) >= sizes[:, None]] = 0
    ids[:, 0] = 2
    ids[np.arange(rows), sizes - 1] = 3
    return ids


@pytest.mark.parametrize('policy', MASKING)
def test_policy_chooses_candidates_at_its_rate(policy):
    ids = sequences()
    candidates = ids >= 5
    count = np.maximum(1, np.round(0.15 * candidates.sum(1))).astype(np.int64)
    chosen = MASKING[policy](ids, START[ids], candidates, count, np.random.default_rng(1))
    assert chosen.dtype == bool
    assert not (chosen & ~candidates).any()
    assert (chosen.sum(1) <= count).all()
    assert (chosen.sum(1) >= 1).all()
    assert chosen.sum() > 0.95 * count.sum()


@pytest.mark.parametrize('policy', MASKING)
def test_policy_is_pure_and_its_draws_differ(policy):
    ids = sequences()
    before = ids.copy()
    masks = [corrupt(Masking(policy), VOCABULARY, ids, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(ids, before)
    for one, other in zip(masks[0], masks[1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert (masks[0][1] != masks[2][1]).any()


@pytest.mark.parametrize('policy', MASKING)
def test_every_candidate_is_as_likely(policy):
    ids = np.tile(np.arange(10, 74, dtype=np.int32), (4000, 1))  # words of two pieces
    count = np.full(len(ids), 10)
    chosen = MASKING[policy](ids, START[ids], ids > 0, count, np.random.default_rng(3))
    np.testing.assert_allclose(chosen.mean(0), 10 / 64, atol=0.03)


def test_whole_word_takes_words_whole():
    ids = sequences()
    candidates = ids >= 5
    count = np.maximum(1, np.round(0.3 * candidates.sum(1))).astype(np.int64)
    chosen = MASKING['whole_word'](ids, START[ids], candidates, count, np.random.default_rng(1))
    word = np.cumsum(START[ids], axis=1)
    for row in range(len(ids)):
        touched = set(word[row, chosen[row]])
        whole = [position for position in range(ids.shape[1]) if word[row, position] in touched and candidates[row, position]]
        assert chosen[row].sum() == len(whole) or len(touched) == 1  # a single word may be cut to the count


def test_whole_word_cuts_a_word_longer_than_its_count():
    ids = np.full((1, 9), 11, np.int32)  # one word, of which no piece begins it
    chosen = MASKING['whole_word'](ids, START[ids], ids > 0, np.array([2]), np.random.default_rng(0))
    assert chosen.sum() == 2


def test_positions_labels_and_weights_restore_the_sequence():
    ids = sequences()
    masking = Masking()
    corrupted, positions, labels, weights = corrupt(masking, VOCABULARY, ids, np.random.default_rng(5))
    assert positions.shape == labels.shape == weights.shape == (64, 20) == (64, predictions(masking, 128))
    assert [array.dtype for array in (corrupted, positions, labels, weights)] == [np.int32, np.int32, np.int32, np.float32]
    restored = corrupted.copy()
    rows, slots = np.nonzero(weights)
    restored[rows, positions[rows, slots]] = labels[rows, slots]
    np.testing.assert_array_equal(restored, ids)
    np.testing.assert_array_equal(weights.sum(1), np.maximum(1, np.round(0.15 * (ids >= 5).sum(1))))
    for row in range(64):
        real = positions[row, weights[row] > 0]
        assert (np.diff(real) > 0).all()


def test_eighty_ten_ten():
    ids = sequences(2000)
    corrupted, positions, labels, weights = corrupt(Masking(rate=0.5), VOCABULARY, ids, np.random.default_rng(6))
    rows, slots = np.nonzero(weights)
    shown, hidden = corrupted[rows, positions[rows, slots]], labels[rows, slots]
    assert (shown == 4).mean() == pytest.approx(0.8, abs=0.01)
    assert (shown == hidden).mean() == pytest.approx(0.1, abs=0.01)
    drawn = shown[(shown != 4) & (shown != hidden)]
    assert drawn.min() >= 5
    assert set(drawn) == set(range(5, V))


def test_a_sequence_without_candidates_predicts_nothing():
    ids = np.array([[2, 1, 3, 0, 0, 0, 0, 0]], np.int32)
    corrupted, _, _, weights = corrupt(Masking(), VOCABULARY, ids, np.random.default_rng(0))
    np.testing.assert_array_equal(corrupted, ids)
    assert not weights.any()


@pytest.mark.parametrize(
    ('masking', 'message'),
    [
        (Masking('tokne'), "no masking policy named 'tokne'; did you mean 'token'"),
        (Masking(rate=0.0), 'data.masking.rate=0.0 must lie between 0 and 1'),
        (Masking(rate=1.0), 'data.masking.rate=1.0'),
        (Masking(mask=0.9, random=0.2), 'must be shares'),
    ],
)
def test_settings_out_of_range(masking, message):
    with pytest.raises(UserError, match=message):
        check(masking)
