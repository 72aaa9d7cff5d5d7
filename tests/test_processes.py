"""Several processes of one run: how they join, in what order they go, and how they end."""

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

from research import processes
from research.errors import UserError
from research.peers import Peers, read_peers


@pytest.mark.parametrize('first', [True, False])
def test_processes_that_wait_for_the_first_go_on_if_it_raises(monkeypatch: pytest.MonkeyPatch, first: bool) -> None:
    reached = []
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    monkeypatch.setattr(processes, 'is_chief', lambda: first)
    monkeypatch.setattr(processes, 'wait_for_all', reached.append)
    with pytest.raises(ValueError), processes.chief_first():
        raise ValueError
    assert len(reached) == 1


# ---- Joining --------------------------------------------------------------------------------------------------------------------

PRESENT: dict[str, dict[str, str]] = {
    'Slurm': {'SLURM_STEP_NUM_TASKS': '2'},
    'GKE, TPU': {'TPU_WORKER_HOSTNAMES': 'a,b'},
    'TPU pod': {'TPU_ML_PLATFORM': 'JAX'},
    'GKE, Kubernetes': {'KUBERNETES_SERVICE_HOST': '10.0.0.1', 'JOB_COMPLETION_INDEX': '0'},
}
ALONE = ({}, {'SLURM_STEP_NUM_TASKS': '1'}, {'TPU_WORKER_HOSTNAMES': 'localhost'}, {'KUBERNETES_SERVICE_HOST': '10.0.0.1'})


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What jax.distributed.initialize was given, on a machine of no cluster; it does nothing."""
    found: list[dict[str, Any]] = []
    for name in {'TPU_SKIP_MDS_QUERY', *(name for variables in (*PRESENT.values(), *ALONE) for name in variables)}:
        monkeypatch.delenv(name, raising=False)  # jax sets the first where there is no TPU
    monkeypatch.setattr(jax.distributed, 'initialize', lambda **given: found.append(given))
    monkeypatch.setattr(processes.ctypes, 'CDLL', lambda name: type('Library', (), {'signal': staticmethod(lambda *_: None)}))
    return found


@pytest.mark.parametrize('name', processes.CLUSTERS)
def test_each_cluster_is_found_by_what_it_sets(name: str, joined: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in PRESENT[name].items():
        monkeypatch.setenv(variable, value)
    processes.join_processes()
    assert [given['cluster_detection_method'] for given in joined] == [processes.CLUSTERS[name].method]
    assert joined[0]['heartbeat_timeout_seconds'] < 60 < joined[0]['initialization_timeout']


def test_jax_knows_the_methods() -> None:
    from jax._src.clusters import ClusterEnv

    known = {each.name for each in ClusterEnv._cluster_types}
    assert {row.method for row in processes.CLUSTERS.values() if row.method} <= known


@pytest.mark.parametrize('variables', ALONE)
def test_a_process_that_is_alone_joins_nobody(
    variables: dict[str, str], joined: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    processes.join_processes()
    processes.join_processes(Peers('localhost:1', 1, 0))
    assert joined == []


def test_a_run_with_some_chips_of_a_host_is_alone(joined: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TPU_ML_PLATFORM', 'JAX')
    monkeypatch.setenv('TPU_VISIBLE_CHIPS', '0')
    processes.join_processes()
    assert joined == []


def test_flags_come_before_the_cluster(joined: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '2')
    processes.join_processes(Peers('node1:8476', 3, 2))
    (given,) = joined
    assert given['cluster_detection_method'] == 'deactivate'
    assert (given['coordinator_address'], given['num_processes'], given['process_id']) == ('node1:8476', 3, 2)


def test_what_jax_says_of_a_cluster_is_one_line(joined: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError('Kubernetes API Error:\n403')

    monkeypatch.setattr(jax.distributed, 'initialize', fail)
    for variable, value in PRESENT['GKE, Kubernetes'].items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match='GKE, Kubernetes: the processes cannot join .Kubernetes API Error: 403.: it needs `pip'):
        processes.join_processes()


def test_a_port_that_is_taken_is_refused(joined: list[dict[str, Any]]) -> None:
    with socket.create_server(('', 0), family=socket.AF_INET) as taken:
        address = f'localhost:{taken.getsockname()[1]}'
        with pytest.raises(UserError, match='this port is not free on the machine of process 0'):
            processes.join_processes(Peers(address, 2, 0))
        processes.join_processes(Peers(address, 2, 1))
    assert len(joined) == 1


NEVER = """
import sys
from research import processes
from research.command import run_command
from research.peers import Peers
processes.PATIENCE = 2
sys.exit(run_command(lambda arguments: processes.join_processes(Peers(sys.argv[1], 2, int(sys.argv[2]))), []))
"""


@pytest.mark.parametrize('process', [0, 1])
def test_processes_that_never_come_cost_one_line(process: int, root: Path) -> None:
    with socket.socket() as free:
        free.bind(('localhost', 0))
        address = f'localhost:{free.getsockname()[1]}'
    done = subprocess.run(
        [sys.executable, '-c', NEVER, address, str(process)], cwd=root, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 2, done.stderr
    said = f'error: --coordinator={address}, process {process} of 2: not all processes have joined in 2 s: all need the same'
    assert done.stderr.startswith(said) and done.stderr.count('\n') == 1


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ((None, 2, 0), '--coordinator=HOST:PORT missing: give --coordinator=HOST:PORT, --processes=N, --process=I together'),
        (('node1:1', None, None), '--processes=N and --process=I missing'),
        (('node1', 2, 0), "--coordinator='node1': give the HOST:PORT of process 0, such as 'node1:8476'"),
        (('node1:70000', 2, 0), "--coordinator='node1:70000'"),
        (('node1:8476', 0, 0), '--processes=0: it must be at least 1'),
        (('node1:8476', 2, 2), '--process=2: the processes are numbered from 0 to 1 (--processes=2)'),
    ],
)
def test_flags_that_do_not_fit_are_refused(given: tuple[Any, Any, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        read_peers(*given)


def test_flags_that_fit() -> None:
    assert read_peers(None, None, None) is None
    assert read_peers('[::1]:8476', 2, 1) == Peers('[::1]:8476', 2, 1)


# ---- Ending ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('error', 'status', 'message'),
    [
        (ValueError('UNKNOWN: Gloo all-reduce failed: Connection closed by peer'), 2, 'another process of this run has ended'),
        (UserError('gloo is not the reason'), 2, 'gloo is not the reason'),
        (ValueError('a bug'), 1, 'a bug'),
    ],
)
def test_the_end_of_another_process_is_no_bug(error: Exception, status: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leaving: list[Any] = []
    monkeypatch.setattr(jax.distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(processes.atexit, 'register', lambda *given: leaving.append(given[1:]))
    with pytest.raises((UserError, ValueError), match=message), processes.leaving_together():
        raise error
    assert leaving == [(status,)]
