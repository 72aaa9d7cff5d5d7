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
