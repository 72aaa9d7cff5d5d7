"""Several hosts: the rows that each makes of a batch are, together, the batch of one host, bit for bit."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from research.data import masked, pretraining
from research.data.feed import Feed
from research.data.masking import MASKING, Masking
from research.data.pretraining import PAIRS, Batch
from research.data.settings import Causal, Data
from research.machine import Machine

Rows = np.ndarray[Any, np.dtype[np.int64]]
# The rows of 8 that each host makes: equal runs, and what a mesh gives whose order is not that of the hosts.
HOSTS = {
    'two': (np.arange(4), np.arange(4, 8)),
    'four': tuple(np.arange(first, first + 2) for first in range(0, 8, 2)),
    'mixed': (np.array([0, 1, 4, 5]), np.array([2, 3, 6, 7])),
}
KINDS: dict[str, Callable[[Data], Data]] = {
    **{
        f'{policy}-{pairs}': lambda data, policy=policy, pairs=pairs: replace(data, pairs=pairs, masking=Masking(policy))
        for policy, pairs in itertools.product(MASKING, PAIRS)
    },
    'packed': lambda data: replace(data, length=64, fill='sentences', pack=True, masking=Masking('whole_word')),
    'across': lambda data: replace(data, length=64, fill='documents'),
    'mixture': lambda data: replace(data, source=f'0.7 {data.source} + 0.3 {data.source}', masking=Masking('ngram')),
    'causal': lambda data: replace(data, causal=Causal(0.5), masking=Masking(rate=0.3, rate_end=0.15)),
    'lengths': lambda data: replace(data, first_length=16, first_share=0.5),
}


def join(parts: list[Batch], mine: tuple[Rows, ...]) -> Batch:
    """The rows of all hosts in their places."""
    assert [list(part) for part in parts] == [list(parts[0])] * len(parts)
    order = np.argsort(np.concatenate(mine))
    return {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}


def assert_equal(found: Batch, whole: Batch) -> None:
    assert list(found) == list(whole)
    for name, array in whole.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array), name


def compare(feed: Callable[..., Feed], data: Data, mine: tuple[Rows, ...], **given: Any) -> None:
    """Compares steps, and all batches of each evaluation split."""
    whole, hosts = feed(data, **given), [feed(data, mine=each, **given) for each in mine]
    for step in (0, 3, 7):
        assert_equal(join([host.train[step] for host in hosts], mine), whole.train[step])
    for split, batches in whole.evaluation.items():
        assert len(batches) > 1
        for index, batch in enumerate(batches):
            assert_equal(join([host.evaluation[split][index] for host in hosts], mine), batch)


@pytest.mark.parametrize('kind', KINDS)
def test_the_rows_of_all_hosts_are_those_of_one(feed: Callable[..., Feed], story_data: Data, kind: str) -> None:
    for mine in HOSTS.values():
        compare(feed, KINDS[kind](story_data), mine, steps=8)


def test_a_host_without_a_row_of_the_last_batch_fills_it_up(feed: Callable[..., Feed], story_data: Data) -> None:
    whole = feed(story_data, batch=8).evaluation['dev']
    last = np.arange(7, 8)
    assert whole[len(whole) - 1]['weight'].sum() < 8, 'the split must not divide'
    found = feed(story_data, batch=8, mine=last).evaluation['dev'][len(whole) - 1]
    assert_equal(found, {name: array[last] for name, array in whole[len(whole) - 1].items()})


def test_the_rows_of_a_task_have_the_length_of_the_whole_batch(feed: Callable[..., Feed], story_data: Data, tmp_path: Path) -> None:
    path = tmp_path / 'train.tsv'
    path.write_text('\n'.join(['sentence\tlabel', *(f'{"the " * (n % 40)}map {n}\t{"ab"[n % 2]}' for n in range(150))]))
    data = replace(story_data, task='custom', train=str(path), dev=str(path), length=64, buckets=(16, 32), select='last')
    for mine in HOSTS.values():
        compare(feed, data, mine)
    short = min(step['ids'].shape[1] for step in (feed(data).train[step] for step in range(20)))
    assert short < 64, 'batches must differ in their length'


def test_candidates_of_an_example_stay_on_one_host(feed: Callable[..., Feed], story_data: Data, shared_data: Path) -> None:
    data = replace(story_data, task='race', folder=str(shared_data / 'race'), length=128, buckets=(64,))
    compare(feed, data, HOSTS['mixed'])


def test_a_host_assembles_its_own_rows_only(feed: Callable[..., Feed], story_data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    described: list[int] = []
    describe = pretraining.describe_spans
    monkeypatch.setattr(
        pretraining, 'describe_spans', lambda spans, rows, *rest: (described.append(rows), describe(spans, rows, *rest))[1]
    )
    host = feed(story_data, batch=8, mine=np.arange(2))
    batch = host.train[0]
    assert {len(array) for array in batch.values()} == {2} and described == [2]


def test_of_an_evaluation_only_the_blocks_with_own_rows_are_made(
    feed: Callable[..., Feed], story_data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    block = masked.Batches.block
    monkeypatch.setattr(masked.Batches, 'block', lambda self, number: (made.append(number), block(self, number))[1])
    batches = feed(replace(story_data, length=8, held_out=0.3), batch=128, mine=np.arange(64, 128)).evaluation['dev']
    assert len(list(batches)) == len(made) > 1 and all(number % 2 for number in made[:-1])


def test_workers_make_the_rows_of_their_host(feed: Callable[..., Feed], story_data: Data, cache: str) -> None:
    mine = np.array([1, 5])
    host, whole = feed(story_data, mine=mine, machine=Machine(cache, workers=1)), feed(story_data)
    stream = host.stream(2)
    for step in (2, 3):
        assert_equal(next(stream), {name: array[mine] for name, array in whole.train[step].items()})
    stream.close()
