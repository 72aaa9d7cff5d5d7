"""Laws of every masking policy, and of what is put in the place of what is hidden."""

from dataclasses import replace

import numpy as np
import pytest

from research.data.corruption import corrupt
from research.data.masking import (
    MASKING,
    Masking,
    Text,
    count_predictions,
    describe_cap,
    predictions,
    resolve_schedule,
    smooth,
    validate,
)
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


def choose(policy: str, ids: np.ndarray, candidates: np.ndarray, count: np.ndarray, seed: int, **knobs: object) -> np.ndarray:
    """What a policy chooses when all pieces are as frequent."""
    text = Text(START[ids], candidates, count, np.ones((1, 1)))
    return MASKING[policy].choose(replace(Masking(policy), **knobs), text, np.random.default_rng(seed))


@pytest.mark.parametrize('policy', MASKING)
def test_policy_chooses_candidates_at_its_rate(policy):
    ids = sequences()
    candidates = ids >= 5
    count = np.maximum(1, np.round(0.15 * candidates.sum(1))).astype(np.int64)
    chosen = choose(policy, ids, candidates, count, 1)
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


@pytest.mark.parametrize('policy', ['token', 'whole_word', 'frequency'])  # the latter as all pieces are as frequent here
def test_every_candidate_is_as_likely(policy):
    ids = np.tile(np.arange(10, 74, dtype=np.int32), (4000, 1))  # words of two pieces
    count = np.full(len(ids), 10)
    chosen = choose(policy, ids, ids > 0, count, 3)
    np.testing.assert_allclose(chosen.mean(0), 10 / 64, atol=0.03)


@pytest.mark.parametrize('policy', ['whole_word', 'ngram'])
def test_no_word_is_split(policy):
    ids = sequences()
    candidates = ids >= 5
    count = np.maximum(1, np.round(0.3 * candidates.sum(1))).astype(np.int64)
    chosen = choose(policy, ids, candidates, count, 1)
    word = np.cumsum(START[ids], axis=1)
    for row in range(len(ids)):
        touched = set(word[row, chosen[row]])
        whole = [position for position in range(ids.shape[1]) if word[row, position] in touched and candidates[row, position]]
        assert chosen[row].sum() == len(whole) or len(touched) == 1  # a single word may be cut to the count


@pytest.mark.parametrize('policy', ['whole_word', 'ngram'])
def test_a_word_longer_than_its_count_is_cut(policy):
    ids = np.full((1, 9), 11, np.int32)  # one word, of which no piece begins it
    chosen = choose(policy, ids, ids > 0, np.array([2]), 0)
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
        (Masking('tokne'), "no data.masking.policy named 'tokne'; did you mean 'token'"),
        (Masking(rate=0.0), 'data.masking.rate=0.0 must lie between 0 and 1'),
        (Masking(rate=1.0), 'data.masking.rate=1.0'),
        (Masking(mask=0.9, random=0.2), 'must be shares'),
        (Masking(ngram=0), 'data.masking.ngram=0 must be'),
        (Masking(smoothing=-1.0), 'must be 0 or more'),
        (Masking(predictions=-1), 'must not be negative'),
    ],
)
def test_settings_out_of_range(masking, message):
    with pytest.raises(UserError, match=message):
        validate(masking)


@pytest.mark.parametrize('policy', MASKING)
def test_shares_and_rate_of_every_policy(policy):
    ids = sequences(1000)
    weights = smooth(np.bincount(ids.ravel(), minlength=V), 0.7)
    shown, positions, labels, presence = corrupt(Masking(policy), VOCABULARY, ids, np.random.default_rng(8), weights)
    assert presence.sum() / (ids >= 5).sum() == pytest.approx(0.15, abs=0.005)
    rows, slots = np.nonzero(presence)
    assert (labels[rows, slots] >= 5).all()
    after = shown[rows, positions[rows, slots]]
    assert (after == 4).mean() == pytest.approx(0.8, abs=0.015)
    assert (after == labels[rows, slots]).mean() == pytest.approx(0.1 + 0.1 / 95, abs=0.015)


def test_single_pieces_are_as_many_as_the_rate_asks_for():
    ids = sequences()
    count = np.maximum(1, np.round(0.15 * (ids >= 5).sum(1))).astype(np.int64)
    for policy in ('token', 'frequency'):
        np.testing.assert_array_equal(choose(policy, ids, ids >= 5, count, 1).sum(1), count)


@pytest.mark.parametrize('most', [1, 2, 3, 5])
def test_lengths_of_ngrams_are_drawn_in_proportion_to_their_inverse(most):
    ids = np.full((300, 2000), 10, np.int32)  # each piece a word
    chosen = choose('ngram', ids, ids > 0, np.full(300, 20), 4, ngram=most)  # so few that hardly any two touch
    edges = np.diff(np.pad(chosen, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    lengths = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    expected = 1 / np.arange(1, most + 1)
    found = np.bincount(lengths, minlength=most + 1)[1 : most + 1] / len(lengths)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.03)


def test_an_ngram_crosses_no_special_piece():
    ids = np.full((200, 64), 10, np.int32)
    ids[:, ::2] = 3  # words stand alone between separators
    count = np.full(200, 8)
    chosen = choose('ngram', ids, ids == 10, count, 4)
    np.testing.assert_array_equal(chosen.sum(1), count)
    assert not chosen[:, ::2].any()


def test_frequency_chooses_rare_pieces_by_the_power_of_their_counts():
    counts = np.zeros(V, np.int64)
    counts[[10, 12, 14]] = 1000, 100, 0  # none counts as one
    weights = smooth(counts, 0.7)
    np.testing.assert_allclose(weights[[10, 12, 14]], [1000**-0.7, 100**-0.7, 1.0])
    ids = np.tile(np.array([2, 10, 12, 14, 3], np.int32), (20_000, 1))
    _, _, labels, presence = corrupt(Masking('frequency', rate=0.3), VOCABULARY, ids, np.random.default_rng(3), weights)
    assert (presence.sum(1) == 1).all()
    found = np.array([(labels[:, 0] == piece).mean() for piece in (10, 12, 14)])
    np.testing.assert_allclose(found, weights[[10, 12, 14]] / weights[[10, 12, 14]].sum(), atol=0.005)


def test_room_for_predictions():
    assert predictions(Masking(), 128) == 20
    assert predictions(Masking(predictions=19), 128) == 19
    assert predictions(Masking(predictions=40), 128) == 20


@pytest.mark.parametrize('policy', MASKING)
def test_a_cap_lowers_the_rate_of_full_sequences_alone_and_says_so(policy):
    """The released ALBERT: min(20, max(1, round(0.15 · pieces))) of 512 pieces (google-research/albert, its flags)."""
    ids, capped = sequences()[:, :60], Masking(policy, predictions=5)
    _, positions, _, presence = corrupt(capped, VOCABULARY, ids, np.random.default_rng(5))
    wanted = np.maximum(1, np.round(0.15 * (ids >= 5).sum(1)))
    assert positions.shape == (64, 5) and wanted.max() > 5 > wanted.min()
    if policy in ('token', 'frequency'):  # words that do not fit what is left are passed over
        np.testing.assert_array_equal(presence.sum(1), np.minimum(wanted, 5))
    assert (presence.sum(1) >= 1).all() and describe_cap(capped, 32) == ''
    released = Masking('ngram', predictions=20)
    assert count_predictions(released, np.array([0, 3, 120, 510])).tolist() == [0, 1, 18, 20] and predictions(released, 512) == 20
    assert describe_cap(released, 512) == (
        'data.masking.predictions=20 caps data.masking.rate=0.15: of a full sequence of 512 pieces 20 are predicted (3.9%), not 76'
    )
    assert describe_cap(Masking('ngram'), 512) == ''


def test_the_end_of_a_schedule_is_the_value_given() -> None:
    masking = Masking(mask=0.0, mask_end=0.1, random=0.3, random_end=0.9)  # 0.3 + (0.9 - 0.3) is more than 0.9
    assert resolve_schedule(masking, 1.0) == Masking(mask=0.1, random=0.9)
    assert resolve_schedule(masking, 0.0) == Masking(mask=0.0, random=0.3)
    validate(masking)
