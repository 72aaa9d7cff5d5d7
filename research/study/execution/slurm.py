"""The executor of a cluster: runs become Slurm jobs, in arrays, that wait for the jobs of the runs they start from."""

import contextlib
import dataclasses
import io
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from research.errors import UserError
from research.files import read_record, write_record
from research.runs import lock
from research.study.execution.attempt import start
from research.study.execution.local import ROOT, may_start
from research.study.execution.monitor import Monitor
from research.study.execution.queue import ask, job_file, jobs, queue, standing
from research.study.execution.settings import Cluster, How, minutes
from research.study.graph import needs
from research.study.ledger import RunState, record_failure, run_state
from research.study.study import Study

POLL = 3.0  # seconds between two looks at the queue
COMMANDS = ('sbatch', 'squeue', 'scontrol', 'srun')


@dataclasses.dataclass(frozen=True)
class Work:
    """What a job does, as submitit pickles it; a job that is about to be stopped is requeued to do it again."""

    folder: str

    def __call__(self, name: str) -> None:
        """Makes one attempt at a run; the job's exit status tells those that depend on it."""
        status = start(Path(self.folder), name)
        if status:
            sys.exit(status)

    def checkpoint(self, name: str) -> submitit.helpers.DelayedSubmission:
        """The same again: the run continues from its own last checkpoint."""
        return submitit.helpers.DelayedSubmission(self, name)


def execute(study: Study, folder: Path, names: list[str], how: How) -> None:
    """Submits `names` and watches them until none is in the queue; failures are submitted again as `local.execute` would.

    Interrupted, it leaves the jobs where they are; the same command finds them there.
    """
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        raise UserError(
            f"executor 'slurm' needs {', '.join(missing)}, which this machine does not have: give --executor=local, "
            'or go to a login node of the cluster'
        )
    stand = standing(study, folder, queue())
    monitor = Monitor(study, folder, stand)
    limits = {name: state.attempts + how.retries for name, state in stand.items()}
    tried: set[str] = set()
    try:
        while True:
            try:
                # All of it under one lock: what another launcher submitted since the look would be submitted once more.
                with lock.hold(folder / '.submission'):
                    queued = queue()  # before the folders: what has left the queue has written its last word
                    settle(study, folder, queued)
                    stand = standing(study, folder, queued)
                    monitor.update(stand)
                    found = groups(study, folder, stand, names, limits, tried, queued)
                    for group, waited in found:
                        for name in group:
                            monitor.starts(name, stand[name])
                        submit(study, folder, group, waited, how.jobs, how.cluster)
                        tried.update(group)
                if not found and not jobs(study, folder, queued):
                    return
            except lock.HeldError:
                pass  # another launcher submits: what it leaves is looked at again
            time.sleep(POLL)
    except KeyboardInterrupt:
        print(f'the jobs stay in the queue: the same command watches them, scancel --name={study.name} ends them', file=sys.stderr)
        raise
    finally:
        monitor.close()


def settle(study: Study, folder: Path, queued: Mapping[str, tuple[str, str]]) -> None:
    """Writes down why a job left the queue that could not do so itself, and forgets the jobs that are over."""
    for name in study.runs:
        noted = read_record(job_file(folder, name))
        if noted is None or noted['job'] in queued:
            continue
        state = run_state(folder / name)
        ready = all(run_state(folder / needed).state == 'done' for needed in needs(study.runs[name]))
        if state.state in ('waiting', 'interrupted') or (state.state == 'failed' and state.attempts == noted['attempts']):
            if ready:  # else Slurm took it out because what it starts from failed
                record_failure(folder / name, f'Slurm job {noted["job"]} ended without a result: {last_word(noted["job"])}')
        elif state.state == 'running':
            continue
        job_file(folder, name).unlink(missing_ok=True)


def pairs(texts: Iterable[str]) -> dict[str, str]:
    """'name=value' texts as a dict; the value of one without '=' is ''."""
    return {name: value for name, _, value in (text.partition('=') for text in texts)}


def last_word(job: str) -> str:
    """How a job ended, as Slurm remembers it."""
    try:
        told = pairs(ask('scontrol', '--oneliner', 'show', 'job', job).split())
        return f'{told["JobState"]}, {told["Reason"]}, exit code {told["ExitCode"]}'
    except (UserError, KeyError):
        return 'Slurm has forgotten how'


def groups(
    study: Study,
    folder: Path,
    stand: Mapping[str, RunState],
    names: list[str],
    limits: Mapping[str, int],
    tried: set[str],
    queued: Mapping[str, tuple[str, str]],
) -> list[tuple[list[str], tuple[str, ...]]]:
    """The runs to submit now, those that wait for the same runs together, each group after those that it waits for."""
    live = set(jobs(study, folder, queued))
    found: dict[tuple[str, ...], list[str]] = {}
    coming = set(live)
    for name in names:
        waits = tuple(needed for needed in needs(study.runs[name]) if stand[needed].state != 'done')
        hopeful = dict(stand) | {needed: RunState('done') for needed in waits if needed in coming}
        if hopeful[name].state == 'blocked' and all(needed in coming for needed in waits):
            hopeful[name] = run_state(folder / name)
        if name not in live and may_start(study, hopeful, name, limits[name], name in tried):
            found.setdefault(waits, []).append(name)
            coming.add(name)
    return [(group, waits) for waits, group in found.items()]


def submit(study: Study, folder: Path, names: list[str], waited: tuple[str, ...], jobs_at_once: int, cluster: Cluster) -> None:
    """Submits `names` as one job array that begins when the jobs of `waited` have succeeded, and notes their jobs."""
    executor = submitit.SlurmExecutor(folder=folder.absolute() / '.slurm' / '%j', max_num_timeout=1_000_000)
    noted = [read_record(job_file(folder, needed)) for needed in waited]
    ids = [record['job'] for record in noted if record is not None]
    asked = {
        'partition': cluster.partition,
        'gpus_per_node': cluster.gpus,
        'cpus_per_task': cluster.cpus,
        'account': cluster.account,
        'qos': cluster.qos,
        'constraint': cluster.constraint,
        'dependency': f'afterok:{":".join(ids)}' if ids else '',
    }
    executor.update_parameters(
        job_name=study.name,
        time=minutes(cluster.time),
        nodes=cluster.nodes,
        # jax takes one device a process where Slurm starts several, and all of them where it starts one.
        ntasks_per_node=max(1, cluster.gpus) if cluster.nodes > 1 else 1,
        array_parallelism=jobs_at_once or 256,
        setup=[f'export PYTHONPATH={ROOT}${{PYTHONPATH:+:$PYTHONPATH}}'],
        srun_args=['--kill-on-bad-exit=1'],
        additional_parameters={
            'requeue': True,
            'kill-on-invalid-dep': 'yes',
            **({'mem': cluster.memory} if cluster.memory else {}),
            **{option: value if value else True for option, value in pairs(cluster.extra).items()},
        },
        **{option: value for option, value in asked.items() if value},
    )
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its words are told below
            found = executor.map_array(Work(str(folder.absolute())), names)
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
        words = ' '.join(line for line in str(error).splitlines() if 'sbatch: ' in line) or str(error)
        raise UserError(
            f'sbatch refused {len(names)} run(s) of {study.name}, {names[0]} first: {" ".join(words.split())}'
        ) from None
    for name, job in zip(names, found, strict=True):
        write_record(job_file(folder, name), {'job': job.job_id, 'attempts': run_state(folder / name).attempts})
