"""The lock of a run folder: it has one holder, others see it, and it ends with the process."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from research.errors import UserError
from research.runs import lock

HOLD = """
import sys, time
from pathlib import Path
from research.runs import lock
with lock.hold(Path(sys.argv[1])):
    time.sleep(600)
"""


def test_the_current_folder_has_the_lock_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'run').mkdir()
    monkeypatch.chdir(tmp_path / 'run')
    assert lock.find_lock(Path('.')) == lock.find_lock(tmp_path / 'run') == tmp_path / '.locks' / 'run'


def test_one_process_holds_a_lock_and_a_kill_frees_it(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, 'PATIENCE', 0.05)
    monkeypatch.setenv('SLURM_JOB_ID', '7')
    run = tmp_path / 'run'
    assert lock.read_holder(run) is None
    process = subprocess.Popen([sys.executable, '-c', HOLD, str(run)], cwd=root)
    while (held := lock.read_holder(run)) is None or held['process'] != process.pid:
        assert process.poll() is None
        time.sleep(0.02)
    with (
        pytest.raises(lock.HeldError, match=rf'run is in use by process {process.pid} on .* \(Slurm job 7\): wait'),
        lock.hold(run),
    ):
        pass
    process.kill()
    process.wait()
    assert lock.read_holder(run) is None
    with lock.hold(run):
        held = lock.read_holder(run)
        assert held is not None and held['process'] == os.getpid()
    assert not run.exists()


def test_a_lock_without_the_name_of_its_holder_is_held(tmp_path: Path) -> None:
    with lock.hold(tmp_path / 'run'):
        lock.find_lock(tmp_path / 'run').write_text('')
        held = lock.read_holder(tmp_path / 'run')
        assert held is not None and lock.describe_holder(held) == 'process ? on this machine'
    assert issubclass(lock.HeldError, UserError)


def test_a_lock_or_its_folder_that_is_a_link_is_refused_and_its_target_stays(tmp_path: Path) -> None:
    target = tmp_path / 'target'
    target.write_text('precious')
    (tmp_path / 'study' / '.locks').mkdir(parents=True)
    (tmp_path / 'study' / '.locks' / 'run').symlink_to(target)
    assert lock.read_holder(tmp_path / 'study' / 'run') is None
    with pytest.raises(UserError, match=r'\.locks/run is a symbolic link'), lock.hold(tmp_path / 'study' / 'run'):
        pass
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / '.locks').symlink_to(tmp_path / 'study' / '.locks')
    with pytest.raises(UserError, match=r'other/\.locks is a symbolic link'), lock.hold(tmp_path / 'other' / 'new'):
        pass
    assert target.read_text() == 'precious' and not (tmp_path / 'study' / '.locks' / 'new').exists()


def test_a_lock_that_is_a_pipe_or_a_folder_keeps_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / '.locks').mkdir()
    os.mkfifo(tmp_path / '.locks' / 'pipe')
    (tmp_path / '.locks' / 'folder').mkdir()
    assert lock.read_holder(tmp_path / 'pipe') is None and lock.read_holder(tmp_path / 'folder') is None


@pytest.mark.parametrize(
    'content', ['[1]', '{}', '{"process": "x", "machine": 1, "job": null}', '[' * 2000, '9' * 401, '\0' * 50, 'x' * 9000]
)
def test_a_lock_of_another_content_has_an_unknown_holder(tmp_path: Path, content: str) -> None:
    with lock.hold(tmp_path / 'run'):
        lock.find_lock(tmp_path / 'run').write_text(content)
        held = lock.read_holder(tmp_path / 'run')
        assert held is not None and lock.describe_holder(held) == 'process ? on this machine'


def test_a_clock_that_jumps_neither_frees_a_lock_nor_keeps_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, 'PATIENCE', 0.05)
    years = 10 * 365 * 86_400
    with lock.hold(tmp_path / 'run'):
        for jump in (years, -years):
            now = time.time() + jump
            monkeypatch.setattr(time, 'time', lambda now=now: now)
            os.utime(lock.find_lock(tmp_path / 'run'), (now, now))
            assert lock.read_holder(tmp_path / 'run') is not None
            with pytest.raises(lock.HeldError), lock.hold(tmp_path / 'run'):
                pass
    assert lock.read_holder(tmp_path / 'run') is None
    with lock.hold(tmp_path / 'run'):
        pass


def test_a_folder_that_cannot_be_looked_into_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(os, 'open', refuse)
    with pytest.raises(PermissionError):
        lock.read_holder(tmp_path / 'run')
