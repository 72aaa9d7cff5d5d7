"""A corpus is prepared once, whole, and split by document."""

from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer

from research.data import corpus, cutting, sources
from research.data.corpus import Corpus, entropy, tokenizer_of
from research.data.cutting import digest
from research.data.settings import Data
from research.data.tokenizers import vocabulary_of
from research.errors import UserError


def prepare(data: Data, tokenizer: Tokenizer) -> Corpus:
    """The corpus of settings that name one source."""
    (prepared,) = corpus.prepare(data, tokenizer)
    return prepared


def share(document: list[str]) -> float:
    return float(cutting.share(np.uint64(digest(document))))


def test_every_piece_is_stored_in_its_part(story_data):
    tokenizer = tokenizer_of(story_data, 200)
    prepared = prepare(story_data, tokenizer)
    stories = list(sources.documents(story_data.source))
    for part, inside in ((prepared.train, False), (prepared.held_out, True)):
        chosen = [document for document in stories if (share(document) < 0.2) == inside]
        records = part.read(np.arange(len(chosen)))
        assert len(part.document) == len(chosen)
        for document, record, first, last in zip(chosen, records, part.starts[:-1], part.starts[1:], strict=True):
            cut = [tokenizer.encode(sentence, add_special_tokens=False).ids for sentence in document]
            assert record.tolist() == sum(cut, [])
            assert part.lengths[first:last].tolist() == [len(ids) for ids in cut]
    assert prepared.facts['documents'] + prepared.facts['held_out_documents'] == 40
    assert prepared.facts['tokens'] == prepared.counts.sum() == prepared.train.lengths.sum()
    assert prepared.facts['unigram_entropy'] == pytest.approx(entropy(prepared.counts[5:]))


def test_long_documents_are_stored_in_sections(story_data, tmp_path, monkeypatch):
    monkeypatch.setattr(cutting, 'SECTION', 7)
    data = replace(story_data, cache=str(tmp_path))
    prepared = prepare(data, tokenizer_of(story_data, 200))
    part = prepared.train
    sizes = np.add.reduceat(part.lengths, part.starts[:-1])
    assert sizes.max() == 7
    assert [len(record) for record in part.read(np.arange(len(sizes)))] == sizes.tolist()
    assert len(set(part.document.tolist())) == prepared.facts['documents']
    assert prepared.facts['tokens'] == prepare(story_data, tokenizer_of(story_data, 200)).facts['tokens']


def test_reopening_reads_no_text(story_data, monkeypatch):
    facts = prepare(story_data, tokenizer_of(story_data, 200)).facts

    def refuse(*arguments):
        raise AssertionError('the source was read again')

    monkeypatch.setattr(sources, 'read', refuse)
    assert prepare(story_data, tokenizer_of(story_data, 200)).facts == facts


def test_changed_text_is_prepared_again(story_data, stories, tmp_path):
    path = tmp_path / 'stories.txt'
    path.write_text(stories.read_text('utf-8'), encoding='utf-8')
    data = replace(story_data, source=f'text:{path}')
    tokenizer = tokenizer_of(story_data, 200)
    assert prepare(data, tokenizer).facts['fingerprint'] == prepare(story_data, tokenizer).facts['fingerprint']
    path.write_text(stories.read_text('utf-8') + '\n\nOne more document.\n', encoding='utf-8')
    changed = prepare(data, tokenizer).facts
    assert changed['documents'] + changed['held_out_documents'] == 41
    assert changed['fingerprint'] != prepare(story_data, tokenizer).facts['fingerprint']


def test_the_split_is_by_the_text_of_a_document(story_data, tmp_path):
    """A document keeps its side when others come and go."""
    stories = list(sources.documents(story_data.source))
    (tmp_path / 'a.txt').write_text('\n\n'.join('\n'.join(document) for document in stories[::2]), encoding='utf-8')
    tokenizer = tokenizer_of(story_data, 200)
    whole, half = (prepare(replace(story_data, source=source), tokenizer) for source in (story_data.source, f'text:{tmp_path}/*'))
    read = {
        name: {record.tobytes() for record in part.read(np.arange(len(part.document)))}
        for name, part in (('whole train', whole.train), ('half train', half.train), ('half held out', half.held_out))
    }
    assert read['half train'] <= read['whole train']
    assert not read['half held out'] & read['whole train']


def test_the_tokenizer_does_not_see_held_out_text(stories, cache, story_data, monkeypatch):
    seen = []
    real = corpus.train_tokenizer
    monkeypatch.setattr(corpus, 'train_tokenizer', lambda kind, texts, *rest: real(kind, seen.extend(texts) or seen, *rest))
    tokenizer_of(replace(story_data, held_out=0.3), 200)
    expected = [text for document in sources.documents(story_data.source) if share(document) >= 0.3 for text in document]
    assert seen == expected


def test_no_evaluation(story_data):
    prepared = prepare(replace(story_data, held_out=0.0), tokenizer_of(story_data, 200))
    assert prepared.facts['documents'] == 40
    assert len(prepared.held_out.document) == 0


def test_shares_that_leave_a_part_empty(story_data):
    tokenizer = tokenizer_of(story_data, 200)
    with pytest.raises(UserError, match=r'holds out none of the 40 documents of .* \(by their hashes, 0.0\d+ would') as caught:
        prepare(replace(story_data, held_out=1e-9), tokenizer)
    needed = float(str(caught.value).split('hashes, ')[1].split()[0])
    assert prepare(replace(story_data, held_out=needed), tokenizer).facts['held_out_documents'] >= 1
    with pytest.raises(UserError, match='leaves none of the 40 documents of .* to train on'):
        prepare(replace(story_data, held_out=1 - 1e-9), tokenizer)


def test_text_without_pieces(tmp_path, story_data):
    (tmp_path / 'a.txt').write_text('\u200b\n\n\u200b\n', encoding='utf-8')
    with pytest.raises(UserError, match='holds no text'):
        prepare(replace(story_data, source=f'text:{tmp_path}/a.txt'), tokenizer_of(story_data, 200))


def test_entropy():
    assert entropy(np.array([3, 3, 0, 3, 3])) == pytest.approx(np.log(4))


def test_unknown_pieces_are_counted(story_data, tmp_path):
    (tmp_path / 'a.txt').write_text('the ☃ map\n\nthe map of it\n', encoding='utf-8')
    tokenizer = tokenizer_of(story_data, 200)
    prepared = prepare(replace(story_data, source=f'text:{tmp_path}/a.txt', held_out=0.0), tokenizer)
    assert prepared.counts[vocabulary_of(tokenizer).unknown] == 1
    assert prepared.facts['unknown_rate'] == pytest.approx(1 / prepared.facts['tokens'])
