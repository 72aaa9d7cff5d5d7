"""The batch script that is handed to Slurm: a sbatch that keeps it stands in for the cluster."""

import os
import shlex
from pathlib import Path

import pytest

from research.errors import UserError
from research.study.execution import queue, slurm
from research.study.execution.settings import Cluster, Execution
from research.study.ledger import enter
from research.study.study import Study


@pytest.fixture
def sbatch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder first on PATH, whose sbatch accepts every script."""
    folder = tmp_path_factory.mktemp('bin')
    for name, text in (('sbatch', 'echo Submitted batch job 7'), ('squeue', 'true'), ('scontrol', 'true'), ('srun', 'true')):
        (folder / name).write_text(f'#!/bin/sh\n{text}\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{folder}{os.pathsep}{os.environ["PATH"]}')
    return folder


@pytest.mark.usefixtures('sbatch')
def test_paths_are_quoted_and_the_script_is_for_its_owner(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, 'ROOT', Path("/a b/it's $(touch x)"))
    enter(study, tmp_path)
    how = Execution(executor='slurm', cluster=Cluster(extra=('export=ALL,HF_TOKEN=secret', 'exclusive')))
    slurm.submit(study.name, tmp_path, ['teacher'], (), how)
    script = next((tmp_path / '.slurm').rglob('*submission.sh'))
    line = next(line for line in script.read_text().splitlines() if line.startswith('export PYTHONPATH='))
    assert shlex.split(line)[1] == "PYTHONPATH=/a b/it's $(touch x)${PYTHONPATH:+:$PYTHONPATH}"
    assert script.stat().st_mode & 0o777 == 0o600, 'it holds what --sbatch=export=… sets'
    assert '#SBATCH --exclusive\n' in script.read_text() and '#SBATCH --export=ALL,HF_TOKEN=secret\n' in script.read_text()
    job = queue.read_job(tmp_path, 'teacher')
    assert job is not None and job.job.startswith('7')


@pytest.mark.usefixtures('sbatch')
def test_a_folder_of_jobs_with_a_link_and_a_workdir_with_a_line_break_are_refused(study: Study, tmp_path: Path) -> None:
    (tmp_path / '.slurm').mkdir()
    (tmp_path / '.slurm' / 'jobs').symlink_to(tmp_path)
    with pytest.raises(UserError, match=r'\.slurm/jobs is a symbolic link'):
        slurm.submit(study.name, tmp_path, ['teacher'], (), Execution(executor='slurm'))
    with pytest.raises(UserError, match='holds control characters, which no batch script can: give another'):
        slurm.execute(study, tmp_path / 'a\nb', ['teacher'], Execution(executor='slurm'))


@pytest.mark.usefixtures('sbatch')
def test_a_pickle_that_waits_under_the_number_of_a_job_is_not_loaded(study: Study, tmp_path: Path) -> None:
    enter(study, tmp_path)
    waiting = tmp_path / '.slurm' / '7_0' / '7_0_submitted.pkl'
    waiting.parent.mkdir(parents=True)
    waiting.write_bytes(b'a stranger')
    slurm.submit(study.name, tmp_path, ['teacher'], (), Execution(executor='slurm'))
    assert waiting.read_bytes() == b'a stranger'
    (ours,) = (tmp_path / '.slurm').glob('submission-*')
    assert ours.stat().st_mode & 0o777 == 0o700
    assert str(ours) in next(ours.rglob('*submission.sh')).read_text().replace(str(waiting.parent), '')
    assert [path.parent.parent for path in (tmp_path / '.slurm').rglob('*_submitted.pkl') if path != waiting] == [ours]


FOREIGN = ('{}', '[1]', '{"job": 1, "attempts": 0}', '{"job": "7\\n#SBATCH", "attempts": 0}', '{"job": "-M", "attempts": 0}')


@pytest.mark.parametrize('content', FOREIGN)
def test_a_record_of_no_job_is_none(tmp_path: Path, content: str) -> None:
    path = queue.job_file(tmp_path, 'teacher')
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert queue.read_job(tmp_path, 'teacher') is None and queue.find_jobs(['teacher'], tmp_path, {'7': ('RUNNING', '')}) == {}
