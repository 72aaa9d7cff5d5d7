"""Error texts that only a rare disk, cluster or data set reaches: each by a call of the function that makes it."""

import errno
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from research import parallel
from research.checkpoint_files import list_steps
from research.data import builders, cache, feed, sequences
from research.data.corpus import Part
from research.data.settings import Data
from research.errors import DamagedError, UserError
from research.experiment import Experiment
from research.files import open_part_folder
from research.machine import Machine
from research.models.architecture import Architecture
from research.runs import opening
from research.runs.reopening import reading
from research.study import request
from research.study.execution import slurm
from research.study.execution.settings import Cluster, Execution
from research.study.stored import read_needs
from research.surgery import Surgery, inherit
from research.wire import from_wire
from tests.fuzz.targets import study


@pytest.mark.parametrize(
    ('splits', 'kind', 'says'),
    [
        ({'test': 1}, 'array_record', r"tfds:notes has no split 'train' \(there are: test\)"),
        ({'train': 1}, 'tfrecord', "tfds:notes lies in '/data' as tfrecord, which needs TensorFlow to be read; where there are"),
    ],
)
def test_a_dataset_that_is_stored_otherwise(monkeypatch: pytest.MonkeyPatch, splits: dict[str, int], kind: str, says: str) -> None:
    info = SimpleNamespace(splits=splits, file_format=SimpleNamespace(value=kind))
    monkeypatch.setattr(builders, 'builder', lambda name, folder: SimpleNamespace(info=info, data_dir='/data'))
    with pytest.raises(UserError, match=says):
        builders.open_builder('notes', '')


def test_the_current_folder_cannot_be_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match='is the current folder, which cannot be replaced'), open_part_folder(Path('.')):
        raise AssertionError('it was opened')
    assert not list(tmp_path.iterdir())


def test_a_dataset_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(split: str) -> None:
        raise ValueError('bad\nfooter')

    monkeypatch.setattr(builders, 'open_builder', lambda name, folder: SimpleNamespace(as_data_source=broken, data_dir='/data'))
    with pytest.raises(UserError, match=r"tfds:notes: a shard in '/data' is missing or corrupt, .* \(bad footer\)"):
        next(builders.documents('notes', 'text', ''))


def test_a_cache_on_a_disk_without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, wait: bool) -> bool:
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(cache, 'take_lock', refuse)
    with pytest.raises(UserError, match=r'machine.cache: its file system cannot lock folders \(No locks available\)'):
        cache.lock_folder(0, wait=False)


def test_data_that_change_while_a_process_makes_batches(text: dict[str, Any], tmp_path: Path) -> None:
    data = Data(source=text['data.source'], length=32, held_out=0.2)
    given = {'batch': 8, 'seed': 0, 'vocabulary': 200}
    with pytest.raises(UserError, match='the data have changed since the run began; restore them'):
        feed.batches_of(data, Machine(str(tmp_path)), 'another', **given)


def test_sentences_of_one_piece_have_no_order() -> None:
    part = Part(np.arange(3), np.ones(3, np.int32), np.arange(4), np.arange(3))
    with pytest.raises(UserError, match='data.pairs=sop needs a document of two pieces at least'):
        sequences.sequences(part, length=16, pairs='sop', short=0.0, fill='sentences', pack=False, seed=0)


def test_a_task_without_training_examples(tiny: Callable[..., Experiment]) -> None:
    nothing: Any = SimpleNamespace(examples=0)
    with pytest.raises(UserError, match="the task 'ax' has no training examples: give --config.run.steps=0"):
        opening.number_of_steps(tiny('bert', {'data.task': 'ax'}), nothing)


def test_a_start_that_has_no_tokenizer(tiny: Callable[..., Experiment], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data.tokenizer='start', but there is no start with a tokenizer"):
        opening.load_data(tiny('bert', {'data.tokenizer': 'start'}), tmp_path, None, None, parallel.make_plan('jit', 8, 1))


def test_neither_a_config_nor_a_folder() -> None:
    with pytest.raises(UserError, match='give --config=FILE'):
        request.define(None, None, {})


def test_a_table_of_sharing_fits_one_depth(small: Architecture) -> None:
    start = replace(small, sharing='table', table=((0, 0), (0, 0)))
    with pytest.raises(UserError, match='surgery.keep=0.5, but the start shares its layers by a table'):
        inherit(Surgery(inherit=True, keep=0.5), small, start)


def test_a_cluster_that_refuses_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(self: object, work: object, names: list[str]) -> None:
        raise subprocess.CalledProcessError(1, ['sbatch'], b'', b'')

    monkeypatch.setattr(slurm.submitit.SlurmExecutor, 'affinity', staticmethod(lambda: 2))
    monkeypatch.setattr(slurm.submitit.SlurmExecutor, 'map_array', refuse)
    with pytest.raises(UserError, match=r"sbatch refused 2 run\(s\) of widths, a first: Command '\['sbatch'\]' returned"):
        slurm.submit('widths', tmp_path, ['a', 'b'], (), Execution('slurm', 0, 1, '', Cluster()))


def test_a_study_whose_runs_have_another_form(tmp_path: Path) -> None:
    stored = json.loads(study()['study.json'])
    next(iter(stored['runs'].values()))['experiment']['start'] = 5
    (tmp_path / 'study.json').write_text(json.dumps(stored))
    with pytest.raises(UserError, match='study.json is from another version of this code'):
        read_needs(tmp_path)


def test_a_value_that_is_too_long() -> None:
    with pytest.raises(UserError, match='^name has 20,001 characters: at most 20,000 are read$'):
        from_wire({'name': 'a' * 20_001})


def test_what_reading_a_checkpoint_raises_is_damage(teacher: Path) -> None:
    (*_, step) = list_steps(teacher / 'checkpoints')
    says = f'the checkpoint of step {step} cannot be read: ValueError: odd bytes$'
    with pytest.raises(DamagedError, match=says), reading(teacher, step):
        raise ValueError('odd bytes\nand more')
