"""Packed batches of tasks: every example once, in full rows, laid out as it is without packing."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from research.data import encoding, packing
from research.data import feed as feeds
from research.data.buckets import Stream
from research.data.encoding import Encoded
from research.data.facts import SupervisedFacts
from research.data.pretraining import Batch
from research.data.settings import Data
from research.data.tokenizers import load_tokenizer, vocabulary_of
from research.errors import UserError
from research.machine import Machine


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """A task of 300 texts of 1 to 30 pieces."""
    lines = ['sentence\tsecond\tscore\tlabel']
    lines += [f'{"x " * (1 + n * n % 28)}{n}\t{"y " * (1 + n % 5)}{n}\t{n / 300}\t{"ab"[n % 2]}' for n in range(300)]
    path = tmp_path / 'train.tsv'
    path.write_text('\n'.join(lines))
    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'x', 'y', *(str(n) for n in range(10)), *(f'##{n}' for n in range(10))]
    (tmp_path / 'vocab.txt').write_text('\n'.join(words))
    given = {'train': str(path), 'dev': str(path), 'tokenizer': str(tmp_path), 'select': 'last', 'buckets': ()}
    return Data(task='custom', length=64, pack=True, **given)


@pytest.fixture
def squad(data: Data, tmp_path: Path) -> Data:
    """Questions on short contexts, whose answers are one or two pieces."""
    asked = []
    for n in range(40):
        context = f'{"x " * (n % 7)}{n} y {"x " * (n % 3)}'
        answer = {'answer_start': context.index(str(n)), 'text': f'{n}' if n % 2 else f'{n} y'}
        asked.append({'context': context, 'qas': [{'id': str(n), 'question': 'x y', 'answers': [answer]}]})
    for split in ('train', 'dev'):
        (tmp_path / f'{split}.json').write_text(json.dumps({'data': [{'paragraphs': asked}]}))
    return Data(task='squad', folder=str(tmp_path), tokenizer=data.tokenizer, length=32, select='last', buckets=(), pack=True)


def load(data: Data, **given: Any) -> feeds.Feed:
    asked: dict[str, Any] = {'batch': 8, 'seed': 0, 'vocabulary': 64} | given
    return feeds.load(data, Machine(prefetch=0), **asked)


def train_split(data: Data) -> Encoded:
    tokenizer = load_tokenizer(data.tokenizer)
    return encoding.read(data, '', tokenizer, vocabulary_of(tokenizer))[0]['train']


def unpack(batch: Batch) -> list[tuple]:
    """Each example of a packed batch: its ids and types, and its targets, those that are positions counted from its first piece."""
    found = []
    for row, place in zip(*np.nonzero(batch['weight']), strict=True):
        inside = np.flatnonzero(batch['segments'][row] == place + 1)
        start = batch['starts'][row, place]
        assert inside.tolist() == list(range(start, start + len(inside)))
        assert batch['positions'][row, inside].tolist() == list(range(len(inside))) and batch['mask'][row, inside].all()
        targets = {name: batch[name][row, place] for name in ('label', 'score', 'start', 'end') if name in batch}
        targets |= {name: targets[name] - start for name in ('start', 'end') if name in targets}
        found.append((batch['ids'][row, inside].tolist(), batch['types'][row, inside].tolist(), targets))
    return found


def plain(batch: Batch) -> list[tuple]:
    """The same of a batch that is not packed."""
    found = []
    for row, mask in enumerate(batch['mask'] > 0):
        targets = {name: batch[name][row] for name in ('label', 'score', 'start', 'end') if name in batch}
        found.append((batch['ids'][row, mask].tolist(), batch['types'][row, mask].tolist(), targets))
    return found


@pytest.mark.parametrize('kind', ['single', 'pair', 'score', 'span'])
def test_an_example_is_laid_out_as_it_is_without_packing(data: Data, squad: Data, kind: str) -> None:
    changes = {'single': {}, 'pair': {'pair': 'second'}, 'score': {'label': '', 'score': 'score'}}
    data = squad if kind == 'span' else replace(data, **changes[kind])
    train = train_split(data)
    shape = packing.choose_shape(train.lengths, 8, data.length)
    examples = np.random.default_rng(0).permutation(train.rows)[:8]
    row, rows = packing.place(train.lengths[examples], 1, shape.length)
    batch = packing.lay_out(train, examples, row, rows + 1, shape)
    assert {name: array.shape for name, array in batch.items()} == {
        **dict.fromkeys(('ids', 'types', 'mask', 'segments', 'positions'), (rows + 1, shape.length)),
        **dict.fromkeys(('starts', *train.targets, 'weight'), (rows + 1, shape.places)),
    }
    assert {name: array.dtype for name, array in batch.items() if name not in ('score', 'weight')} == dict.fromkeys(
        set(batch) - {'score', 'weight'}, np.int32
    )
    assert sorted(map(repr, unpack(batch))) == sorted(map(repr, plain(train.make(examples))))
    assert (batch['segments'] > 0).sum() == batch['mask'].sum() == train.lengths[examples].sum()
    empty = batch['mask'] == 0
    assert (batch['ids'][empty] == train.pieces.pad).all() and not batch['types'][empty].any() and not batch['mask'][-1].any()
    if kind == 'span':
        assert {tuple(batch['ids'][r, batch['start'][r, p] : batch['end'][r, p] + 1]) for r, p in np.argwhere(batch['weight'])}


def test_each_epoch_visits_every_example_once_in_an_order_of_the_seed(data: Data) -> None:
    found = load(data, batch=7)
    batches = [found.train[step] for step in range(300)]  # 300 steps of 7 examples are 7 epochs of 300
    assert {int(batch['weight'].sum()) for batch in batches} == {7}
    texts = [repr(each[0]) for batch in batches for each in unpack(batch)]
    assert set(Counter(texts).values()) == {7} and len(set(texts)) == 300
    assert Counter(Counter(texts[: 43 * 7]).values()) == {1: 299, 2: 1}  # 43 steps hold an epoch and one example of the next
    again = load(data, batch=7)
    assert all((again.train[step]['ids'] == batches[step]['ids']).all() for step in (250, 3, 42))
    assert unpack(load(data, batch=7, seed=1).train[0]) != unpack(batches[0])
    assert unpack(batches[0]) != unpack(batches[43])


def test_an_epoch_smaller_than_a_batch(data: Data, tmp_path: Path) -> None:
    (tmp_path / 'few.tsv').write_text('sentence\tlabel\nx 1\ta\nx x 2\tb\nx x x 3\ta\n')
    found = load(replace(data, train=str(tmp_path / 'few.tsv')))
    texts = [repr(each[0]) for step in range(3) for each in unpack(found.train[step])]
    assert set(Counter(texts).values()) == {8}


@pytest.mark.parametrize('divisor', [2, 8])
def test_devices_add_nothing_but_empty_rows(data: Data, divisor: int) -> None:
    one, other = load(data), load(data, divisor=divisor)
    for step in range(5):
        alone, divided = one.train[step], other.train[step]
        rows = len(alone['ids'])
        assert len(divided['ids']) % divisor == 0 and len(divided['ids']) - rows < divisor
        for name, array in alone.items():
            np.testing.assert_array_equal(divided[name][:rows], array)
        assert not divided['mask'][rows:].any() and not divided['weight'][rows:].any()


@pytest.mark.parametrize('divisor', [4, 8])
def test_the_parts_of_all_processes_make_up_a_batch(data: Data, divisor: int) -> None:
    whole = load(data, divisor=divisor)
    processes = [load(data, divisor=divisor, mine=np.arange(8)[at : at + 2]) for at in range(0, 8, 2)]
    for step in range(3):
        parts = [each.train[step] for each in processes]
        assert len({len(part['ids']) for part in parts}) == 1
        for name, array in whole.train[step].items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array)


def test_rows_are_full_and_steps_of_few_shapes(data: Data) -> None:
    found = load(data, batch=16)
    batches = [found.train[step] for step in range(5 * 18)]
    assert len({batch['ids'].shape for batch in batches}) <= 3
    assert np.mean([batch['mask'].mean() for batch in batches]) > 0.93
    assert isinstance(found.facts, SupervisedFacts)
    rows = sorted({len(batch['ids']) for batch in batches[:18]})
    (line,) = [line for line in found.facts.notices if 'share' in line]
    assert line.startswith('train: 16 examples share ') and 'of the positions hold a piece' in line
    assert str(rows[0]) in line
    train = train_split(data)
    line = packing.describe(train.lengths, 16, packing.choose_shape(train.lengths, 16, 64), 4)
    assert 'a multiple of 4 (devices × micro-batches)' in line


@pytest.mark.parametrize(('batch', 'least', 'shapes'), [(16, 0.96, 3), (32, 0.96, 3), (128, 0.97, 2)])
def test_texts_as_short_as_phrases_fill_nearly_all_positions(batch: int, least: float, shapes: int) -> None:
    """Lengths as those of SST-2: half of them up to 10, some up to 66."""
    lengths = np.clip(np.random.default_rng(1).lognormal(2.4, 0.65, 20_000), 3, 66).astype(np.int64)
    shape = packing.choose_shape(lengths, batch, 128)
    assert shape.length % 8 == 0 and 66 < shape.length <= 96
    pools = [lengths[at : at + 64 * batch] for at in range(0, len(lengths) - 64 * batch + 1, 64 * batch)]
    rows = [each for pool in pools for each in packing.count_rows(pool, batch, shape)]
    assert sum(map(sum, pools)) / (sum(rows) * shape.length) > least
    assert len(set(rows)) <= shapes


def test_a_pool_is_dealt_evenly() -> None:
    sizes = np.random.default_rng(0).integers(3, 60, 64 * 32)
    shape = packing.Shape(72, 24, 1, 0.98)
    members, rows = packing.deal(sizes, 32, shape)
    assert sorted(members.ravel()) == list(range(64 * 32))
    loads = sizes[members].sum(axis=1) / (rows * 72)
    assert len(set(rows)) == 2 and loads.max() - loads.min() < 0.002 and loads.max() <= 0.981
    for mine, many in zip(members, rows.tolist(), strict=True):
        row, used = packing.place(sizes[mine], many, 72)
        assert np.bincount(row, sizes[mine], used).max() <= 72 and used - many <= 1


def test_examples_that_do_not_fit_get_another_row() -> None:
    row, rows = packing.place(np.array([5, 5, 5, 4]), 1, 9)
    assert rows == 3 and np.bincount(row, [5, 5, 5, 4]).tolist() in ([9, 5, 5], [5, 9, 5], [5, 5, 9])
    # The emptiest row first leaves no room for the last; the fullest first does.
    assert packing.fill([5, 4, 3, 3, 3], 2, 9, fullest=False) == [] != packing.fill([5, 4, 3, 3, 3], 2, 9, fullest=True)
    assert packing.place(np.array([3, 4, 3, 5, 3]), 2, 9)[1] == 2


def test_a_row_is_as_short_as_the_longest_example_allows() -> None:
    assert packing.choose_shape(np.array([3, 100]), 2, 100).length == 100  # data.length, though it is no multiple of 8
    assert packing.choose_shape(np.full(64, 20), 8, 512).length == 40


def test_a_stream_of_steps_is_the_same_for_every_pool(data: Data) -> None:
    """A step that is asked for alone is that of a run that came by, in whatever order."""
    train = train_split(data)
    shape = packing.choose_shape(train.lengths, 2, 64)
    stream = Stream(list(range(300)) * 3, 300, 2)  # 150 steps an epoch, in three pools
    one = packing.packed(stream, train, shape, 0, 1, np.arange(2))
    forward = [one(step)['ids'].tobytes() for step in range(300)]
    for step in (299, 149, 150, 0, 50, 49, 100):
        assert packing.packed(stream, train, shape, 0, 1, np.arange(2))(step)['ids'].tobytes() == forward[step]


def test_candidates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data.pack=true is for tasks of the kinds label, score, span, but 'race' is a choice"):
        load(Data(task='race', folder=str(tmp_path), pack=True))
