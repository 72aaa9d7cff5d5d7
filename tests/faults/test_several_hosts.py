"""Several processes make one run: to the bits of one process, with what remains when one of them dies or never comes."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from research.checkpoint_files import SUMS, find_damage, list_steps
from research.experiment import Experiment
from research.records import read_record
from tests.faults.forks import begin, describe_run, logged

pytestmark = pytest.mark.slow


@dataclasses.dataclass(frozen=True)
class Case:
    """A way to train: a recipe of configs/, and changes of its keys."""

    recipe: str
    changes: dict[str, Any]
    fixtures: tuple[str, ...] = ()  # of these fixtures the changes are added, too


CASES = {
    'pretraining': Case('bert', {'data.masking.policy': 'ngram'}),
    'pmap': Case('albert', {'run.parallel': 'pmap', 'run.accumulate': 2}),
    'distillation': Case('distilbert', {'data.first_length': 16, 'data.first_share': 0.5}, ('teacher',)),
    'task': Case('finetune', {'data.select': 'dev', 'data.buckets': (8, 16)}, ('examples', 'start')),
}


@pytest.fixture
def define(tiny: Callable[..., Experiment], request: pytest.FixtureRequest) -> Callable[[Case], Experiment]:
    """define(case) -> its experiment: plain SGD in float32, whose every step is logged."""

    def define(case: Case) -> Experiment:
        asked: dict[str, Any] = {
            'run.batch': 8,
            'run.steps': 6,
            'run.log_every': 1,
            'run.evaluate_every': 3,
            'run.evaluate_batches': 0,
            'run.keep': 4,
            'optimizer.name': 'sgd',
            'optimizer.warmup': 2.0,
        }
        for name in case.fixtures:
            given = request.getfixturevalue('teacher' if name == 'start' else name)
            asked |= given if name == 'examples' else {name: str(given)}
        return tiny(case.recipe, {**asked, **case.changes})

    return define


# YNNPACK divides a product by the threads of its process, so the same product of another process is rounded otherwise.
KERNELS = '--xla_cpu_experimental_ynn_fusion_type='


class Hosts:
    """The processes of one run, of one device each; a single process has as many devices as `devices`."""

    def __init__(self, root: Path, argument: str, processes: int, devices: int = 1) -> None:
        with socket.socket() as free:
            free.bind(('localhost', 0))
            port = free.getsockname()[1]
        joined = (f'--coordinator=localhost:{port}', f'--processes={processes}') if processes > 1 else ()
        self.outputs = [Path(f'{argument.partition("=")[2]}-{port}-{number}.txt') for number in range(processes)]
        compiled = {'JAX_COMPILATION_CACHE_DIR': str(root / '.jax_cache'), 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2'}
        self.processes: list[subprocess.Popen[bytes]] = []
        for number, output in enumerate(self.outputs):
            command = [sys.executable, '-W', 'ignore', 'launch.py', argument, *joined, *([f'--process={number}'] if joined else [])]
            environment = {**os.environ, **compiled, 'JAX_NUM_CPU_DEVICES': str(devices), 'XLA_FLAGS': KERNELS}
            with output.open('w') as file:
                self.processes.append(subprocess.Popen(command, cwd=root, env=environment, stdout=file, stderr=subprocess.STDOUT))

    def wait(self, seconds: float = 600) -> list[int]:
        """The exit status of each process; what has not ended by then is killed."""
        end = time.monotonic() + seconds
        try:
            return [process.wait(max(end - time.monotonic(), 0.1)) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def said(self) -> str:
        """What all processes have printed."""
        return '\n'.join(f'{output.name}:\n{output.read_text(errors="replace")[-3000:]}' for output in self.outputs)

    def wait_for_step(self, workdir: Path, step: int) -> None:
        """Returns once the step is logged."""
        while logged(workdir) < step:
            assert all(process.poll() is None for process in self.processes), self.said()
            time.sleep(0.1)


@pytest.mark.parametrize('name', CASES)
def test_two_processes_are_one_with_two_devices_bit_for_bit(
    name: str, define: Callable[[Case], Experiment], root: Path, tmp_path: Path
) -> None:
    x, one, two = define(CASES[name]), tmp_path / 'one', tmp_path / 'two'
    alone = Hosts(root, begin(one, x), 1, devices=2)
    assert alone.wait() == [0], alone.said()
    both = Hosts(root, begin(two, x), 2)
    assert both.wait() == [0, 0], both.said()
    found, expected = describe_run(two), describe_run(one)
    assert {part for part in expected if expected[part] != found[part]} == set()
    assert name != 'task' or set(expected['predictions']) == {'predictions.jsonl'}
    for step in list_steps(two / 'checkpoints'):
        checkpoint = two / 'checkpoints' / str(step)
        sums = read_record(checkpoint / SUMS)
        assert sums is not None and find_damage(checkpoint) == ''
        written = {str(path.relative_to(checkpoint)) for path in checkpoint.rglob('*') if path.is_file()}
        assert any('process_1' in path for path in sums['sha256']), 'the second process wrote nothing'
        assert written - set(sums['sha256']) <= {SUMS, '_CHECKPOINT_METADATA', 'commit_success.txt'}


def test_a_run_goes_on_with_another_number_of_processes(define: Callable[[Case], Experiment], root: Path, tmp_path: Path) -> None:
    x = define(Case('bert', {'run.checkpoint_every': 1, 'run.evaluate_every': 0, 'run.steps': 12}))
    whole, changed = tmp_path / 'whole', tmp_path / 'changed'
    alone = Hosts(root, begin(whole, x), 1)
    assert alone.wait() == [0], alone.said()
    argument = begin(changed, x)
    for number, until in ((2, 3), (1, 6), (2, 0)):
        hosts = Hosts(root, argument, number)
        if until:
            hosts.wait_for_step(changed, until)
            hosts.processes[-1].send_signal(signal.SIGTERM)
        assert hosts.wait() == [143 if until else 0] * number, hosts.said()
        assert until == 3 or 'continues from the checkpoint of step' in hosts.said()
    expected, found = describe_run(whole), describe_run(changed)
    assert [line['step'] for line in found['metrics']] == [line['step'] for line in expected['metrics']]
    for name, bits in expected['params'].items():
        np.testing.assert_allclose(np.frombuffer(found['params'][name], 'f4'), np.frombuffer(bits, 'f4'), rtol=0, atol=1e-6)


@pytest.mark.parametrize('victim', [0, 1])
def test_a_process_that_dies_ends_the_other_with_a_clear_line(
    victim: int, tiny: Callable[..., Experiment], root: Path, tmp_path: Path
) -> None:
    workdir = tmp_path / 'run'
    hosts = Hosts(root, begin(workdir, tiny('bert', {'run.steps': 10**6, 'run.batch': 8, 'run.log_every': 1})), 2)
    hosts.wait_for_step(workdir, 2)
    hosts.processes[victim].kill()
    begun = time.monotonic()
    status = hosts.wait(60)[1 - victim]
    assert time.monotonic() - begun < 60 and status == 2, hosts.said()
    said = hosts.outputs[1 - victim].read_text()
    assert 'error: another process of this run has ended or cannot be reached' in said, said
    assert 'the same commands continue from the last checkpoint' in said and 'this is a bug' not in said
