"""Several processes that make one run together: how they find each other (CLUSTERS), wait for each other and stop together."""

import atexit
import contextlib
import ctypes
import itertools
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax._src import distributed  # the coordination service has no public way to wait
from jax.experimental import multihost_utils

from research.command import MISTAKE, explain
from research.errors import Interrupted, UserError
from research.peers import Peers

PATIENCE = 300  # seconds that a process waits until all others have joined
HEARTBEAT = 40  # seconds without a sign of life after which a process counts as dead
# What jax is given: the first process may upload for hours after the others have finished.
DAY = 24 * 3600  # seconds
TIMES: dict[str, Any] = {
    'initialization_timeout': PATIENCE + 60,
    'heartbeat_timeout_seconds': HEARTBEAT,
    'shutdown_timeout_seconds': DAY,
}
FAREWELL = 3.0  # seconds that the first process waits after a mistake: the others, which make the same one, say so themselves
LOST = (
    'another process of this run has ended or cannot be reached; its own output says why. '
    'Start all processes again: the same commands continue from the last checkpoint'
)
# How jax's ways to communicate call a process that is gone.
GONE = re.compile('gloo|nccl|coordination service|heartbeat|connection (reset|closed)|socket closed', re.IGNORECASE)

# ---- Joining --------------------------------------------------------------------------------------------------------------------


class Cluster(NamedTuple):
    """A row of CLUSTERS."""

    is_present: Callable[[Mapping[str, str]], bool]  # of the environment variables: whether this is one of several processes
    method: str | None  # what jax calls the way to find the others; None: jax tries all that it knows
    hint: str  # what helps if it fails


def _is_on_tpu_host(variables: Mapping[str, str]) -> bool:
    """Whether this process has all the chips of a virtual machine of Google's, whose metadata name the other hosts.

    jax sets TPU_ML_PLATFORM where it finds chips and their library. A process that got some of the chips makes its run alone.
    """
    apart = ('TPU_SKIP_MDS_QUERY', 'TPU_WORKER_HOSTNAMES', 'TPU_VISIBLE_CHIPS', 'TPU_VISIBLE_DEVICES', 'TPU_PROCESS_BOUNDS')
    return 'TPU_ML_PLATFORM' in variables and not any(name in variables for name in apart)


# How a process knows that others make its run with it, the first that is present. What they are is found by jax.
CLUSTERS: dict[str, Cluster] = {
    'Slurm': Cluster(
        lambda variables: int(variables.get('SLURM_STEP_NUM_TASKS', '1')) > 1, 'slurm', 'start them with one srun, one task a node'
    ),
    'GKE, TPU': Cluster(
        lambda variables: ',' in variables.get('TPU_WORKER_HOSTNAMES', ''), 'gketpu', 'TPU_WORKER_HOSTNAMES names the hosts'
    ),
    'TPU pod': Cluster(_is_on_tpu_host, 'gcetpu', 'start the same command on all hosts of the pod (--worker=all)'),
    'GKE, Kubernetes': Cluster(
        lambda variables: 'KUBERNETES_SERVICE_HOST' in variables and 'JOB_COMPLETION_INDEX' in variables,
        None,
        'it needs `pip install kubernetes`, an indexed Job with a headless service, and leave to read pods and jobs',
    ),
}


def join_processes(peers: Peers | None = None) -> None:
    """Connects to the other processes of this run: `peers`, or those of the cluster that this process runs on, if any.

    Call it before jax is first used. Raises UserError if that fails; the process ends with one line if the others do not come.
    """
    if jax.distributed.is_initialized() or (peers is not None and peers.processes == 1):
        return
    name = next((name for name, row in CLUSTERS.items() if row.is_present(os.environ)), None)
    if peers is not None:
        _validate_port(peers)
        given: dict[str, Any] = {
            'coordinator_address': peers.coordinator,
            'num_processes': peers.processes,
            'process_id': peers.process,
            'cluster_detection_method': 'deactivate',
        }
        where = f'--coordinator={peers.coordinator}, process {peers.process} of {peers.processes}'
        hint = 'all need the same --coordinator and --processes, each another --process, and no firewall between them'
    elif name is not None:
        given, where, hint = {'cluster_detection_method': CLUSTERS[name].method}, name, CLUSTERS[name].hint
    else:
        return
    # jax would end the process itself, by an abort with its traceback.
    timer = threading.Timer(PATIENCE, _end, [f'{where}: not all processes have joined in {PATIENCE} s: {hint}'])
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(**given, **TIMES)
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(f'{where}: the processes cannot join ({" ".join(str(error).split())}): {hint}') from error
    finally:
        timer.cancel()
    ctypes.CDLL(None).signal(signal.SIGABRT, ABORTED)


def _validate_port(peers: Peers) -> None:
    """Raises UserError if process 0 cannot listen at the coordinator's port: jax would crash."""
    if peers.process == 0:
        try:
            port = int(peers.coordinator.rpartition(':')[2])
            both = socket.has_dualstack_ipv6()
            with socket.create_server(('', port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both):
                pass
        except OSError:
            raise UserError(f'--coordinator={peers.coordinator}: this port is not free on the machine of process 0') from None


def _end(why: str) -> None:
    """Ends the process with one line, from whatever thread."""
    os.write(2, f'error: {why}\n'.encode())
    os._exit(MISTAKE)


# jax aborts a process whose coordinator is gone, or whose run has lost another process.
ABORTED = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: _end(LOST))


@contextlib.contextmanager
def leaving_together() -> Iterator[None]:
    """Within the block several processes make a run; they leave it together, and if one fails it ends without the others.

    Raises UserError where an error says that another process is gone.
    """
    try:
        yield
        if jax.distributed.is_initialized():
            wait_for_all('the run is done')
    except KeyboardInterrupt as error:  # or jax's own exit would wait for processes that got no signal
        if jax.distributed.is_initialized():
            atexit.register(_leave, 128 + (error.signal if isinstance(error, Interrupted) else signal.SIGINT))
        raise
    except Exception as error:
        if not jax.distributed.is_initialized():
            raise
        gone = not isinstance(error, UserError | OSError) and GONE.search(str(error))
        atexit.register(_leave, MISTAKE if gone else explain(error)[1])  # before jax's own, which waits for the others
        if gone:
            raise UserError(LOST) from error
        raise


def _leave(status: int) -> None:
    """Ends the process with this status at once; the first one leaves last, since without it the others are aborted."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    time.sleep(FAREWELL if is_chief() else 0)
    os._exit(status)


# ---- In step --------------------------------------------------------------------------------------------------------------------


def get_process() -> int:
    """The number of this process in its run, from 0."""
    return jax.process_index()


def is_alone() -> bool:
    """Whether this process makes its run alone."""
    return jax.process_count() == 1


def agree_to_stop(step: int) -> bool:
    """Whether all processes of this run stop after `step`, since one of them got SIGTERM. To be asked by all after every step."""
    return multihost_utils.reached_preemption_sync_point(step)


def is_chief() -> bool:
    """Whether this process writes the files of the run."""
    return get_process() == 0


_barriers = itertools.count()  # each has a name of its own


def wait_for_all(what: str) -> None:
    """Waits, for up to a day, until all processes have come here. Each calls this as often as the others.

    A collective of jax would end the others after 30 seconds on CPUs.
    """
    client: Any = distributed.global_state.client
    client.wait_at_barrier(f'{what}: {next(_barriers)}', timeout_in_ms=1000 * DAY)


@contextlib.contextmanager
def chief_first() -> Iterator[None]:
    """Runs the block in the first process, then in the others, which find what the first has prepared."""
    if not is_chief():
        wait_for_all('the first process has finished')
    try:
        yield
    finally:  # also after an error, or the others would wait forever
        if is_chief() and jax.process_count() > 1:
            wait_for_all('the first process has finished')


# ---- Arrays of several processes ------------------------------------------------------------------------------------------------


def replicate(tree: Any, whole: jax.NamedSharding) -> Any:
    """A tree that all processes hold, copied to every device of every process."""
    if jax.process_count() == 1:
        return jax.device_put(tree, whole)

    def put(x: Any) -> Any:
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return x
        if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(x)), impl=jax.random.key_impl(x))
        return jax.make_array_from_process_local_data(whole, np.asarray(x))

    return jax.tree.map(put, tree)


def localise(tree: Any) -> Any:
    """A tree of arrays that each process holds whole, each as an array of this process alone."""

    def one(x: Any) -> Any:
        if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(one(jax.random.key_data(x)), impl=jax.random.key_impl(x))
        return x if x.is_fully_addressable else x.addressable_data(0)

    return jax.tree.map(one, tree)
