"""Laws of how sequences are cut, packed, mixed and staged."""

from dataclasses import replace

import numpy as np
import pytest

from research.data.corpus import Part
from research.data.masked import Batches, Split
from research.data.masking import Masking
from research.data.masking import at as masked
from research.data.pretraining import truncate
from research.data.sequences import sequences
from research.data.settings import Causal, shapes, stages
from research.data.steps import boundary, first_steps, number_of_steps
from research.errors import UserError
from tests.data.conftest import original


def runs_of(source, pack):
    """What lies between the special pieces of an epoch, sorted."""
    found = []
    for step in range(source.examples):
        batch = source.train[step]
        for row, mask in zip(original(batch), batch['mask'], strict=True):
            text = row[mask == 1].tolist()
            cuts = [place for place, id in enumerate(text) if id in (2, 3)]
            found += [tuple(text[a + 1 : b]) for a, b in zip(cuts, cuts[1:], strict=False) if b > a + 1]
            assert not pack or text.count(2) == text.count(3)
    return sorted(found)


@pytest.mark.parametrize('fill', ['pieces', 'sentences'])
def test_packing_keeps_every_run_and_fills_sequences(story_data, fill, feed):
    data = replace(story_data, fill=fill)
    one, packed = feed(data, batch=1), feed(replace(data, pack=True), batch=1)
    assert runs_of(one, False) == runs_of(packed, True)
    assert packed.examples < one.examples


def test_packed_runs_have_segments_and_positions_of_their_own(story_data, feed):
    source = feed(replace(story_data, pack=True, fill='sentences'))
    batch = next(batch for step in range(20) if (batch := source.train[step])['segments'].max() > 1)
    np.testing.assert_array_equal(batch['segments'] > 0, batch['mask'] == 1)
    begins = (batch['positions'] == 0) & (batch['mask'] == 1)
    np.testing.assert_array_equal(begins, original(batch) == 2)
    np.testing.assert_array_equal(np.cumsum(begins, axis=1) * batch['mask'], batch['segments'])


def test_sequences_across_documents_separate_them_and_hold_every_piece(story_data, feed):
    source = feed(replace(story_data, fill='documents'), batch=1)
    rows = [original(source.train[step])[0] for step in range(source.examples)]
    assert max((row == 3).sum() for row in rows) > 1
    assert sum(int(((row == 1) | (row > 4)).sum()) for row in rows) == source.facts.tokens
    assert source.examples < feed(replace(story_data, fill='sentences')).examples


def fill_as_published(sentences: list[int], target: int) -> list[int]:
    """The sizes of the chunks of create_instances_from_document (Devlin et al.; Lan et al.), where none is put back."""
    chunks, chunk = [], []
    for number, sentence in enumerate(sentences):
        chunk.append(sentence)
        if number == len(sentences) - 1 or sum(chunk) >= target:
            chunks.append(sum(chunk))
            chunk = []
    return chunks


@pytest.mark.parametrize('short', [0.0, 0.5])
def test_chunks_are_those_of_the_published_code_and_a_document_has_one_target(short):
    draw = np.random.default_rng(0)
    documents = [draw.integers(2, 30, draw.integers(1, 40)) for _ in range(200)]
    lengths = np.concatenate(documents).astype(np.int32)
    starts = np.cumsum([0, *map(len, documents)])
    part = Part(np.zeros(lengths.sum(), np.int32), lengths, starts, np.arange(len(documents)))
    made = sequences(part, length=40, pairs='sop', short=short, fill='pieces', pack=False, seed=3)
    sizes, home = made.edges[made.last] - made.edges[made.first], made.documents(np.arange(len(made)))
    full = 0
    for number, sentences in enumerate(documents):
        fits = [
            target for target in range(2, 38) if fill_as_published(sentences.tolist(), target) == sizes[home == number].tolist()
        ]
        assert fits, 'one target for the whole document'
        full += 37 in fits
    assert full == 200 if not short else 90 < full < 140  # documents of a sentence fit every target
    assert (sizes > 37).mean() > 0.3  # which are truncated


def test_the_longer_segment_is_truncated_at_random_ends():
    draw = np.random.default_rng(0)
    sizes = draw.integers(1, 40, (2, 500))
    begin = draw.integers(0, 1000, (2, 500))
    (a, b), (c, d) = truncate((begin[0], begin[0] + sizes[0]), (begin[1], begin[1] + sizes[1]), 30, np.random.default_rng(1))
    for row, (one, two) in enumerate(sizes.T.tolist()):
        while one + two > 30:
            one, two = (one - 1, two) if one > two else (one, two - 1)
        assert (b[row] - a[row], d[row] - c[row]) == (one, two)
    assert (a >= begin[0]).all() and (b <= begin[0] + sizes[0]).all()
    lost = sizes[0] - (b - a)
    assert ((a - begin[0])[lost > 0] / lost[lost > 0]).mean() == pytest.approx(0.5, abs=0.05)
    assert ((a - begin[0]) > 0).any() and ((a - begin[0]) < lost).any()


def test_two_stages(story_data, feed):
    data = replace(story_data, first_length=16, first_share=0.75)
    source = feed(data, steps=8)
    assert [source.train[step]['ids'].shape[1] for step in range(8)] == [16] * 6 + [32] * 2
    assert source.evaluation['dev'][0]['ids'].shape[1] == 32
    assert [stage.length for stage in stages(data)] == [16, 32]
    other = feed(data, steps=8)
    for first in (0, 4, 7):
        for step, batch in zip(range(first, 8), source.stream(first), strict=False):
            again = other.train[step]
            assert all(np.array_equal(batch[name], again[name]) for name in again)
    assert boundary(data, number_of_steps(0, 2.0, 100, 8)) == 19


def test_causal_batches_are_spread_evenly_and_predict_the_next_ordinary_piece(story_data, feed):
    data = replace(story_data, causal=Causal(0.25, until=0.5))
    source = feed(data, steps=32)
    batches = [source.train[step] for step in range(32)]
    assert [step for step, batch in enumerate(batches) if 'causal' in batch] == [3, 7, 11, 15]
    batch = batches[3]
    assert batch['causal'].tolist() == [1] * 8
    for row in range(8):
        ids = batch['ids'][row]
        predicted = batch['masked_weights'][row] > 0
        np.testing.assert_array_equal(batch['masked_positions'][row], np.arange(31))
        np.testing.assert_array_equal(batch['masked_labels'][row], ids[1:])
        np.testing.assert_array_equal(predicted, ids[1:] > 4)
    assert not (batch['ids'] == source.pieces.mask).any()
    assert 'causal' not in source.evaluation['dev'][0]
    assert first_steps(data, 32) == {0, 3}
    assert first_steps(data, 32, first=4) == {4, 7} and first_steps(data, 32, first=20) == {20}
    both = replace(data, causal=Causal(1.0, until=0.25), first_length=16, first_share=0.5)
    assert first_steps(both, 32) == {0, 8, 16} and first_steps(both, 32, first=9) == {9, 16}
    assert first_steps(replace(both, causal=Causal(1.0, until=0.75)), 32) == {0, 16, 24}
    assert sum(shape.share for shape in shapes(data)) == pytest.approx(1)
    assert [(shape.predictions, shape.share) for shape in shapes(data)] == [(5, pytest.approx(0.875)), (31, pytest.approx(0.125))]


def test_the_rate_and_the_shares_follow_their_schedule(story_data, feed):
    masking = Masking(rate=0.4, rate_end=0.1, mask=1.0, mask_end=0.0, random=0.0)
    source = feed(replace(story_data, masking=masking), steps=9, batch=64)
    rates, shares = [], []
    for step in (0, 4, 8):
        batch = source.train[step]
        predicted = batch['masked_weights'] > 0
        shown = np.take_along_axis(batch['ids'], batch['masked_positions'], axis=1)[predicted]
        rates.append(predicted.sum() / (original(batch) > 4).sum())
        shares.append((shown == source.pieces.mask).mean())
        assert predicted.shape[1] == 13
    assert rates == [pytest.approx(rate, abs=0.03) for rate in (0.4, 0.25, 0.1)]
    assert shares == [pytest.approx(share, abs=0.05) for share in (1.0, 0.5, 0.0)]
    assert masked(masking, 0.0) == Masking(rate=0.4, mask=1.0, random=0.0) and masked(Masking(), 0.5) == Masking()


def test_a_mixture_draws_by_weight_and_sees_each_example_once_an_epoch():
    def make(name):
        return lambda rows, generator, mine, **how: {
            'row': rows[mine].astype(np.int32),
            'source': np.full(len(mine), name, np.int32),
        }

    split = Split(((30, 0.75, make(0)), (50, 0.25, make(1))), Masking())
    order = split.order(3)
    batch = split.make(np.array([order[index] for index in range(400)]), np.random.default_rng(0))
    assert (batch['source'] == 0).sum() == 300
    for name, size in ((0, 30), (1, 50)):
        rows = batch['row'][batch['source'] == name]
        assert all(sorted(rows[at : at + size]) == list(range(size)) for at in range(0, len(rows) - size + 1, size))


def test_the_first_batches_of_an_evaluation_hold_every_source_and_all_batches_every_row(story_data, feed):
    def make(name):
        return lambda rows, generator, mine, **how: {
            'ids': np.stack([rows[mine], np.full(len(mine), name)], axis=1),
            'mask': np.ones((len(mine), 2)),
        }

    split = Batches(Split(((1000, 0.5, make(0)), (500, 0.5, make(1))), Masking()), 16, feed(story_data).pieces, np.arange(16))
    first = np.concatenate([split[index]['ids'] for index in range(8)])
    assert 0.2 < first[:, 1].mean() < 0.5
    assert first[first[:, 1] == 0, 0].max() > 800
    rows = [tuple(row) for batch in split for row in batch['ids'][batch['mask'][:, 1] > 0].tolist()]
    assert sorted(rows) == [(row, name) for row in range(1000) for name in range(2) if name == 0 or row < 500]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'pack': True, 'pairs': 'sop'}, 'data.pack is for single segments'),
        ({'fill': 'documents', 'pairs': 'nsp'}, 'data.fill=documents is for single segments'),
        ({'pack': True, 'fill': 'documents'}, 'data.pack=true keeps documents apart'),
        ({'first_length': 32}, 'data.first_length=32 must be 8 or more'),
        ({'first_share': 1.0}, 'data.first_share=1.0 must be a share'),
        ({'fill': 'sentence'}, "did you mean 'sentences'"),
    ],
)
def test_settings_that_cannot_be(story_data, changes, message, feed):
    with pytest.raises(UserError, match=message):
        feed(replace(story_data, **changes))
