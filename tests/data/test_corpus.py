"""A corpus is prepared once, whole, and split by document."""

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from research.data import blocks, corpus, cutting, preparation, sources, tokenizer_training
from research.data import feed as feeds
from research.data.cache import Unfinished
from research.data.corpus import Corpus, Part
from research.data.cutting import share
from research.data.preparation import entropy
from research.data.settings import Data
from research.data.tokenizer_training import tokenizer_of
from research.data.tokenizers import save_tokenizer, vocabulary_of
from research.errors import UserError
from research.machine import Machine


def prepare(data: Data, cache: str | Path, tokenizer: Tokenizer) -> Corpus:
    """The corpus of settings that name one source."""
    (prepared,) = preparation.prepare(data, str(cache), tokenizer)
    return prepared


def sections(part: Part) -> list[NDArray[Any]]:
    """The ids of each section of a part, which its shards hold too."""
    edges = np.cumsum(np.add.reduceat(part.lengths, part.starts[:-1]))
    return np.split(part.ids, edges[:-1])


def test_every_piece_is_stored_in_its_part(story_data, cache):
    tokenizer = tokenizer_of(story_data, cache, 200)
    prepared = prepare(story_data, cache, tokenizer)
    stories = list(sources.documents(story_data.source))
    for part, inside in ((prepared.train, False), (prepared.held_out, True)):
        chosen = [document for document in stories if (share(document) < 0.2) == inside]
        records = sections(part)
        assert len(part.document) == len(chosen)
        for document, record, first, last in zip(chosen, records, part.starts[:-1], part.starts[1:], strict=True):
            cut = [tokenizer.encode(sentence, add_special_tokens=False).ids for sentence in document]
            assert record.tolist() == sum(cut, [])
            assert part.lengths[first:last].tolist() == [len(ids) for ids in cut]
    assert prepared.facts.documents + prepared.facts.held_out_documents == 40
    assert prepared.facts.tokens == prepared.counts.sum() == prepared.train.lengths.sum()
    assert prepared.facts.unigram_entropy == pytest.approx(entropy(prepared.counts[5:]))


def test_long_documents_are_stored_in_sections(story_data, tmp_path, monkeypatch, cache):
    monkeypatch.setattr(cutting, 'SECTION', 7)
    prepared = prepare(story_data, tmp_path, tokenizer_of(story_data, cache, 200))
    part = prepared.train
    sizes = np.add.reduceat(part.lengths, part.starts[:-1])
    assert sizes.max() == 7
    assert [len(record) for record in sections(part)] == sizes.tolist()
    assert len(set(part.document.tolist())) == prepared.facts.documents
    assert prepared.facts.tokens == prepare(story_data, cache, tokenizer_of(story_data, cache, 200)).facts.tokens


def test_reopening_reads_no_text(story_data, monkeypatch, cache):
    facts = prepare(story_data, cache, tokenizer_of(story_data, cache, 200)).facts

    def refuse(*arguments):
        raise AssertionError('the source was read again')

    monkeypatch.setattr(sources, 'read', refuse)
    assert prepare(story_data, cache, tokenizer_of(story_data, cache, 200)).facts == facts


def test_changed_text_is_prepared_again(story_data, stories, tmp_path, cache):
    path = tmp_path / 'stories.txt'
    path.write_text(stories.read_text('utf-8'), encoding='utf-8')
    data = replace(story_data, source=f'text:{path}')
    tokenizer = tokenizer_of(story_data, cache, 200)
    assert prepare(data, cache, tokenizer).facts.fingerprint == prepare(story_data, cache, tokenizer).facts.fingerprint
    path.write_text(stories.read_text('utf-8') + '\n\nOne more document.\n', encoding='utf-8')
    changed = prepare(data, cache, tokenizer).facts
    assert changed.documents + changed.held_out_documents == 41
    assert changed.fingerprint != prepare(story_data, cache, tokenizer).facts.fingerprint


def test_the_split_is_by_the_text_of_a_document(story_data, tmp_path, cache):
    """A document keeps its side when others come and go."""
    stories = list(sources.documents(story_data.source))
    (tmp_path / 'a.txt').write_text('\n\n'.join('\n'.join(document) for document in stories[::2]), encoding='utf-8')
    tokenizer = tokenizer_of(story_data, cache, 200)
    whole, half = (
        prepare(replace(story_data, source=source), cache, tokenizer) for source in (story_data.source, f'text:{tmp_path}/*')
    )
    read = {
        name: {record.tobytes() for record in sections(part) if len(record) > 1}  # one piece may be of many, the unknown
        for name, part in (('whole train', whole.train), ('half train', half.train), ('half held out', half.held_out))
    }
    assert read['half train'] <= read['whole train']
    assert not read['half held out'] & read['whole train']


def test_the_tokenizer_does_not_see_held_out_text(stories, cache, story_data, monkeypatch):
    seen = []
    real = tokenizer_training.train_tokenizer

    def train(kind, texts, *rest):
        seen.extend(texts)
        return real(kind, seen, *rest)

    monkeypatch.setattr(tokenizer_training, 'train_tokenizer', train)
    tokenizer_of(replace(story_data, held_out=0.3), cache, 200)
    expected = [text for document in sources.documents(story_data.source) if share(document) >= 0.3 for text in document]
    assert seen == expected


def test_no_evaluation(story_data, cache):
    prepared = prepare(replace(story_data, held_out=0.0), cache, tokenizer_of(story_data, cache, 200))
    assert prepared.facts.documents == 40
    assert len(prepared.held_out.document) == 0


def test_shares_that_leave_a_part_empty(story_data, cache):
    tokenizer = tokenizer_of(story_data, cache, 200)
    with pytest.raises(UserError, match=r'holds out none of the 40 documents of .* \(by their hashes, 0.0\d+ would') as caught:
        prepare(replace(story_data, held_out=1e-9), cache, tokenizer)
    needed = float(str(caught.value).split('hashes, ')[1].split()[0])
    assert prepare(replace(story_data, held_out=needed), cache, tokenizer).facts.held_out_documents >= 1
    with pytest.raises(UserError, match='leaves none of the 40 documents of .* to train on'):
        prepare(replace(story_data, held_out=1 - 1e-9), cache, tokenizer)


def test_text_without_pieces(tmp_path, story_data, cache):
    (tmp_path / 'a.txt').write_text('\u200b\n\n\u200b\n', encoding='utf-8')
    with pytest.raises(UserError, match='holds no text'):
        prepare(replace(story_data, source=f'text:{tmp_path}/a.txt'), cache, tokenizer_of(story_data, cache, 200))


def test_entropy():
    assert entropy(np.array([3, 3, 0, 3, 3])) == pytest.approx(np.log(4))


def test_unknown_pieces_are_counted(story_data, tmp_path, cache):
    (tmp_path / 'a.txt').write_text('the ☃ map\n\nthe map of it\n', encoding='utf-8')
    tokenizer = tokenizer_of(story_data, cache, 200)
    prepared = prepare(replace(story_data, source=f'text:{tmp_path}/a.txt', held_out=0.0), cache, tokenizer)
    assert prepared.counts[vocabulary_of(tokenizer).unknown] == 1
    assert prepared.facts.unknown_rate == pytest.approx(1 / prepared.facts.tokens)


def everything(prepared: Corpus) -> tuple[list[bytes], list[int], list[int], list[int]]:
    """All that a part of a corpus tells of train."""
    part = prepared.train
    records = [record.tobytes() for record in sections(part)]
    return records, part.lengths.tolist(), part.starts.tolist(), part.document.tolist()


def in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, 'SHARD', 900)
    monkeypatch.setattr('research.data.workers.CHUNK', 800)


def test_shards_hold_what_one_would(story_data, tmp_path, monkeypatch, cache):
    tokenizer = tokenizer_of(story_data, cache, 200)
    one = prepare(story_data, tmp_path / 'one', tokenizer)
    in_small_blocks(monkeypatch)
    many = prepare(story_data, tmp_path / 'many', tokenizer)
    assert len(list(many.folder.glob('train-*.arrayrecord'))) > 5
    assert everything(many) == everything(one)
    assert many.facts.fingerprint == one.facts.fingerprint
    assert many.facts.lengths == one.facts.lengths
    np.testing.assert_array_equal(many.counts, one.counts)
    assert sum(many.facts.lengths['documents']) == 40
    assert sum(many.facts.lengths['sentences']) == len(one.train.lengths) + len(one.held_out.lengths)


KILLED = """
import json, os, signal, sys
from research.data import blocks, preparation, workers
from research.data.settings import Data
from research.data.tokenizers import load_tokenizer
blocks.SHARD, workers.CHUNK = 900, 800
real = blocks.write_block
def write_block(folder, number, *rest):
    for read in real(folder, number, *rest):
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        yield read
blocks.write_block = write_block
data = json.loads(sys.argv[1])
preparation.prepare(Data(**data), sys.argv[2], load_tokenizer(sys.argv[3]))
"""


def kill_halfway(data: Data, cache: Path, tokenizer: Tokenizer) -> None:
    """Prepare in a process that is killed amid its fourth block."""
    cache.mkdir()
    tokenizer.save(str(cache / 'tokenizer.json'))
    given = {name: value for name, value in asdict(data).items() if isinstance(value, str | bool | float | int)}
    command = [sys.executable, '-c', KILLED, json.dumps(given), str(cache), str(cache / 'tokenizer.json')]
    assert subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode == -signal.SIGKILL
    assert [path.name[:7] for path in cache.glob('*corpus*')] == ['.corpus']


def test_a_killed_preparation_goes_on(story_data, tmp_path, monkeypatch, capsys, cache):
    in_small_blocks(monkeypatch)
    tokenizer = tokenizer_of(story_data, cache, 200)
    data = replace(story_data, deduplicate=True)
    kill_halfway(data, tmp_path / 'killed', tokenizer)
    written = []
    real = blocks.write_block
    monkeypatch.setattr(blocks, 'write_block', lambda folder, number, *rest: written.append(number) or real(folder, number, *rest))
    went_on = prepare(data, tmp_path / 'killed', tokenizer)
    assert 'going on with' in capsys.readouterr().err
    assert written[0] == 3
    whole = prepare(data, tmp_path / 'whole', tokenizer)
    assert everything(went_on) == everything(whole)
    assert went_on.facts == whole.facts
    assert [path.name for path in (tmp_path / 'killed').iterdir() if path.name.startswith('.')] == []


def test_what_a_killed_preparation_left_of_another_text_is_removed(story_data, stories, tmp_path, monkeypatch, cache):
    text = tmp_path / 'stories.txt'
    text.write_text(stories.read_text('utf-8'), encoding='utf-8')
    tokenizer = tokenizer_of(story_data, cache, 200)
    data = replace(story_data, source=f'text:{text}')
    kill_halfway(data, tmp_path / 'cache', tokenizer)
    text.write_text(stories.read_text('utf-8') + '\n\nOne more.\n', encoding='utf-8')
    prepare(data, tmp_path / 'cache', tokenizer)
    assert len(list((tmp_path / 'cache').glob('corpus-*'))) == 1
    assert list((tmp_path / 'cache').glob('.*')) == []


def test_an_interrupted_preparation_keeps_its_blocks_and_a_failed_one_nothing(story_data, tmp_path, monkeypatch, cache):
    in_small_blocks(monkeypatch)
    tokenizer = tokenizer_of(story_data, cache, 200)
    real = blocks.write_block
    raised: list[type[BaseException]] = [KeyboardInterrupt]

    def stop(folder, number, *rest):
        if number == 2:
            raise raised[0]
        return real(folder, number, *rest)

    monkeypatch.setattr(blocks, 'write_block', stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(story_data, tmp_path, tokenizer)
    (unfinished,) = tmp_path.iterdir()
    assert len(list(unfinished.glob('block-*.json'))) == 2
    raised[0] = Unfinished  # by what killed a worker
    with pytest.raises(Unfinished):
        prepare(story_data, tmp_path, tokenizer)
    assert len(list(unfinished.glob('block-*.json'))) == 2
    raised[0] = UserError
    with pytest.raises(UserError):
        prepare(story_data, tmp_path, tokenizer)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    'error',
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError('write() failed: No space left on device; writing a.arrayrecord; at byte 3145728'),
    ],
)
def test_a_full_disk(story_data, tmp_path, monkeypatch, error, cache):
    class Full:
        """What ArrayRecordWriter does on a full disk: it fails when it is closed, or at a write."""

        def __init__(self, path, options):
            Path(path).write_bytes(b'half')

        def write(self, record):
            pass

        def close(self):
            raise error

    tokenizer = tokenizer_of(story_data, cache, 200)
    monkeypatch.setattr(blocks, 'ArrayRecordWriter', Full)
    with pytest.raises(UserError, match='the disk of .* was full before corpus-.* was prepared') as caught:
        prepare(story_data, tmp_path, tokenizer)
    assert '\n' not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_error_of_the_writer_is_not_called_a_full_disk(story_data, tmp_path, monkeypatch, cache):
    tokenizer = tokenizer_of(story_data, cache, 200)
    monkeypatch.setattr(blocks, 'sums', lambda values, counts: int('x'))
    with pytest.raises(ValueError, match='invalid literal'):
        prepare(story_data, tmp_path, tokenizer)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('kept', [0, 1, 3, 99])
def test_a_kill_while_the_blocks_are_removed_leaves_a_whole_corpus(story_data, tmp_path, monkeypatch, kept, cache):
    in_small_blocks(monkeypatch)
    data, tokenizer = story_data, tokenizer_of(story_data, cache, 200)
    real, removed = Path.unlink, []

    def unlink(path, **more):
        if path.name.startswith('block-') and len(removed) == kept:
            raise KeyboardInterrupt
        removed.append(path)
        real(path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'unlink', unlink)
        if kept < 99:
            with pytest.raises(KeyboardInterrupt):
                prepare(data, tmp_path, tokenizer)
    again = prepare(data, tmp_path, tokenizer)
    assert again.facts.fingerprint == prepare(story_data, cache, tokenizer).facts.fingerprint
    assert not list(again.folder.glob('block-*')) and len(again.train.ids) == again.facts.tokens


@pytest.mark.parametrize('name', ['train.ids', 'train.starts.npy', 'held_out.document.npy', 'counts.npy'])
def test_a_changed_file_is_found_when_the_corpus_is_opened(story_data, tmp_path, name, cache):
    data, tokenizer = story_data, tokenizer_of(story_data, cache, 200)
    victim = prepare(data, tmp_path, tokenizer).folder / name
    content = bytearray(victim.read_bytes())
    content[-3] ^= 1
    victim.write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}' has changed since it was written: it is damaged; remove the folder"):
        prepare(data, tmp_path, tokenizer)


@pytest.mark.parametrize('content', ['{}', 'null', '{"sizes": 3, "checksums": {}}'])
def test_facts_that_are_none(story_data, tmp_path, content, cache):
    data, tokenizer = story_data, tokenizer_of(story_data, cache, 200)
    (prepare(data, tmp_path, tokenizer).folder / 'facts.json').write_text(content)
    with pytest.raises(UserError, match="facts.json' cannot be read; remove the folder"):
        prepare(data, tmp_path, tokenizer)


def test_reading_a_corpus_writes_nothing_into_it(story_data, tmp_path, cache):
    data, tokenizer = story_data, tokenizer_of(story_data, cache, 200)
    found = prepare(data, tmp_path, tokenizer)
    there = sorted(found.folder.iterdir())
    feeds.load(data, Machine(str(tmp_path)), batch=2, seed=0, vocabulary=200).train[0]
    assert sorted(found.folder.iterdir()) == there


@pytest.mark.parametrize('name', ['train-00000.arrayrecord', 'train.lengths.npy', 'facts.json'])
def test_a_truncated_file_is_found_when_the_corpus_is_opened(story_data, tmp_path, name, cache):
    data, tokenizer = story_data, tokenizer_of(story_data, cache, 200)
    victim = prepare(data, tmp_path, tokenizer).folder / name
    victim.write_bytes(victim.read_bytes()[:-10])
    with pytest.raises(UserError, match=rf"{name}' (has .* bytes and was written with|cannot be read).*; remove the folder"):
        prepare(data, tmp_path, tokenizer)
    victim.unlink()
    with pytest.raises(UserError, match='remove the folder'):
        prepare(data, tmp_path, tokenizer)


@pytest.mark.parametrize('kind', ['tokenizer', 'corpus'])
def test_another_source_is_no_change_of_this_one(stories, story_data, tmp_path, monkeypatch, capsys, kind, cache):
    """A mixture trains another tokenizer of the same name; a relative path names the same text from its own folder alone."""
    cache = str(tmp_path / 'cache')
    text = stories.read_text('utf-8')
    for folder in ('one', 'two'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'a.txt').write_text(text if folder == 'one' else text.replace('map', 'chart'), encoding='utf-8')
    one = f'text:{tmp_path}/one/a.txt'
    data = replace(story_data, source=one, tokenizer='wordpiece', changed='refuse')
    for source in (one, f'3 {one} + 1 text:{tmp_path}/two/a.txt', f'1 {one} + 1 text:{tmp_path}/two/a.txt'):
        asked = replace(data, source=source)
        tokenizer = tokenizer_of(asked, cache, 200)
        if kind == 'corpus':
            preparation.prepare(asked, cache, tokenizer)
    for folder in ('one', 'two'):
        monkeypatch.chdir(tmp_path / folder)
        asked = replace(data, source='text:a.txt')
        if kind == 'corpus':
            prepare(asked, cache, tokenizer_of(asked, cache, 200))
        tokenizer_of(asked, cache, 200)
    assert 'has changed' not in capsys.readouterr().err


def test_a_student_reads_the_corpus_that_the_tokenizer_of_its_teacher_cut(story_data, tmp_path, cache):
    cache = str(tmp_path / 'cache')
    data = replace(story_data, tokenizer='wordpiece')
    trained = tokenizer_of(data, cache, 200)
    first = prepare(data, cache, trained)
    save_tokenizer(trained, tmp_path / 'teacher')
    student = replace(data, tokenizer=str(tmp_path / 'teacher'), changed='refuse')
    assert prepare(student, cache, tokenizer_of(student, cache, 200)).folder == first.folder
    assert len(list((tmp_path / 'cache').glob('corpus-*'))) == 1


def test_a_changed_source_is_told_and_refused_when_asked(stories, story_data, tmp_path, capsys, cache):
    cache = str(tmp_path / 'cache')
    text = tmp_path / 'stories.txt'
    text.write_text(stories.read_text('utf-8'), encoding='utf-8')
    data = replace(story_data, source=f'text:{text}', changed='refuse')
    prepare(data, cache, tokenizer_of(data, cache, 200))
    prepare(data, cache, tokenizer_of(data, cache, 200))
    prepare(data, cache, tokenizer_of(data, cache, 180))  # another size is another corpus, not another text
    assert 'has changed' not in capsys.readouterr().err
    text.write_text(stories.read_text('utf-8') + '\n\nOne more.\n', encoding='utf-8')
    with pytest.raises(UserError, match='has changed since .*tokenizer-.* was prepared .*, and data.changed=refuse'):
        tokenizer_of(data, cache, 200)
    anew = replace(data, changed='prepare')
    tokenizer = tokenizer_of(anew, cache, 200)
    with pytest.raises(UserError, match='has changed since .*corpus-.* was prepared'):
        prepare(data, cache, tokenizer)
    assert 'One more' not in capsys.readouterr().err
    prepare(anew, cache, tokenizer)
    assert 'has changed since' in capsys.readouterr().err
    prepare(data, cache, tokenizer)


def test_a_mixture_has_one_corpus_a_source_and_one_side_a_text(story_data, tmp_path, cache):
    stories = list(sources.documents(story_data.source))
    lines = [json.dumps({'text': '\n'.join(document)}) for document in stories[10:] + [['Another text.']]]
    (tmp_path / 'a.jsonl').write_text('\n'.join(lines), encoding='utf-8')
    data = replace(story_data, source=f'3 {story_data.source} + 1 jsonl:{tmp_path}/a.jsonl')
    tokenizer = tokenizer_of(data, cache, 200)
    first, second = preparation.prepare(data, str(tmp_path), tokenizer)
    assert (first.weight, second.weight) == (0.75, 0.25)
    assert (first.facts.source, second.facts.source) == (story_data.source, f'jsonl:{tmp_path}/a.jsonl')

    def records(part: corpus.Part) -> set[bytes]:
        return {record.tobytes() for record in sections(part)}

    assert not (records(first.train) | records(second.train)) & (records(first.held_out) | records(second.held_out))
    assert records(second.held_out) and records(second.held_out) <= records(first.held_out)
    alone = prepare(replace(data, source=story_data.source), tmp_path, tokenizer)
    assert everything(alone) == everything(first)


def test_duplicates_are_left_out_when_asked(stories, story_data, tmp_path, cache):
    text = stories.read_text('utf-8')
    (tmp_path / 'twice.txt').write_text(text + '\n\n' + text.replace(' ', '  '), encoding='utf-8')
    tokenizer = tokenizer_of(story_data, cache, 200)
    twice = replace(story_data, source=f'text:{tmp_path}/twice.txt')
    assert prepare(twice, tmp_path, tokenizer).facts.documents == 2 * prepare(story_data, cache, tokenizer).facts.documents
    once = prepare(replace(twice, deduplicate=True), tmp_path, tokenizer)
    assert once.facts.duplicates == 40
    assert everything(once) == everything(prepare(story_data, cache, tokenizer))


def test_a_document_of_a_million_words(story_data, tmp_path, cache):
    """Whether or not it has sentences, it is stored whole, in sections."""
    words = 'a ' * 1_050_000
    (tmp_path / 'a.txt').write_text(f'{words}\n\nthe map\n\n' + 'a letter. A map. ' * 1000, encoding='utf-8')
    tokenizer = tokenizer_of(story_data, cache, 200)
    prepared = prepare(replace(story_data, source=f'text:{tmp_path}/a.txt', held_out=0.0), tmp_path, tokenizer)
    (one,) = [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in ['a']]
    sizes = np.add.reduceat(prepared.train.lengths, prepared.train.starts[:-1])
    assert sizes[prepared.train.document == 0].sum() == 1_050_000 * one
    assert sizes.max() <= cutting.SECTION
    assert prepared.facts.documents == 3


def test_cleaners_decide_what_is_stored(story_data, tmp_path, cache):
    (tmp_path / 'a.txt').write_text('the “map” of … it\n', encoding='utf-8')
    tokenizer = tokenizer_of(story_data, cache, 200)
    data = replace(story_data, source=f'text:{tmp_path}/a.txt', held_out=0.0)
    plain, mapped = prepare(data, tmp_path, tokenizer), prepare(replace(data, cleaners=('ascii_punctuation',)), tmp_path, tokenizer)
    assert plain.folder != mapped.folder
    expected = tokenizer.encode('the "map" of ... it', add_special_tokens=False).ids
    assert sections(mapped.train)[0].tolist() == expected


def test_a_sample_is_spread_bounded_and_always_the_same(story_data, monkeypatch, cache):
    monkeypatch.setattr(tokenizer_training, 'SAMPLE', 4000)
    stories = [paragraph for document in sources.documents(story_data.source) for paragraph in document]
    found = tokenizer_training.sample(story_data, cache)
    assert 2000 < sum(map(len, found)) <= 4000
    assert found == tokenizer_training.sample(story_data, cache)
    places = [stories.index(text) for text in found[:-1] if text in stories]
    assert places == sorted(places) or len(set(places)) < len(places)
    assert max(places) > 0.6 * len(stories)


def test_what_a_text_leaves_untold_is_unknown(story_data, tmp_path, cache):
    """WikiText's <unk> is no piece of a tokenizer that is trained on it."""
    (tmp_path / 'a.txt').write_text(' = A = \n \n' + ' the <unk> map of <unk> . \n' * 200, encoding='utf-8')
    data = replace(story_data, source=f'text:{tmp_path}/a.txt', cleaners=('wikitext',), held_out=0.0)
    tokenizer = tokenizer_of(data, cache, 100)
    assert prepare(data, tmp_path, tokenizer).counts[vocabulary_of(tokenizer).unknown] == 400


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'changed': 'refuze'}, "no data.changed named 'refuze'; did you mean 'refuse'"),
        ({'documents': 'lines'}, "no data.documents named 'lines'; did you mean 'files'|no data.documents named 'lines'"),
        ({'held_out': 1.0}, 'data.held_out=1.0 must be a share'),
        ({'cleaners': ('ascii',)}, "no data.cleaners named 'ascii'"),
    ],
)
def test_settings_that_no_corpus_can_have(story_data, change, message, cache):
    with pytest.raises(UserError, match=message):
        preparation.prepare(replace(story_data, **change), cache, tokenizer_of(story_data, cache, 200))


@pytest.mark.parametrize('held_out', [0.05, 0.99])
def test_one_document_leads_to_what_can_be_done(tmp_path, cache, held_out):
    """Whatever its hash, the hint is followed to the end: without held-out documents it is trained on."""
    for number in range(4):
        path = tmp_path / f'{number}.txt'
        path.write_text(f'Only one document, number {number}. ' * 20)
        data = Data(source=f'text:{path}', held_out=held_out, length=32)
        with pytest.raises(
            UserError, match='holds one document, .*: separate its documents by blank lines, or give .*held_out=0 to'
        ) as caught:
            prepare(data, tmp_path, tokenizer_of(data, tmp_path, 100))
        assert '\n' not in str(caught.value)
        data = replace(data, held_out=0.0)
        assert prepare(data, tmp_path, tokenizer_of(data, tmp_path, 100)).facts.documents == 1
    two = tmp_path / 'two.txt'
    two.write_text('One document.\n\nAnother document.\n')
    with pytest.raises(UserError, match='leaves none of the 2 documents to train a tokenizer on; lower it'):
        tokenizer_of(Data(source=f'text:{two}', held_out=1 - 1e-9), tmp_path, 100)
    json_lines = tmp_path / 'a.jsonl'
    json_lines.write_text('{"text": "One."}')
    data = Data(source=f'jsonl:{json_lines}', held_out=1 - 1e-9)
    with pytest.raises(UserError, match='as well: give --config.data.held_out=0 to train on all of it'):
        tokenizer_of(data, tmp_path, 100)


def test_an_array_that_is_none_is_named(story_data, tmp_path, cache):
    data, tokenizer = story_data, tokenizer_of(story_data, cache, 200)
    folder = prepare(data, tmp_path, tokenizer).folder
    (folder / 'counts.npy').write_bytes(b'no array')
    facts = json.loads((folder / 'facts.json').read_text())
    facts['sizes']['counts.npy'], facts['checksums']['counts.npy'] = 8, corpus.checksum(folder / 'counts.npy')
    (folder / 'facts.json').write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r'cannot be read \(.*\): it is damaged; remove the folder'):
        prepare(data, tmp_path, tokenizer)
