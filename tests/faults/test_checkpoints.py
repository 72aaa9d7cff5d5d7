"""Checkpoints that were damaged after they were written: found, named, set aside, and the one before is used."""

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from research import checkpoint
from research.checkpoint import Checkpoints, read_params
from research.checkpoint_files import GROWTH, SUMS, find_damage, list_steps, set_aside_damaged
from research.errors import UserError
from research.experiment import Experiment
from research.records import read_lines
from research.runs import run as runs
from research.runs import training
from research.train import State


def state(step: int) -> State:
    """A small State whose values depend on its step."""
    params = {'a': {'kernel': jax.numpy.full((20, 30), step / 7)}, 'b': jax.numpy.arange(3.0) * step}
    return State(jax.numpy.asarray(step, np.int32), jax.random.key(5), params, ({'first': params['b'] * 2},))


@pytest.fixture(scope='module')
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of steps 10, 20 and 30."""
    folder = tmp_path_factory.mktemp('run') / 'checkpoints'
    checkpoints = Checkpoints(folder, keep=3)
    for step in (10, 20, 30):
        checkpoints.save(state(step), score=step / 100)
    checkpoints.close()
    return folder


DAMAGE: dict[str, Callable[[Path], object]] = {
    'truncated': lambda path: path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2]),
    'emptied': lambda path: path.write_bytes(b''),
    'bit flipped': lambda path: path.write_bytes(flip(path.read_bytes())),
    'removed': lambda path: path.unlink(),
}


def flip(content: bytes) -> bytes:
    """`content` with one bit in its middle changed."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]


@pytest.mark.parametrize('kind', DAMAGE)
def test_damage_of_any_file_is_found_and_named(kind: str, saved: Path, tmp_path: Path) -> None:
    names = [path.relative_to(saved / '30') for path in saved.glob('30/*/**/*') if path.is_file()]
    assert len(names) > 15 and find_damage(saved / '30') == ''
    for name in names:
        folder = tmp_path / 'checkpoints'
        shutil.copytree(saved, folder)
        DAMAGE[kind](folder / '30' / name)
        (line,) = set_aside_damaged(folder)
        assert line.startswith('the checkpoint of step 30 is damaged') and name.as_posix() in line, line
        assert (
            line.endswith('set aside as damaged/30') and (tmp_path / 'damaged' / '30').is_dir() and list_steps(folder) == [10, 20]
        )
        shutil.rmtree(tmp_path / 'damaged')
        shutil.rmtree(folder)


@pytest.mark.parametrize('name', ['_CHECKPOINT_METADATA', SUMS])
def test_the_files_beside_the_items_are_needed_too(name: str, saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'checkpoints'
    shutil.copytree(saved, folder)
    (folder / '30' / name).write_text('{')
    assert f'{name} cannot be read' in set_aside_damaged(folder)[0]


def test_the_one_before_is_restored_and_read(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'checkpoints'
    shutil.copytree(saved, folder)
    for step in (20, 30):
        DAMAGE['bit flipped'](min((folder / str(step) / 'params' / 'd').iterdir()))
    with pytest.raises(UserError, match=r'myrun: the checkpoint of step 30 is damaged .*params/d/.* has another checksum'):
        read_params(folder, 'myrun')
    assert len(set_aside_damaged(folder)) == 2
    checkpoints = Checkpoints(folder, keep=3)
    step, restored, notes = checkpoints.resume(state(0))
    checkpoints.close()
    assert step == 10 and notes == ['continues from the checkpoint of step 10']
    np.testing.assert_array_equal(restored.params['a']['kernel'], state(10).params['a']['kernel'])


def test_a_checkpoint_without_checksums_is_used_or_set_aside(saved: Path, tmp_path: Path) -> None:
    """As earlier versions wrote them."""
    folder = tmp_path / 'checkpoints'
    shutil.copytree(saved, folder)
    for step in (10, 20, 30):
        (folder / str(step) / SUMS).unlink()
    (folder / '30' / 'training' / 'manifest.ocdbt').write_bytes(b'')
    shutil.rmtree(folder / '20' / 'params')
    assert 'params is missing' in set_aside_damaged(folder)[0]
    checkpoints = Checkpoints(folder, keep=3)
    step, _, notes = checkpoints.resume(state(0))
    checkpoints.close()
    assert (
        step == 10
        and 'the checkpoint of step 30 is damaged' in notes[0]
        and notes[1].endswith('step 10, which has no checksums.json: damage would not be found')
    )


@pytest.fixture
def stopped(tiny: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_device: None) -> Any:
    """A run of 12 steps that stopped after step 9, with the checkpoints of steps 3, 6 and 9: (its experiment, its folder)."""
    x = tiny('bert', {'run.steps': 12, 'run.checkpoint_every': 3, 'run.keep': 3})
    original = training.Recorder.record

    def record(self: Any, step: int, metrics: Any) -> bool:
        if step == 10:
            raise RuntimeError('a power loss')
        return original(self, step, metrics)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match='a power loss'):
        patch.setattr(training.Recorder, 'record', record)
        runs.run(x, tmp_path / 'run')
    assert list_steps(tmp_path / 'run' / 'checkpoints') == [3, 6, 9]
    return x, tmp_path / 'run'


def test_a_run_goes_on_from_the_newest_good_checkpoint(stopped: tuple[Experiment, Path], tmp_path: Path) -> None:
    x, workdir = stopped
    whole = runs.run(x, tmp_path / 'whole')
    DAMAGE['truncated'](min((workdir / 'checkpoints' / '9' / 'params' / 'ocdbt.process_0' / 'd').iterdir()))
    result = runs.run(x, workdir)
    log = (workdir / 'log.txt').read_text()
    assert (
        'the checkpoint of step 9 is damaged (params/ocdbt.process_0/d/' in log and 'continues from the checkpoint of step 6' in log
    )
    assert result['metrics'] == whole['metrics']
    assert [line['step'] for line in read_lines(workdir / 'metrics.jsonl') if 'train/loss' in line] == list(range(1, 13))
    one, two = (read_params(folder / 'checkpoints', '')[1] for folder in (workdir, tmp_path / 'whole'))
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_a_run_whose_checkpoints_are_all_damaged_begins_anew(stopped: tuple[Experiment, Path]) -> None:
    x, workdir = stopped
    for step in (3, 6, 9):
        DAMAGE['removed'](workdir / 'checkpoints' / str(step) / 'training' / '_METADATA')
    result = runs.run(x, workdir)
    assert 'no good checkpoint is left: the run begins anew' in (workdir / 'log.txt').read_text()
    assert result['steps'] == 12 and sorted(path.name for path in (workdir / 'damaged').iterdir()) == ['3', '6', '9']
    assert [line['step'] for line in read_lines(workdir / 'metrics.jsonl') if 'train/loss' in line] == list(range(1, 13))


@pytest.mark.parametrize('moved', [True, False])
def test_a_folder_that_is_moved_or_removed_while_a_run_writes_there(
    moved: bool, tiny: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_device: None
) -> None:
    workdir, original = tmp_path / 'run', training.Recorder.record

    def record(self: Any, step: int, metrics: Any) -> bool:
        if step == 5:
            self._parts.checkpoints.wait()
            workdir.rename(tmp_path / 'elsewhere') if moved else shutil.rmtree(workdir)
        return original(self, step, metrics)

    monkeypatch.setattr(training.Recorder, 'record', record)
    with pytest.raises(UserError, match='run was removed or moved while the run was writing there: step 6 is not saved'):
        runs.run(tiny('bert', {'run.steps': 12, 'run.checkpoint_every': 3}), workdir)
    assert not workdir.exists()
    assert not moved or list_steps(tmp_path / 'elsewhere' / 'checkpoints') == [3]


def test_a_disk_that_is_full_is_one_line(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path / 'run' / 'checkpoints')

    def refuse(*arguments: Any) -> None:
        raise OSError(28, 'No space left on device', 'checksums.json')

    monkeypatch.setattr(checkpoint, 'write_record', refuse)  # as when the last file of a checkpoint does not fit
    checkpoints.save(state(10))
    with pytest.raises(UserError, match=r'checkpoints: a checkpoint cannot be written \(no space left on device\)\. Make room'):
        checkpoints.wait()
    monkeypatch.undo()
    checkpoints.close()
    assert list_steps(tmp_path / 'run' / 'checkpoints') == []


def test_a_slow_disk_and_a_clock_that_jumps_change_nothing(
    tiny: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_device: None
) -> None:
    x = tiny('bert', {'run.steps': 4, 'run.checkpoint_every': 1, 'run.keep': 4})
    whole = runs.run(x, tmp_path / 'whole')
    clock, sign, jumps = time.time, Checkpoints._sign, iter((-86_400.0, 86_400.0, 0.0, 0.0))

    def wait(self: Checkpoints) -> None:
        jump = next(jumps)
        monkeypatch.setattr('time.time', lambda: clock() + jump)
        time.sleep(0.3)
        sign(self)

    monkeypatch.setattr(Checkpoints, '_sign', wait)
    result = runs.run(x, tmp_path / 'slow')
    assert result['metrics'] == whole['metrics'] and list_steps(tmp_path / 'slow' / 'checkpoints') == [1, 2, 3, 4]
    assert all(find_damage(path) == '' for path in (tmp_path / 'slow' / 'checkpoints').iterdir())
    assert 0 < result['wall_seconds'] < 600 and 0 < result['train_seconds'] < 600


# ---- From strangers -------------------------------------------------------------------------------------------------------------


def rewrite(folder: Path, state: State) -> Path:
    """The folder of the checkpoints of a run, with `state` alone, and without checksums."""
    shutil.rmtree(folder, ignore_errors=True)
    checkpoints = Checkpoints(folder)
    checkpoints.save(state)
    checkpoints.close()
    (folder / str(int(state.step)) / SUMS).unlink()
    return folder


def test_parameters_that_would_take_far_more_memory_than_their_files_are_refused(tmp_path: Path) -> None:
    zeros = {'a': jax.numpy.zeros((2500, 2000))}
    folder = rewrite(tmp_path / 'checkpoints', dataclasses.replace(state(3), params=zeros, moments=()))
    assert sum(path.stat().st_size for path in (folder / '3' / 'params').rglob('*')) * GROWTH < 20_000_000
    with pytest.raises(UserError, match=r'^x: its checkpoints .*arrays of 20,000,000 bytes in files of [\d,]+: over 100 times'):
        read_params(folder, 'x')


def test_an_array_in_chunks_larger_than_itself_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = rewrite(tmp_path / 'checkpoints', state(3))
    (leaf, *_) = leaves = checkpoint.read_leaves(folder / '3' / 'params')
    assert leaf.storage.chunk_shape == leaf.shape
    other = dataclasses.replace(leaf, storage=dataclasses.replace(leaf.storage, chunk_shape=(2**30, 30)))
    monkeypatch.setattr(checkpoint, 'read_leaves', lambda item: [other, *leaves[1:]])
    found = r'an array of shape \(20, 30\) in chunks of shape \(1073741824, 30\)'
    with pytest.raises(UserError, match=f'^x: .*{found}'):
        read_params(folder, 'x')
    with pytest.raises(ValueError, match=found):
        Checkpoints(folder, read_only=True).restore(3, state(0))


def test_a_checkpoint_that_lacks_a_chunk_and_one_of_other_shapes_are_one_line(tmp_path: Path) -> None:
    folder = rewrite(tmp_path / 'checkpoints', state(3))
    other = dataclasses.replace(state(0), params={'a': {'kernel': jax.numpy.zeros((4, 30))}, 'b': jax.numpy.arange(3.0)})
    checkpoints = Checkpoints(folder)
    (folder / '3' / SUMS).write_text('{}')
    with pytest.raises(UserError, match=r'3 does not fit the run \(.*shape.*\): give another --workdir'):
        checkpoints.resume(other)
    checkpoints.close()
    (folder / '3' / SUMS).unlink()
    for path in (folder / '3' / 'params').rglob('d/*'):
        path.unlink()
    with pytest.raises(UserError, match=f'^x: its checkpoints cannot be read .{folder}: .*Restore them from a copy$'):
        read_params(folder, 'x')
