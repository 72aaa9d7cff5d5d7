"""A run on packed examples of real data, beside one on the same examples unpacked."""

import dataclasses
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.finetune import bert
from research.data import packing
from research.data.encoding import Encoded
from research.data.pretraining import Batch
from research.experiment import Experiment
from research.runs import ending
from research.runs import run as runs
from research.runs.folder import read_metrics
from research.wire import override


@pytest.fixture
def sst2(shared_data: Path, tmp_path: Path) -> Experiment:
    """Six steps on the first sentences of SST-2, from a pretrained model of two layers, without dropout."""
    (tmp_path / 'glue' / 'SST-2').mkdir(parents=True)
    for split, size in (('train', 700), ('dev', 100)):
        with (shared_data / 'glue' / 'SST-2' / f'{split}.tsv').open(encoding='utf-8') as lines:
            (tmp_path / 'glue' / 'SST-2' / f'{split}.tsv').write_text(''.join(islice(lines, size + 1)), encoding='utf-8')
    changes = {
        'start': str(shared_data / 'bert_tiny'),
        'data.folder': str(tmp_path / 'glue'),
        'data.pack': True,
        'data.select': 'last',
        'run.epochs': 0.0,
        'run.steps': 6,
        'run.log_every': 1,
        'optimizer.lr': 1e-3,
        'machine.prefetch': 0,
    }
    x = override(bert('sst2'), changes)
    model = dataclasses.replace(x.model, dropout=0.0, attention_dropout=0.0, head_dropout=0.0, unroll=1)
    return dataclasses.replace(x, model=model)


def test_a_run_on_packed_examples_has_the_numbers_of_the_same_examples_unpacked(
    sst2: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in ('measure_latency', 'measure_smoothness'):
        monkeypatch.setattr(ending, program, lambda *_: None)
    shapes: list[tuple[int, ...]] = []
    lay_out: Callable[..., Batch] = packing.lay_out

    def recorded(*given: Any) -> Batch:
        batch = lay_out(*given)
        shapes.append(batch['ids'].shape)
        return batch

    monkeypatch.setattr(packing, 'lay_out', recorded)
    packed = runs.run(sst2, tmp_path / 'packed')

    def unpacked(train: Encoded, examples: np.ndarray, *_: Any) -> Batch:
        return train.make(examples)

    monkeypatch.setattr(packing, 'lay_out', unpacked)
    plain = runs.run(sst2, tmp_path / 'plain')

    assert len(shapes) == 6 and all(rows < 32 and rows % 8 == 0 and length <= 80 for rows, length in shapes)
    one, two = (read_metrics(tmp_path / name) for name in ('packed', 'plain'))
    for name in ('train/loss', 'train/gradient_norm'):
        values = [[line[name] for line in lines if name in line] for lines in (one, two)]
        assert len(values[0]) == 6
        np.testing.assert_allclose(*values, rtol=1e-4)
    assert packed['metrics']['dev/label'] == pytest.approx(plain['metrics']['dev/label'], rel=1e-4)
    assert packed['metrics']['dev/accuracy'] == plain['metrics']['dev/accuracy']
    assert 'train: 32 examples share 8 rows of' in (tmp_path / 'packed' / 'log.txt').read_text()
    assert json.loads((tmp_path / 'packed' / 'experiment.json').read_text())['data']['pack'] is True
