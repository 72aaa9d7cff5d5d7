"""Many processes cut what one would cut."""

import os
import signal

import numpy as np
import pytest

from research.data import workers
from research.data.cutting import Knife, cut, make_knife
from research.data.sources import read
from research.data.tokenizer_training import tokenizer_of
from research.data.workers import chunks, cuts, cutter, staff
from research.errors import UserError
from research.machine import cores


@pytest.fixture(scope='module')
def tool(story_data, cache) -> Knife:
    return make_knife(tokenizer_of(story_data, cache, 200), ('ascii_punctuation',))


def test_chunks_hold_every_document_in_order(monkeypatch):
    monkeypatch.setattr(workers, 'CHUNK', 4)
    monkeypatch.setattr(workers, 'DOCUMENTS', 3)
    found = [(number / 10, [text]) for number, text in enumerate(['ab', 'cd', 'efghij', 'k', '', 'l', 'm'])]
    assert list(chunks(found)) == [(0.1, [['ab'], ['cd']]), (0.2, [['efghij']]), (0.5, [['k'], [''], ['l']]), (0.6, [['m']])]


def test_two_processes_cut_what_one_cuts(story_data, tool, monkeypatch, cache):
    """In the order of the source, through the end of a stream that is longer than what is under way at once."""
    monkeypatch.setattr(workers, 'CHUNK', 800)
    found = list(read(story_data.source, story_data, cache))
    monkeypatch.setattr(workers, 'cores', lambda: 1)
    alone = list(cuts(iter(found), tool))
    monkeypatch.setattr(workers, 'cores', lambda: 2)
    monkeypatch.setattr(workers, 'ALONE', 2)
    together = list(cuts(iter(found), tool))
    assert len(alone) > 10
    assert [each[:2] for each in alone] == [each[:2] for each in together]
    for (*_, one), (*_, other) in zip(alone, together, strict=True):
        for name in ('hashes', 'ids', 'lengths', 'sentences', 'sections'):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_process_that_is_killed_is_told(tool, monkeypatch):
    real = workers.worker
    started = []
    monkeypatch.setattr(workers, 'worker', lambda orders: started.append(real(orders)) or started[-1])
    with staff(1, cutter, tool.tokenizer.to_str(), True, tool.cleaners) as ask:
        assert ask([['one map.']]).result().ids.tolist() == cut([['one map.']], tool).ids.tolist()
        os.kill(started[0].pid, signal.SIGKILL)
        with pytest.raises(UserError, match=r'a process that prepares data was ended \(exit status -9\)'):
            ask([['another map.']]).result()


def test_a_stream_that_is_left_ends_its_processes(story_data, tool, monkeypatch, cache):
    real = workers.worker
    started = []
    monkeypatch.setattr(workers, 'worker', lambda orders: started.append(real(orders)) or started[-1])
    monkeypatch.setattr(workers, 'cores', lambda: 2)
    monkeypatch.setattr(workers, 'ALONE', 1)
    monkeypatch.setattr(workers, 'CHUNK', 100)
    stream = cuts(read(story_data.source, story_data, cache), tool)
    for _ in range(2):
        next(stream)
    stream.close()
    assert [process.poll() for process in started] == [-9, -9]


def test_there_is_a_core():
    assert 1 <= cores() <= (os.cpu_count() or 1)
