"""A study on a real Slurm: job arrays, dependencies, a killed and requeued job, a run over two nodes, a refusing sbatch.

tests/slurm/cluster.sh start && python -m pytest -m slurm && tests/slurm/cluster.sh stop
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from research.experiment import Experiment
from research.records import read_record
from research.study.execution import queue
from research.wire import to_wire

pytestmark = pytest.mark.slurm
PATIENCE = 400.0  # seconds for a job to begin and load jax, on a busy machine

FILE = """
import json

from research.study.columns import Column
from research.study.study import Row, Study, Table
from research.wire import from_wire

SIZES = ()


def get_study():
    wires = json.loads({wires!r})
    rows = tuple(Row(name, {{'run': (name,)}}) for name in wires)
    table = Table('On Slurm', rows, (Column('Loss', 'run', 'metrics:dev/mlm', better='min'),), score='Loss')
    return Study('on-slurm', {{name: from_wire(wire) for name, wire in wires.items()}}, table)
"""


@pytest.fixture(scope='module')
def cluster(pytestconfig: pytest.Config) -> None:
    """A Slurm with two idle nodes."""
    asked = 'slurm' in str(pytestconfig.getoption('markexpr'))
    if not asked or shutil.which('sinfo') is None or subprocess.run(['sinfo'], capture_output=True).returncode:
        pytest.skip(
            'minutes on a Slurm cluster: tests/slurm/cluster.sh start (as root) makes one of two nodes here; then make slurm'
        )


@pytest.fixture
def launch(root: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """launch(runs, arguments …) starts launch.py on a study of `runs` in tmp_path/study."""

    def start(runs: dict[str, Experiment], *arguments: str) -> subprocess.Popen[str]:
        wires = json.dumps({name: to_wire(x).to_dict() for name, x in runs.items()})
        (tmp_path / 'asked.py').write_text(FILE.format(wires=wires))
        settings = {**os.environ, 'JAX_COMPILATION_CACHE_DIR': str(root / '.jax_cache')}
        settings |= {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2', 'JAX_NUM_CPU_DEVICES': '1'}
        command = [sys.executable, str(root / 'launch.py'), f'--config={tmp_path}/asked.py', f'--workdir={tmp_path}/study']
        return subprocess.Popen(
            [*command, '--executor=slurm', *arguments], env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + PATIENCE
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, 'nothing happened'
        time.sleep(0.05)


def job_of(folder: Path, name: str) -> str:
    record = read_record(queue.job_file(folder, name))
    assert record is not None
    return record['job']


def hurry(job: str) -> None:
    """Slurm lets a requeued job wait for two minutes."""
    subprocess.run(['scontrol', 'update', f'JobId={job}', 'StartTime=now'], capture_output=True)


@pytest.mark.usefixtures('cluster')
def test_a_study_survives_a_killed_and_requeued_job_and_a_killed_launcher(
    launch: Callable[..., subprocess.Popen[str]], tiny: Callable[..., Experiment], tmp_path: Path
) -> None:
    one = tiny('bert', {'run.steps': 400, 'run.checkpoint_every': 5, 'run.log_every': 20, 'optimizer.warmup': 10.0})
    two = tiny('bert', {'start': '@one', 'run.steps': 4, 'optimizer.warmup': 1.0, 'seed': 1})
    runs, folder = {'one': one, 'two': two, 'three': tiny('bert', {'start': '@one', 'seed': 2})}, tmp_path / 'study'
    process = launch(runs)
    wait_for(lambda: any(path.name.isdigit() for path in folder.glob('one/checkpoints/*')), process)
    jobs = {name: job_of(folder, name) for name in runs}
    assert jobs['two'].endswith('_0') and jobs['three'] == jobs['two'].replace('_0', '_1'), 'one array waits for one job'
    assert queue.read_queue()[jobs['two']] == ('PENDING', 'Dependency')
    process.kill()
    process.communicate()
    subprocess.run(['scontrol', 'requeue', jobs['one']], check=True)
    again = launch(runs)

    def continued() -> bool:
        hurry(jobs['one'])
        log = folder / 'one' / 'log.txt'
        return 'continues from the checkpoint of step' in log.read_text()

    wait_for(continued, again)
    out, err = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, out + err
    assert [read_record(folder / name / 'result.json') is not None for name in runs] == [True] * 3
    assert [line['step'] for line in _lines(folder / 'one') if 'train/loss' in line] == list(range(20, 401, 20))
    assert '| one |' in (folder / 'report.md').read_text()
    status = subprocess.run([sys.executable, '-m', 'research.study', 'status', str(folder)], capture_output=True, text=True)
    assert 'on-slurm: 3 done' in status.stdout


def _lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


@pytest.mark.usefixtures('cluster')
def test_one_run_goes_over_two_nodes(
    launch: Callable[..., subprocess.Popen[str]], tiny: Callable[..., Experiment], tmp_path: Path
) -> None:
    x = tiny('bert', {'run.steps': 6, 'run.checkpoint_every': 3, 'model.dropout': 0.0, 'model.attention_dropout': 0.0})
    process = launch({'wide': x}, '--nodes=2')
    out, err = process.communicate(timeout=2 * PATIENCE)
    said = ''.join(path.read_text() for path in (tmp_path / 'study').rglob('*_log.*'))
    assert process.returncode == 0, out + err + said
    folder = tmp_path / 'study' / 'wide'
    environment, result = (json.loads((folder / f'{name}.json').read_text()) for name in ('environment', 'result'))
    assert environment['devices'] == {'platform': 'cpu', 'kind': 'cpu', 'count': 2, 'processes': 2}
    assert (folder / 'processes' / '1' / 'log.txt').is_file() and result['steps'] == 6
    assert [line['train/loss'] for line in _lines(folder) if 'train/loss' in line] == [
        line['train/loss'] for line in _lines(folder / 'processes' / '1') if 'train/loss' in line
    ]
    from research.runs import run as runs

    alone = runs.run(x, tmp_path / 'alone')
    assert alone['metrics'] == pytest.approx(result['metrics'], rel=1e-4)


@pytest.mark.usefixtures('cluster')
def test_what_sbatch_refuses_is_told_in_its_words(
    launch: Callable[..., subprocess.Popen[str]], tiny: Callable[..., Experiment], tmp_path: Path
) -> None:
    process = launch({'one': tiny('bert')}, '--partition=nowhere')
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and err.count('\n') == 1, err
    assert err.startswith(
        'error: sbatch refused 1 run(s) of on-slurm, one first: sbatch: error: invalid partition specified: nowhere'
    )
    assert not (tmp_path / 'study' / 'one').exists()
