"""Blocks of a corpus that is being written."""

import json

import numpy as np
import pytest

from research.data import blocks
from research.data.blocks import Seen, find_unseen, histogram, sums, whole_blocks


def test_a_document_is_unseen_once(monkeypatch):
    monkeypatch.setattr(blocks, 'SEEN', 50)
    draw = np.random.default_rng(0)
    seen, known = Seen(np.zeros(0, np.uint64), set()), set()
    for _ in range(30):
        hashes = draw.integers(0, 400, 20).astype(np.uint64) * np.uint64(2**55)
        expected = []
        for value in hashes.tolist():
            expected.append(value not in known)
            known.add(value)
        assert find_unseen(seen, hashes).tolist() == expected
    assert len(seen.new) < 50 < len(seen.old)


def test_histogram_counts_by_powers_of_two():
    assert histogram(np.array([1, 2, 3, 4, 7, 8, 1])).tolist()[:5] == [2, 2, 2, 1, 0]
    assert histogram(np.zeros(0)).sum() == 0


def test_sums_of_runs():
    assert sums(np.array([1, 2, 3, 4]), np.array([3, 1])).tolist() == [6, 4]
    assert sums(np.zeros(0, np.int32), np.zeros(0, np.int32)).tolist() == []


@pytest.mark.parametrize('harm', ['truncated', 'gone', 'zeros in the index', 'half an index', 'other facts', 'deep facts'])
def test_only_whole_blocks_are_kept(tmp_path, harm):
    for number in range(3):
        (tmp_path / f'train-{number:05}.arrayrecord').write_bytes(bytes(10))
        np.savez(tmp_path / f'block-{number:05}.npz', hashes=np.zeros(9))
        facts = {
            'read': 1,
            'duplicates': 0,
            'smallest': 0.5,
            'shards': {f'train-{number:05}.arrayrecord': 10},
            'records': {'train': 1},
        }
        (tmp_path / f'block-{number:05}.json').write_text(json.dumps(facts))
    (tmp_path / 'train-00003.arrayrecord').write_bytes(b'half')
    assert len(whole_blocks(tmp_path)) == 3
    assert not (tmp_path / 'train-00003.arrayrecord').exists()
    shard, index, record = (tmp_path / name for name in ('train-00001.arrayrecord', 'block-00001.npz', 'block-00001.json'))
    harms = {
        'truncated': lambda: shard.write_bytes(bytes(9)),
        'gone': shard.unlink,
        'zeros in the index': lambda: index.write_bytes(bytes(index.stat().st_size)),
        'half an index': lambda: index.write_bytes(index.read_bytes()[:100]),
        'other facts': lambda: record.write_text('{"read": "1"}'),
        'deep facts': lambda: record.write_text('[' * 10**5),
    }
    harms[harm]()
    assert len(whole_blocks(tmp_path)) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ['block-00000.json', 'block-00000.npz', 'train-00000.arrayrecord']
