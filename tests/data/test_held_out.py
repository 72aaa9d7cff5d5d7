"""What evaluation batches hold beside training's: kinds, frequencies and documents, against the text itself."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from research.data import sources
from research.data.cutting import share
from research.data.feed import Feed
from research.data.held_out import KINDS, describe_rows
from research.data.masking import MASKING, Masking
from research.data.pretraining import PAIRS
from research.data.settings import Data
from research.errors import UserError
from tests.data.conftest import original

ADDED = {'masked_kinds', 'masked_frequencies', 'document'}


def read_documents(data: Data, source: Feed) -> tuple[list[list[int]], np.ndarray]:
    """(the pieces of each held-out document, the counts of all pieces in training)."""
    held_out, counts = [], np.zeros(source.pieces.size, np.int64)
    for document in sources.documents(data.source):
        ids = [id for text in document for id in source.tokenizer.encode(text, add_special_tokens=False).ids]
        if share(document) < data.held_out:
            held_out.append(ids)
        else:
            counts += np.bincount(ids, minlength=source.pieces.size)
    return held_out, counts


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'fill': 'sentences', 'pack': True, 'length': 64},
        {'fill': 'documents', 'length': 64},
        *({'pairs': pairs} for pairs in PAIRS[1:]),
    ],
)
def test_rows_name_the_document_of_their_first_pieces(story_data: Data, feed: Callable[..., Feed], changes: dict) -> None:
    data = replace(story_data, **changes)
    source = feed(data)
    documents, _ = read_documents(data, source)
    seen = set()
    for batch in source.evaluation['dev']:
        assert set(batch) >= ADDED and not ADDED & set(source.train[0])
        for ids, mask, weight, number in zip(original(batch), batch['mask'], batch['weight'], batch['document'], strict=True):
            if weight:
                ids = ids[mask == 1][1:]
                first = ids[: np.flatnonzero(ids == source.pieces.sep)[0]].tolist()
                home = documents[number]
                assert any(home[at : at + len(first)] == first for at in range(len(home)))
                seen.add(int(number))
    assert len(seen) > len(documents) / 2


def test_the_frequencies_are_those_of_training(story_data: Data, feed: Callable[..., Feed]) -> None:
    source = feed(story_data)
    counts = np.maximum(read_documents(story_data, source)[1], 1)
    counts[source.pieces.special] = 0
    batch = source.evaluation['dev'][0]
    there = batch['masked_weights'] > 0
    expected = -np.log(counts / counts.sum(), where=counts > 0, out=np.zeros(len(counts)))
    np.testing.assert_allclose(batch['masked_frequencies'][there], expected[batch['masked_labels'][there]], rtol=1e-6)
    assert np.isfinite(batch['masked_frequencies']).all()


def test_a_random_piece_that_is_the_right_one_counts_as_kept() -> None:
    batch = {
        'ids': np.array([[2, 4, 9, 8, 7, 3]], np.int32),
        'masked_positions': np.array([[1, 2, 3, 0]], np.int32),
        'masked_labels': np.array([[9, 9, 9, 0]], np.int32),
    }
    found = describe_rows(batch, 4, np.arange(10.0), np.array([5]))
    assert [KINDS[kind] for kind in found['masked_kinds'][0, :3]] == ['masked', 'kept', 'random']
    assert found['masked_frequencies'].tolist() == [[9, 9, 9, 0]] and found['document'].tolist() == [5]


def test_sources_of_a_mixture_number_their_documents_one_after_the_other(story_data: Data, feed: Callable[..., Feed]) -> None:
    data = replace(story_data, source=f'0.7 {story_data.source} + 0.3 {story_data.source}')
    source = feed(data)
    numbers = {int(number) for batch in source.evaluation['dev'] for number in batch['document'][batch['weight'] > 0]}
    assert numbers == set(range(source.facts.held_out_documents))


def test_held_out_rows_are_masked_alike_for_all_runs_or_as_in_training(story_data: Data, feed: Callable[..., Feed]) -> None:
    hard = replace(story_data, masking=Masking('whole_word', rate=0.4, mask=1.0, random=0.0))
    usual, alike = feed(story_data).evaluation['dev'][0], feed(hard).evaluation['dev'][0]
    assert all(np.array_equal(usual[name], alike[name]) for name in usual)
    own = feed(replace(hard, held_out_masks='training')).evaluation['dev'][0]
    assert own['masked_weights'].sum() > 2 * usual['masked_weights'].sum()
    assert not own['masked_kinds'][own['masked_weights'] > 0].any()


@pytest.mark.parametrize('policy', MASKING)
def test_the_floor_is_known_unless_rare_pieces_are_favoured(story_data: Data, feed: Callable[..., Feed], policy: str) -> None:
    data = replace(story_data, masking=Masking(policy))
    facts = feed(data).facts
    assert facts.contextless is not None and 0.8 * facts.unigram_entropy < facts.contextless < facts.unigram_entropy
    own = feed(replace(data, held_out_masks='training')).facts.contextless
    assert own == (None if MASKING[policy].weighs_pieces else facts.contextless)


def test_masks_that_there_are_not_are_refused(story_data: Data, feed: Callable[..., Feed]) -> None:
    with pytest.raises(UserError, match="no data.held_out_masks named 'berts'; did you mean 'bert'"):
        feed(replace(story_data, held_out_masks='berts'))
