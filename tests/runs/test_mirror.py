"""Runs whose folder is in a bucket: what is uploaded and when, who continues it, and what is refused."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

import launch
from research import api, copies
from research.checkpoint_files import SUMS
from research.errors import Interrupted, UserError
from research.experiment import Experiment
from research.records import parse_json
from research.remote import Folder, parse
from research.runs import mirror as mirrors
from research.runs import sources
from research.runs.mirror import Mirror, TakenError
from research.runs.run import run
from tests import buckets

PLACE = parse('gs://b/runs/x', '--workdir')


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """machine(NAME) goes on as on another machine, with a cache of its own; the bucket stays. Begins on 'first'."""

    def go_to(name: str) -> None:
        monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / name))

    buckets.use(monkeypatch)
    go_to('first')
    return go_to


@contextlib.contextmanager
def session(mirror: Mirror | None = None):
    """A session on PLACE; gives (its Mirror, the lines for the log)."""
    mirror = mirror or Mirror(PLACE)
    with contextlib.ExitStack() as held:
        yield mirror, mirror.join(held, True)


def write(mirror: Mirror, name: str, text: str = '{}') -> None:
    """Writes a file of the copy."""
    (mirror.folder / name).parent.mkdir(parents=True, exist_ok=True)
    (mirror.folder / name).write_text(text)


def write_checkpoint(mirror: Mirror, step: int) -> None:
    """Writes what counts as a whole checkpoint."""
    for name in ('params/a', 'training/b', SUMS):
        write(mirror, f'checkpoints/{step}/{name}', f'{step} {name}')


def there() -> set[str]:
    """The objects of PLACE, but for session.json."""
    return {name.removeprefix('b/runs/x/') for name in buckets.contents()} - {copies.SESSION}


def test_a_run_in_a_bucket_has_the_files_of_one_on_a_disk_and_starts_others(
    tiny: Callable[..., Experiment], tmp_path: Path, machine: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    x = tiny('bert')
    run(x, tmp_path / 'x')
    mirror = Mirror(PLACE)
    result = run(x, mirror.folder, mirror=mirror)
    files = {name for name in copies.list_files(tmp_path / 'x') if '/ocdbt.process_0/d/' not in name and '/d/' not in name}
    found = {name for name in there() if '/d/' not in name}
    assert {name for name in found if 'tensorboard' not in name} == {name for name in files if 'tensorboard' not in name}
    assert 'all files are in gs://b/runs/x' in capsys.readouterr().out
    assert parse_json(buckets.contents()['b/runs/x/session.json'].decode(), '')['ended'] is True

    before = buckets.contents()
    machine('second')  # done before: nothing is computed, and no checkpoint is read or deleted
    mirror = Mirror(PLACE)
    assert run(x, mirror.folder, mirror=mirror) == result and not (mirror.folder / 'checkpoints').exists()
    after = buckets.contents()
    assert {name for name in before if before[name] != after[name]} == {'b/runs/x/session.json'} and len(before) == len(after)

    ours, _ = sources.open_model(str(tmp_path / 'x'), tmp_path, 'start')
    theirs, _ = sources.open_model('gs://b/runs/x', tmp_path, 'start')
    jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)
    assert theirs.label.startswith('gs://b/runs/x (step ')
    copy = copies.find_copy(PLACE, 'source')
    assert not [name for name in copies.list_files(copy) if '/training/' in name], 'the moments are not read'


def test_a_killed_run_goes_on_from_its_last_whole_checkpoint_on_another_machine(machine: Callable[[str], None]) -> None:
    with contextlib.suppress(Interrupted), session() as (mirror, notes):
        assert notes == [f'{PLACE}: works on the copy {mirror.folder}, and uploads it every 30 s and at the end']
        write(mirror, 'experiment.json')
        write_checkpoint(mirror, 10)
        write(mirror, 'checkpoints/20.orbax-checkpoint-tmp/params/a')
        write(mirror, '.metrics.jsonl.0123.part')
        raise Interrupted(signal.SIGTERM)
    whole = {'experiment.json', f'checkpoints/10/{SUMS}', 'checkpoints/10/params/a', 'checkpoints/10/training/b'}
    assert there() == whole
    buckets.put('b/runs/x/checkpoints/20/params/a', b'cut')  # its upload was cut short
    machine('second')
    with session() as (second, _):
        assert set(copies.list_files(second.folder)) == whole
        write_checkpoint(second, 30)
        (second.folder / 'checkpoints/10/params/a').unlink()
        for name in ('training/b', SUMS):
            (second.folder / 'checkpoints/10' / name).unlink()
    assert there() == {'experiment.json', *(f'checkpoints/30/{name}' for name in ('params/a', 'training/b', SUMS))}
    machine('first')  # whose copy is now older: it becomes equal
    with session() as (first, _):
        assert set(copies.list_files(first.folder)) == there()


def test_what_was_not_uploaded_is_kept_and_uploaded_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Folder, name: str, content: bytes) -> None:
        raise UserError(f'{self}: it cannot be reached')

    said = r'cannot be reached\. What is not uploaded stays in .*; the same command uploads it'
    with monkeypatch.context() as patched, pytest.raises(UserError, match=said), session() as (mirror, _):
        write(mirror, 'experiment.json', 'old')
        mirror._upload()
        write(mirror, 'experiment.json', 'newer')
        patched.setattr(Folder, 'write', fail)
    with session():
        pass
    assert buckets.contents()['b/runs/x/experiment.json'] == b'newer'


def test_a_newer_copy_is_kept(machine: Callable[[str], None]) -> None:
    with session() as (mirror, _):
        write(mirror, 'experiment.json', 'old')
        write_checkpoint(mirror, 10)
    write(mirror, 'experiment.json', 'newer')
    (mirror.folder / 'checkpoints/10/params/a').unlink()
    with session() as (again, _):
        assert (again.folder / 'experiment.json').read_text() == 'newer'
        assert (again.folder / 'checkpoints/10/params/a').is_file(), 'what is missing is read again'
    assert buckets.contents()['b/runs/x/experiment.json'] == b'newer'


def test_a_second_session_takes_over_and_the_first_stops(machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, 'EVERY', 0.02)
    got: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    try:
        said = rf'gs://b/runs/x: process {os.getpid()} on .* writes there now, so this run stops'
        with pytest.raises(TakenError, match=said), session() as (first, _):
            write(first, 'experiment.json', 'first')
            wait_for(lambda: 'experiment.json' in there())
            machine('second')
            with session() as (_, notes):
                assert f'process {os.getpid()} on' in notes[1] and 'has not ended its session there' in notes[1]
                wait_for(lambda: got == [signal.SIGTERM])
            write(first, 'experiment.json', 'late')
    finally:
        signal.signal(signal.SIGTERM, before)
    assert buckets.contents()['b/runs/x/experiment.json'] == b'first'


def wait_for(done: Callable[[], bool]) -> None:
    """Waits until `done()`, for 20 seconds at most."""
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_upload_that_fails_is_said_and_tried_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(mirrors, 'EVERY', 0.02)
    whole, failed = Mirror._upload, []

    def fail_once(self: Mirror) -> None:
        if not failed:
            failed.append(self)
            raise UserError(f'{self.place}: it cannot be reached')
        whole(self)

    monkeypatch.setattr(Mirror, '_upload', fail_once)
    with session() as (mirror, _):
        write(mirror, 'experiment.json')
        wait_for(lambda: 'experiment.json' in there())
    assert 'x: gs://b/runs/x: it cannot be reached; tried again' in capsys.readouterr().out


def test_the_error_of_the_run_matters_more_than_that_of_the_upload(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match='the loss is not finite'), session() as (mirror, _):
        write(mirror, 'experiment.json')
        buckets.put('b/runs/x/session.json', b'nonsense')
        raise UserError('the loss is not finite')
    assert 'its session.json is gone, so this run stops' in capsys.readouterr().err


def test_a_checkpoint_that_the_run_removes_meanwhile_is_uploaded_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    with session() as (mirror, _):
        write(mirror, 'experiment.json')
        write_checkpoint(mirror, 10)
        put = Folder.put

        def remove_first(self: Folder, path: Path, name: str) -> None:
            (mirror.folder / name).unlink()
            put(self, path, name)

        monkeypatch.setattr(Folder, 'put', remove_first)
        mirror._upload()
        assert f'checkpoints/10/{SUMS}' in there() and 'checkpoints/10/params/a' in there()
        monkeypatch.setattr(Folder, 'put', put)
        write_checkpoint(mirror, 20)
        mirror._upload()
        assert not any(name.startswith('checkpoints/10/') for name in there())


def test_a_folder_of_something_else_is_refused_and_stays_as_it_is() -> None:
    buckets.put('b/runs/x/thesis.pdf')
    with pytest.raises(UserError, match=r'gs://b/runs/x is in use, but is no run folder: it has no experiment\.json'), session():
        pass
    assert list(buckets.contents()) == ['b/runs/x/thesis.pdf']


def test_a_run_that_was_never_possible_leaves_nothing(tiny: Callable[..., Experiment]) -> None:
    mirror = Mirror(PLACE)
    with pytest.raises(UserError, match='warm-up|warmup'):
        run(tiny('bert', {'optimizer.warmup': 1000.0}), mirror.folder, mirror=mirror)
    assert buckets.contents() == {}


def test_a_process_on_another_disk_is_refused(machine: Callable[[str], None]) -> None:
    with session(), contextlib.ExitStack() as held:
        assert Mirror(PLACE).join(held, False) == []
        machine('second')
        with pytest.raises(UserError, match='must be the same for all processes of the run: set XDG_CACHE_HOME to a folder that'):
            Mirror(PLACE).join(held, False)


def test_a_run_of_a_study_is_not_named_from_a_bucket(tiny: Callable[..., Experiment]) -> None:
    mirror = Mirror(PLACE)
    with pytest.raises(
        UserError, match="start='@first' names a run of a study, which cannot be in a bucket: give gs://b/runs/first"
    ):
        run(tiny('bert', {'start': '@first'}), mirror.folder, mirror=mirror)


def test_the_doors_refuse_what_cannot_be_in_a_bucket(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    def refuse(*arguments: str) -> str:
        assert launch.main(['launch.py', *arguments]) == 2
        return capsys.readouterr().err

    assert (
        refuse('--workdir=gs://b/runs/x') == 'error: gs://b/runs/x is no run folder: it has no experiment.json; give a --config\n'
    )
    assert "did you mean 'gs'" in refuse('--workdir=gcs://b/runs/x', f'--config={root}/configs/bert.py:tiny')
    assert 'a study needs a folder on a disk' in refuse('--workdir=gs://b/s', f'--config={root}/experiments/quickstart.py:tiny')
    with pytest.raises(UserError, match='a study needs a folder on a disk'):
        api.launch(f'{root}/experiments/quickstart.py:tiny', 'gs://b/s')
    assert buckets.contents() == {}


def test_a_run_goes_on_as_its_folder_says(tiny: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(PLACE)
    run(tiny('bert'), mirror.folder, mirror=mirror)
    assert launch.main(['launch.py', '--workdir=gs://b/runs/x']) == 0
