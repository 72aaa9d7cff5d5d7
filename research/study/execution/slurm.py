"""The executor of a cluster: runs become Slurm jobs, in arrays, that wait for the jobs of the runs they start from."""

import contextlib
import dataclasses
import io
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from research.errors import UserError
from research.escape import clean
from research.files import make_folder, refuse_link
from research.records import write_record
from research.runs import lock
from research.study.execution.attempt import start_run
from research.study.execution.monitor import Monitor
from research.study.execution.queue import Queue, ask_slurm, find_jobs, job_file, read_job, read_queue, states_with_queue
from research.study.execution.settings import Cluster, Execution, count_minutes
from research.study.execution.starting import may_start, refuse_gone
from research.study.graph import Needs
from research.study.states import RunState, record_failure, run_state
from research.study.study import Study
from research.version import ROOT

POLL = 3.0  # seconds between two looks at the queue
COMMANDS = ('sbatch', 'squeue', 'scontrol', 'srun')


@dataclasses.dataclass(frozen=True)
class Work:
    """The work of a job, which submitit pickles; a job that is about to be stopped is requeued to do it again."""

    folder: str

    def __call__(self, name: str) -> None:
        """Makes one attempt at a run; the jobs that depend on this one read its exit status."""
        status = start_run(Path(self.folder), name)
        if status:
            sys.exit(status)

    def checkpoint(self, name: str) -> submitit.helpers.DelayedSubmission:
        """The same work again: the run continues from its own last checkpoint."""
        return submitit.helpers.DelayedSubmission(self, name)


def execute(study: Study, folder: Path, names: list[str], execution: Execution) -> None:
    """Submits `names` and watches them until none is in the queue; failures are submitted again as `local.execute` would.

    Interrupted, it leaves the jobs in the queue; the same command finds them there.
    """
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        raise UserError(
            f"executor 'slurm' needs {', '.join(missing)}, which this machine does not have: give --executor=local, "
            'or go to a login node of the cluster'
        )
    if clean(str(folder.absolute())) != str(folder.absolute()):
        raise UserError(f'--workdir={folder} holds control characters, which no batch script can: give another')
    states = states_with_queue(study.needs, folder, read_queue())
    monitor = Monitor(study.name, folder, states)
    limits = {name: state.attempts + execution.retries for name, state in states.items()}
    tried: set[str] = set()
    try:
        while submit_ready(study, folder, names, execution, monitor, limits, tried):
            time.sleep(POLL)
    except KeyboardInterrupt:
        print(f'the jobs stay in the queue: the same command watches them, scancel --name={study.name} ends them', file=sys.stderr)
        raise
    finally:
        monitor.close()


def submit_ready(
    study: Study,
    folder: Path,
    names: list[str],
    execution: Execution,
    monitor: Monitor,
    limits: Mapping[str, int],
    tried: set[str],
) -> bool:
    """Submits the runs that may start and adds them to `tried`. Returns whether a job of the study is in the queue."""
    refuse_gone(folder)
    try:
        # All under one lock: else a run that another launcher submits meanwhile would be submitted twice.
        with lock.hold(folder / '.submission'):
            queue = read_queue()  # before the folders: a job that has left the queue has written its last file
            close_ended_jobs(study.needs, folder, queue)
            states = states_with_queue(study.needs, folder, queue)
            monitor.update(states)
            groups = group_ready(study.needs, folder, states, names, limits, tried, queue)
            for group, waits_for in groups:
                for name in group:
                    monitor.say_start(name, states[name])
                submit(study.name, folder, group, waits_for, execution)
                tried.update(group)
            return bool(groups or find_jobs(study.needs, folder, queue))
    except lock.HeldError:
        return True  # another launcher submits: the next look sees its jobs


def close_ended_jobs(needs: Needs, folder: Path, queue: Queue) -> None:
    """For the jobs that have left the queue: records why a run has no result, and forgets the job."""
    for name in needs:
        recorded = read_job(folder, name)
        if recorded is None or recorded.job in queue:
            continue
        state = run_state(folder / name)
        if state.state == 'running':
            continue
        silent = state.state in ('waiting', 'interrupted') or (state.state == 'failed' and state.attempts == recorded.attempts)
        # Slurm takes a job out of the queue if a run that it starts from failed: that is no failure of this one.
        if silent and all(run_state(folder / needed).state == 'done' for needed in needs[name]):
            record_failure(folder / name, f'Slurm job {recorded.job} ended without a result: {read_end(recorded.job)}')
        job_file(folder, name).unlink(missing_ok=True)


def read_pairs(texts: Iterable[str]) -> dict[str, str]:
    """'name=value' texts as a dict; the value of one without '=' is ''."""
    return {name: value for name, _, value in (text.partition('=') for text in texts)}


def read_end(job: str) -> str:
    """How a job ended, as Slurm remembers it."""
    try:
        shown = read_pairs(ask_slurm('scontrol', '--oneliner', 'show', 'job', job).split())
        return f'{shown["JobState"]}, {shown["Reason"]}, exit code {shown["ExitCode"]}'
    except (UserError, KeyError):
        return 'Slurm has forgotten how'


def group_ready(
    needs: Needs,
    folder: Path,
    states: Mapping[str, RunState],
    names: list[str],
    limits: Mapping[str, int],
    tried: set[str],
    queue: Queue,
) -> list[tuple[list[str], tuple[str, ...]]]:
    """(the runs to submit now, the runs that they wait for), one group for each set of runs waited for, in running order."""
    queued = set(find_jobs(needs, folder, queue))
    found: dict[tuple[str, ...], list[str]] = {}
    coming = set(queued)
    for name in names:
        waits_for = tuple(needed for needed in needs[name] if states[needed].state != 'done')
        # A job may be submitted while the jobs that it waits for are in the queue: taken as done.
        hoped = dict(states) | {needed: RunState('done') for needed in waits_for if needed in coming}
        if hoped[name].state == 'blocked' and all(needed in coming for needed in waits_for):
            hoped[name] = run_state(folder / name)
        if name not in queued and may_start(needs, hoped, name, limits[name], name in tried):
            found.setdefault(waits_for, []).append(name)
            coming.add(name)
    return [(group, waits_for) for waits_for, group in found.items()]


def submit(study: str, folder: Path, names: list[str], waits_for: tuple[str, ...], execution: Execution) -> None:
    """Submits `names` as one job array that begins when the jobs of `waits_for` have succeeded, and records their jobs."""
    make_folder(folder / '.slurm')
    refuse_link(folder / '.slurm' / 'jobs')  # submitit's own links lie in the folders of earlier submissions
    # submitit unpickles what it finds under a job's number: a new folder holds nothing that another has put there.
    place = Path(tempfile.mkdtemp(prefix='submission-', dir=folder.absolute() / '.slurm'))
    executor = submitit.SlurmExecutor(folder=place / '%j', max_num_timeout=1_000_000)
    recorded = [read_job(folder, needed) for needed in waits_for]
    ids = [record.job for record in recorded if record is not None]
    executor.update_parameters(
        job_name=study,
        array_parallelism=execution.jobs or 256,
        setup=[f'export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}'],
        srun_args=['--kill-on-bad-exit=1'],
        **({'dependency': f'afterok:{":".join(ids)}'} if ids else {}),
        **make_job_options(execution.cluster),
    )
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its message is in the error below
            found = executor.map_array(Work(str(folder.absolute())), names)
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
        words = ' '.join(line for line in str(error).splitlines() if 'sbatch: ' in line) or str(error)
        raise UserError(f'sbatch refused {len(names)} run(s) of {study}, {names[0]} first: {" ".join(words.split())}') from None
    script = found[0].paths.submission_file
    if script.exists():
        script.chmod(0o600)  # it holds the options of the job, and so what --sbatch=export=… sets
    for name, job in zip(names, found, strict=True):
        write_record(job_file(folder, name), {'job': job.job_id, 'attempts': run_state(folder / name).attempts})


def make_job_options(cluster: Cluster) -> dict[str, Any]:
    """The options of a job as submitit names them."""
    given = {
        'partition': cluster.partition,
        'gpus_per_node': cluster.gpus,
        'cpus_per_task': cluster.cpus,
        'account': cluster.account,
        'qos': cluster.qos,
        'constraint': cluster.constraint,
    }
    return {
        'time': count_minutes(cluster.time),
        'nodes': cluster.nodes,
        # jax takes one device a process where Slurm starts several, and all of them where it starts one.
        'ntasks_per_node': max(1, cluster.gpus) if cluster.nodes > 1 else 1,
        'additional_parameters': {
            'requeue': True,
            'kill-on-invalid-dep': 'yes',
            **({'mem': cluster.memory} if cluster.memory else {}),
            **{option: value if value else True for option, value in read_pairs(cluster.extra).items()},
        },
        **{option: value for option, value in given.items() if value},
    }
