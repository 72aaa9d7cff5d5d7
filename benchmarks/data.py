"""The speed of making batches: tokens per second of each masking policy, on one core or all, against Hugging Face's collators.

    taskset -c 0 python benchmarks/data.py                      (one core)
    python benchmarks/data.py --source=jsonl:books.jsonl.xz     (all cores; any data.source; --small takes seconds)

A token is a piece of a ready batch, special pieces included and padding not. `CPU` divides by the processor's time instead of the
clock's: the speed on a core that no other program uses. Without `transformers` there is no comparison.
"""

import argparse
import importlib.util
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from research.data.feed import Feed, load
from research.data.masking import MASKING, Masking
from research.data.settings import Data
from research.machine import Machine

LENGTH, VOCABULARY = 128, 8192
ROW = '{:<44} {:>14} {:>14}'


def measure(batches: Iterable[Any], tokens: Callable[[Any], int]) -> tuple[float, float]:
    """(millions of tokens per second of the clock, and of the processor's time), without the first batch."""
    stream = iter(batches)
    next(stream)
    clock, processor = time.perf_counter(), time.process_time()
    total = sum(tokens(batch) for batch in stream)
    return total / (time.perf_counter() - clock) / 1e6, total / (time.process_time() - processor) / 1e6


def count_tokens(batch: dict[str, np.ndarray]) -> int:
    """The number of tokens of our batch."""
    return int(batch['mask'].sum())


def measure_collators(feed: Feed, batch: int, count: int) -> dict[str, tuple[float, float]]:
    """The speeds of Hugging Face's collators on `count` batches of `feed`, whose sequences are already cut and paired."""
    transformers = importlib.import_module('transformers')
    found = {}
    tokenizer = transformers.BertTokenizerFast(tokenizer_object=feed.tokenizer)
    rows = []
    for step in range(count):
        made = feed.train[step]
        ids = made['ids'].copy()
        at, slot = np.nonzero(made['masked_weights'])
        ids[at, made['masked_positions'][at, slot]] = made['masked_labels'][at, slot]
        # Only rows without padding: the collator cannot pad offsets. The offsets of pieces touch only within a word.
        full = ids[made['mask'].all(axis=1)]
        offsets = np.cumsum(1 + feed.pieces.word_start[full], axis=1)
        special = feed.pieces.special[full].astype(np.int64)
        spans = np.stack([offsets, offsets + 1], axis=-1)
        rows.append(
            [
                {'input_ids': row, 'special_tokens_mask': kind, 'offset_mapping': span}
                for row, kind, span in zip(full, special, spans, strict=True)
            ]
        )
    for name, whole in (('token', False), ('whole_word', True)):
        collate = transformers.DataCollatorForLanguageModeling(
            tokenizer, mlm=True, mlm_probability=0.15, whole_word_mask=whole, return_tensors='np'
        )
        found[name] = measure((collate(each) for each in rows if each), lambda made: int(made['input_ids'].size))
    return found


def main() -> None:
    """Measures all speeds and prints a table."""
    parser = argparse.ArgumentParser(description='How fast batches are made.')
    parser.add_argument('--source', default='docstrings', help='as data.source')
    parser.add_argument('--cache', default=Machine.cache, help='as machine.cache')
    parser.add_argument('--batch', type=int, default=256)
    parser.add_argument('--small', action='store_true', help='only a few batches')
    asked = parser.parse_args()
    data = Data(source=asked.source, length=LENGTH, pairs='sop')
    count = 4 if asked.small else max(8192 // asked.batch, 4)

    def feed(policy: str, workers: int = 0) -> Feed:
        machine = Machine(cache=asked.cache, workers=workers)
        return load(replace(data, masking=Masking(policy)), machine, batch=asked.batch, seed=0, vocabulary=VOCABULARY)

    ours: dict[str, tuple[float, float]] = {}
    lines: list[tuple[str, float, float | None]] = []
    for policy in MASKING:
        made = feed(policy)
        ours[policy] = measure((made.train[step] for step in range(count)), count_tokens)
        lines.append((f'{policy}, SOP', *ours[policy]))
    for workers in (0, 1, 2, 4):
        made = feed('whole_word', workers=workers)
        stream = made.stream()
        for _ in range(4 * max(workers, 1)):  # batches that were made before the measurement
            next(stream)
        clock, _ = measure(itertools.islice(stream, 4 * count), count_tokens)
        stream.close()
        lines.append((f'whole_word, SOP, {workers} process(es)' if workers else 'whole_word, SOP, a thread', clock, None))
    split = feed('whole_word').evaluation['dev']
    lines.append(('whole_word, SOP, evaluation', *measure(itertools.islice(split, count), count_tokens)))
    ratios = []
    if importlib.util.find_spec('transformers'):
        for policy, found in measure_collators(feed('token'), asked.batch, max(count // 4, 3)).items():
            lines.append((f"Hugging Face's collator, {policy}, no pairs", *found))
            ratios.append((f'ratio to it, {policy}', ours[policy][0] / found[0], ours[policy][1] / found[1]))
    else:
        print('transformers is not installed: no comparison with its collators (install requirements-parity.txt)')
    cores = len(os.sched_getaffinity(0))
    print(f'\n{cores} core(s), batch {asked.batch}, length {LENGTH}, {asked.source}')
    print(ROW.format('millions of tokens a second', 'clock', 'CPU'))
    for name, clock, processor in [*lines, *ratios]:
        print(ROW.format(name, f'{clock:.2f}', '' if processor is None else f'{processor:.2f}'))


if __name__ == '__main__':
    main()
