"""A report on a disk that is full or cannot be written: one line, and the report before stays whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import large_study
from research.errors import UserError
from research.study.__main__ import main
from research.study.reporting.report import report

LIMITED = """
import resource, sys
from research.study.__main__ import main
for limit in sys.argv[2:]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    print(main(['report', sys.argv[1]]))
"""


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The folder of a finished study."""
    folder = tmp_path / 'study'
    large_study.build(folder, 3, 2000, left=0)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a study that is no run's."""
    files = [path for path in folder.rglob('*') if path.is_file() and not path.relative_to(folder).parts[0].startswith('run-')]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize('yesterday', [False, True])
def test_a_report_on_a_full_disk_is_whole_or_not_there(finished: Path, root: Path, yesterday: bool) -> None:
    """The report of yesterday stays as it was."""
    if yesterday:
        report(finished)
        (finished / 'run-000' / 'result.json').unlink()
    before, limits = contents(finished), ('100', '3000', '60000')
    done = subprocess.run([sys.executable, '-c', LIMITED, str(finished), *limits], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0 and done.stdout.split() == ['2'] * len(limits), done.stderr
    said = f'error: {finished}: no report could be written, and what was there is as it was: File too large'
    assert done.stderr.splitlines() == [said] * len(limits)
    assert contents(finished) == before


def test_a_file_that_cannot_be_written_leaves_no_other(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def fill(path: Path, content: bytes) -> int:
        if 'report.md' in path.name:
            raise OSError(28, 'No space left on device')
        return write(path, content)

    before = contents(finished)
    monkeypatch.setattr('research.study.reporting.report.draw', lambda *_: [])
    monkeypatch.setattr(Path, 'write_bytes', fill)
    with pytest.raises(UserError, match='no report could be written, and what was there is as it was: No space left on device'):
        report(finished)
    assert contents(finished) == before


@pytest.mark.skipif(os.geteuid() != 0, reason='mounts a small disk, as root')
def test_a_report_on_a_small_disk_that_is_full_or_read_only(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / 'disk'
    disk.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=600k', 'tmpfs', str(disk)], capture_output=True).returncode:
        pytest.skip('nothing can be mounted here')
    try:
        subprocess.run(['cp', '-r', str(finished), str(disk)], check=True)
        descriptor = os.open(disk / 'filling', os.O_CREAT | os.O_WRONLY)
        with pytest.raises(OSError, match='No space left'):
            while True:
                os.write(descriptor, b'x' * 4096)
        os.close(descriptor)
        before = contents(disk / 'study')

        def say() -> tuple[int, str]:
            capsys.readouterr()
            return main(['report', str(disk / 'study')]), capsys.readouterr().err

        status, said = say()
        assert status == 2 and said.count('\n') == 1 and 'No space left on device' in said
        assert contents(disk / 'study') == before
        (disk / 'filling').unlink()
        assert say()[0] == 0
        subprocess.run(['mount', '-o', 'remount,ro', str(disk)], check=True)
        status, said = say()
        assert status == 2 and said.count('\n') == 1 and 'Read-only file system' in said
    finally:
        subprocess.run(['umount', str(disk)], check=True)
