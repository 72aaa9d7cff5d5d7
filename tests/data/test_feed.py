"""Batches: pure in (seed, step), nothing dropped, nothing leaked, the same evaluation for all."""

import ast
import itertools
import json
import time
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest

from research.data import sources
from research.data.cutting import share
from research.data.facts import MaskedFacts
from research.data.masking import Masking
from research.data.pretraining import PAIRS
from research.data.settings import Answers, Data
from research.errors import UserError
from research.machine import Machine
from tests.data.conftest import original

ROOT = Path(__file__).parents[2]


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def ordinary(ids: np.ndarray) -> int:
    """How many ids are pieces of text, the unknown one included."""
    return int(((ids == 1) | (ids > 4)).sum())


def segments(row: np.ndarray, types: np.ndarray, mask: np.ndarray) -> list[list[int]]:
    """The pieces of a sequence between its special ones."""
    return [row[(types == type) & (mask == 1)].tolist()[start:-1] for type, start in ((0, 1), (1, 0)) if type in types]


@pytest.mark.parametrize('pairs', PAIRS)
def test_shapes_and_types(story_data, pairs, feed):
    batch = feed(replace(story_data, pairs=pairs)).train[0]
    expected = {
        'ids': ((8, 32), np.int32),
        'types': ((8, 32), np.int32),
        'mask': ((8, 32), np.int32),
        'masked_positions': ((8, 5), np.int32),
        'masked_labels': ((8, 5), np.int32),
        'masked_weights': ((8, 5), np.float32),
        'weight': ((8,), np.float32),
    } | ({} if pairs == 'none' else {'pair': ((8,), np.int32)})
    assert {name: (array.shape, array.dtype) for name, array in batch.items()} == expected


@pytest.mark.parametrize('pairs', PAIRS)
def test_a_batch_is_a_pure_function_of_seed_and_step(story_data, pairs, feed):
    data = replace(story_data, pairs=pairs)
    one, other, third = feed(data), feed(data), feed(data, seed=2)
    steps = [40, 3, 40, 0]
    assert all(same(one.train[step], other.train[step]) for step in steps)
    assert not any(same(one.train[step], third.train[step]) for step in steps)


@pytest.mark.parametrize(('prefetch', 'workers'), [(0, 0), (1, 0), (8, 0), (0, 1), (8, 2)])
def test_the_stream_gives_the_same_batches(story_data, cache, prefetch, workers, feed):
    """Whoever makes them: this process, a thread of it or others."""
    source = feed(story_data, machine=Machine(cache, prefetch, workers))
    stream = source.stream(5)
    for step, batch in zip(range(5, 60), stream, strict=False):
        assert same(batch, source.train[step])
    stream.close()


def test_what_a_worker_cannot_do_is_said_here(story_data, stories, tmp_path, feed):
    """A text that changed after the run had opened its corpus would mix two corpora."""
    path = tmp_path / 'story.txt'
    path.write_bytes(stories.read_bytes())
    source = feed(replace(story_data, source=f'text:{path}'), machine=Machine(str(tmp_path / 'cache'), workers=1))
    path.write_bytes(stories.read_bytes() + b'\n\nMore of it.')
    with pytest.raises(UserError, match='has changed since'):
        next(source.stream())


def test_an_epoch_visits_every_sequence_once_in_an_order_of_its_own(story_data, feed):
    """Also when the batch does not divide the epoch: one batch then ends an epoch and begins the next."""
    source = feed(story_data, batch=9)
    assert source.examples % 9
    rows = [row.tobytes() for step in range(3 * source.examples // 9 + 1) for row in original(source.train[step])]
    epochs = [rows[start : start + source.examples] for start in range(0, 3 * source.examples, source.examples)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2]
    assert sum(ordinary(np.frombuffer(row, np.int32)) for row in epochs[0]) == source.facts.tokens


def test_sequences_with_pairs_lose_what_is_truncated_and_pieces_that_would_be_alone(story_data, feed):
    source = feed(replace(story_data, pairs='sop', length=16, short=0.3), batch=1)
    batches = [source.train[step] for step in range(source.examples)]
    lost = source.facts.tokens - sum(ordinary(original(batch)) for batch in batches)
    assert 0 < lost < 0.5 * source.facts.tokens  # sentences are nearly as long as these sequences
    second = [int(batch['types'].sum()) for batch in batches]
    assert min(second) > 1  # a piece at least, and [SEP]
    assert {int(batch['pair'][0]) for batch in batches if batch['mask'].sum() < 6} == {0, 1}


def test_masks_differ_between_epochs(story_data, feed):
    source = feed(story_data, batch=1)
    seen: dict[bytes, set[bytes]] = {}
    for step in range(2 * source.examples):
        batch = source.train[step]
        if (batch['mask'].sum()) > 20:
            seen.setdefault(original(batch).tobytes(), set()).add(batch['masked_positions'].tobytes())
    assert len(seen) > 20
    assert np.mean([len(masks) for masks in seen.values()]) > 1.9


def test_held_out_documents_are_not_trained_on(story_data, feed):
    source = feed(story_data)
    tokenizer = source.tokenizer
    held_out, train = [], []
    for document in sources.documents(story_data.source):
        ids = [id for text in document for id in tokenizer.encode(text, add_special_tokens=False).ids]
        (held_out if share(document) < story_data.held_out else train).append(ids)
    assert held_out
    runs = {tuple(ids[at : at + 30]) for ids in held_out for at in range(0, len(ids), 30)}
    rows = [
        segments(*row)[0]
        for batch in source.evaluation['dev']
        for row in zip(original(batch), batch['types'], batch['mask'], strict=True)
    ]
    assert {tuple(row) for row in rows if row} == runs
    trained = {
        tuple(segments(*row)[0])
        for step in range(-(-source.examples // 8))
        for row in zip(original(source.train[step]), source.train[step]['types'], source.train[step]['mask'], strict=True)
    }
    assert trained == {tuple(ids[at : at + 30]) for ids in train for at in range(0, len(ids), 30)}


@pytest.mark.parametrize('pairs', PAIRS)
def test_evaluation_is_the_same_for_every_seed_and_batch_size(story_data, pairs, feed):
    data = replace(story_data, pairs=pairs)
    one, other = feed(data, batch=8, seed=1).evaluation['dev'], feed(data, batch=3, seed=2).evaluation['dev']
    rows = [{name: np.concatenate([batch[name] for batch in split]) for name in split[0]} for split in (one, other)]
    real = [{name: array[columns['weight'] > 0] for name, array in columns.items()} for columns in rows]
    assert same(*real)
    assert same(one[0], one[0])


def test_the_last_evaluation_batch_is_filled(story_data, feed):
    split = feed(story_data, batch=100).evaluation['dev']
    batch = split[len(split) - 1]
    filler = batch['weight'] == 0
    assert filler.any()
    assert batch['ids'].shape == (100, 32)
    assert (batch['mask'][filler, 0] == 1).all()
    assert not batch['mask'][filler, 1:].any()
    assert not batch['masked_weights'][filler].any()
    with pytest.raises(IndexError, match='batch 1 of 1'):
        split[1]


def documents_of(data: Data, tokenizer) -> list[list[int]]:
    return [
        [id for text in document for id in tokenizer.encode(text, add_special_tokens=False).ids]
        for document in sources.documents(data.source)
        if share(document) >= data.held_out
    ]


def inside(run: list[int], document: list[int]) -> bool:
    return any(document[at : at + len(run)] == run for at in range(len(document) - len(run) + 1))


def follows(one: list[int], two: list[int], document: list[int]) -> bool:
    """Whether a document has a run and after it, perhaps beyond pieces that were truncated, the other."""
    return any(document[at : at + len(one)] == one and inside(two, document[at + len(one) :]) for at in range(len(document)))


@pytest.mark.parametrize('length', [16, 64])
def test_sentence_order(story_data, length, feed):
    data = replace(story_data, pairs='sop', length=length)
    source = feed(data)
    documents = documents_of(data, source.tokenizer)
    labels, whole = [], 0
    for step in range(20):
        batch = source.train[step]
        for ids, types, mask, label in zip(original(batch), batch['types'], batch['mask'], batch['pair'], strict=True):
            a, b = segments(ids, types, mask)
            first, second = (b, a) if label else (a, b)
            assert any(follows(first, second, document) for document in documents)
            whole += any(inside(first + second, document) for document in documents)
            labels.append(label)
            assert ids[mask == 1].tolist() == [2, *a, 3, *b, 3]
    assert 0.35 < np.mean(labels) < 0.65
    assert 0 < whole < len(labels)  # the others are truncated where they meet


def test_next_sentence(story_data, feed):
    data = replace(story_data, pairs='nsp')
    source = feed(data)
    documents = documents_of(data, source.tokenizer)
    labels = []
    for step in range(30):
        batch = source.train[step]
        for ids, types, mask, label in zip(original(batch), batch['types'], batch['mask'], batch['pair'], strict=True):
            a, b = segments(ids, types, mask)
            assert a
            assert b
            if label:
                homes = [{number for number, document in enumerate(documents) if inside(run, document)} for run in (a, b)]
                assert len(homes[0] | homes[1]) > 1
            else:
                assert any(follows(a, b, document) for document in documents)
            labels.append(label)
    assert 0.4 < np.mean(labels) < 0.65


@pytest.mark.parametrize('length', [32, 64])
def test_lengths_do_not_tell_the_next_sentence(story_data, length, feed):
    """No threshold on the length of B, or of both, does much better than a guess."""
    source = feed(replace(story_data, pairs='nsp', length=length), batch=64)
    batches = [source.train[step] for step in range(60)]
    labels = np.concatenate([batch['pair'] for batch in batches]) == 1
    guess = max(labels.mean(), 1 - labels.mean())
    for name in ('types', 'mask'):
        sizes = np.concatenate([batch[name].sum(1) for batch in batches])
        right = np.array([((sizes > limit) == labels).mean() for limit in range(length)])
        assert max(guess, right.max(), 1 - right.min()) < 0.57


def test_short_sequences(story_data, feed):
    def sizes(short):
        source = feed(replace(story_data, pairs='sop', length=64, short=short))
        return source.examples, np.mean(np.concatenate([source.train[step]['mask'].sum(1) for step in range(10)]))

    assert sizes(1.0)[0] > sizes(0.0)[0]
    assert sizes(1.0)[1] < sizes(0.0)[1]


def test_facts(story_data, feed):
    facts = feed(story_data).facts
    assert isinstance(facts, MaskedFacts) and facts.labels is None
    assert json.loads(json.dumps(asdict(facts))) == asdict(facts)
    assert 2 < facts.unigram_entropy < np.log(200)


def test_every_setting_is_read():
    """A setting that nothing reads would be a lie."""
    code = '\n'.join(path.read_text('utf-8') for path in (ROOT / 'research' / 'data').rglob('*.py'))
    unread = [f'data.{field.name}' for field in fields(Data) if f'data.{field.name}' not in code]
    unread += [f'masking.{field.name}' for field in fields(Masking) if f'masking.{field.name}' not in code]
    assert unread == []


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'pairs': 'nps'}, "no data.pairs named 'nps'"),
        ({'length': 7}, 'data.length=7 must lie between 8'),
        ({'short': 1.5}, 'data.short=1.5 must be a share'),
        ({'held_out': 1.0}, 'data.held_out=1.0 must be a share'),
        ({'held_out': -0.1}, 'data.held_out=-0.1'),
        ({'answers': Answers(stride=0)}, 'data.answers.stride=0 must be at least 1'),
        ({'answers': Answers(best=0)}, 'data.answers.best=0 must be at least 1'),
        ({'masking': Masking(policy='span')}, "no data.masking.policy named 'span'"),
        ({'tokenizer': 'nowhere'}, "data.tokenizer='nowhere' does not exist"),
    ],
)
def test_bad_settings(story_data, changes, message, feed):
    with pytest.raises(UserError, match=message):
        feed(replace(story_data, **changes))


def test_a_vocabulary_larger_than_the_model_is_refused(story_data, tmp_path, feed):
    (tmp_path / 'vocab.txt').write_text('\n'.join(['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *'abcdefgh']))
    with pytest.raises(UserError, match='has 13 pieces but the model has room for 12; give the model a vocabulary of 13 or more'):
        feed(replace(story_data, tokenizer=str(tmp_path)), vocabulary=12)


def test_next_sentences_need_two_documents(tmp_path, story_data, feed):
    path = tmp_path / 'a.txt'
    path.write_text('The map of the king.\nHer letter from Paris.\n', encoding='utf-8')
    data = replace(story_data, source=f'text:{path}', held_out=0.0, pairs='nsp')
    with pytest.raises(UserError, match='data.pairs=nsp needs two documents at least'):
        feed(data)
    assert feed(replace(data, pairs='sop')).evaluation == {}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / 'train.tsv'
    words = ['king', 'map', 'letter', 'garden', 'winter', 'rain']
    lines = [
        f'the {words[n % 6]} {words[n // 6 % 6]} {words[n // 36]}\t{" and ".join(words[: n % 6 + 1])}\t{"ab"[n % 3 == 0]}'
        for n in range(100)
    ]
    path.write_text('\n'.join(['sentence\tsecond\tlabel', *lines]), encoding='utf-8')
    return path


@pytest.mark.parametrize('pair', ['', 'second'])
def test_label_tasks(story_data, table, pair, feed):
    data = replace(story_data, task='custom', train=str(table), test=str(table), pair=pair, length=16)
    source = feed(data)
    batch = source.train[0]
    assert {name: (array.shape, array.dtype.name) for name, array in batch.items()} == {
        'ids': ((8, 16), 'int32'),
        'types': ((8, 16), 'int32'),
        'mask': ((8, 16), 'int32'),
        'label': ((8,), 'int32'),
        'weight': ((8,), 'float32'),
    }
    assert bool(batch['types'].any()) == bool(pair)
    assert source.facts.labels == ['a', 'b'] and source.facts.unigram_entropy is None
    assert json.loads(json.dumps(asdict(source.facts))) == asdict(source.facts)
    assert list(source.evaluation) == ['dev', 'test']
    total = sum(batch['weight'].sum() for batch in source.evaluation['test'])
    assert total == 100
    order = [[row.tobytes() for step in range(start, start + 3) for row in source.train[step]['ids']] for start in (0, 20)]
    assert order[0] != order[1]
    rows = list(
        itertools.islice((row.tobytes() for step in itertools.count() for row in source.train[step]['ids']), source.examples)
    )
    if not pair:
        assert len(set(rows)) == source.examples


def test_the_longer_text_is_cut_first(story_data, tmp_path, feed):
    path = tmp_path / 'train.tsv'
    cases = [('the ' * 30, 'map'), ('map', 'the ' * 30), ('the ' * 30, 'map ' * 30), ('the', 'map')]
    lines = [f'{a}\t{b}\t{number}' for number, (a, b) in enumerate(cases)]
    path.write_text('\n'.join(['sentence\tsecond\tlabel', *lines]), encoding='utf-8')
    data = replace(story_data, task='custom', train=str(path), dev=str(path), pair='second', length=16, select='last')
    batch = feed(data, batch=4).evaluation['dev'][0]
    sizes = [[len(segment) for segment in segments(*row)] for row in zip(batch['ids'], batch['types'], batch['mask'], strict=True)]
    whole = feed(data).tokenizer.encode('map', add_special_tokens=False)
    m = len(whole.ids)
    assert sizes[0] == [13 - m, m]
    assert sizes[1] == [m, 13 - m]
    assert sizes[2] == [7, 6]
    assert sizes[3][1] == m


def test_packages_task_and_the_embedded_corpus(feed):
    source = feed(Data(task='packages'), batch=32, vocabulary=1024)
    assert source.facts.unknown_rate < 0.001
    pretrain = feed(Data(), batch=32, vocabulary=1024)
    assert pretrain.facts.tokens > 1_000_000
    start = time.perf_counter()
    feed(Data(), batch=32, vocabulary=1024)
    assert time.perf_counter() - start < 2  # 0.1 on a quiet machine


def test_data_imports_no_jax():
    """It runs in worker processes; tests/test_laws.py says which of our other files it may import."""
    for path in set((ROOT / 'research' / 'data').rglob('*.py')) - {ROOT / 'research' / 'data' / '__main__.py'}:
        for node in ast.walk(ast.parse(path.read_text('utf-8'))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ''] if isinstance(node, ast.ImportFrom) else []
            assert not {'jax', 'flax', 'optax', 'tensorflow'} & {name.split('.')[0] for name in names}
