"""The one door: run an experiment, a sweep of one, or a study.

python launch.py --config=configs/bert.py:tiny --workdir=runs/bert-tiny --config.run.steps=1000
python launch.py --config=configs/albert.py:base --sweep=layers,sharing
python launch.py --config=configs/albert.py:base --sweep='model.layers=3,6,12' --dry
python launch.py --config=experiments/quickstart.py
python launch.py --config=experiments/albert_sharing.py:small --list --only='E=128*'
python launch.py --config=experiments/albert_sharing.py:paper --executor=slurm --partition=gpu --gpus=8 --nodes=4 --time=1-00
python launch.py --config=configs/bert.py:base --dry --chip=h100,v6e --devices=8
python launch.py --workdir=runs/bert-tiny        (once more, or on from where it stopped: as its folder says)
python launch.py --config=configs/bert.py:base --coordinator=node1:8476 --processes=2 --process=0   (on node1; 1 on the other)
"""

import json
import os
import shlex
import sys
from pathlib import Path

from absl import flags

from research.command import DEBUG_HELP, parse_changes, run_command
from research.errors import UserError
from research.escape import hide_secrets
from research.peers import read_peers
from research.study.execution.settings import Cluster, Execution, validate_execution

FLAGS = flags.FLAGS
flags.DEFINE_string('config', None, 'FILE[:size] of configs/ or experiments/; --config.KEY=VALUE changes a key of it')
flags.DEFINE_string('workdir', None, 'folder of the run or the study; by default runs/NAME; of a run also gs://… or s3://…')
flags.DEFINE_multi_string(
    'sweep', [], "axes that multiply: names that the config file defines, or 'key=value,value'; may be repeated"
)
flags.DEFINE_bool(
    'dry',
    False,
    'print what would run, how it differs from its paper, its parameters, FLOPs and memory, as one JSON object, and train nothing',
)
flags.DEFINE_bool('list', False, 'print the runs, their overrides, parameters, FLOPs and estimated times, and train nothing')
flags.DEFINE_string(
    'chip',
    '',
    'with --dry or --list: predict the time and memory of each run on a100, h100, h200, v5e, v5p, v6e, all of them, or here, this '
    'machine, which is measured; several: separated by commas',
)
flags.DEFINE_integer('devices', 1, 'with --dry: the devices that make a run together, whose state and time are predicted')
flags.DEFINE_string(
    'only', '', 'run only the runs of a study that match a glob (several: separated by commas), and what they start from'
)
flags.DEFINE_bool('debug', False, DEBUG_HELP)
flags.DEFINE_string('executor', 'local', 'who runs a study: local, this machine; slurm, a cluster')
flags.DEFINE_integer('jobs', 0, 'runs of a study at once; 0 = one a device here, or as many as the cluster lets')
flags.DEFINE_integer('retries', 1, 'how often a run of a study that crashed is tried again')
flags.DEFINE_string('partition', '', "Slurm's partition")
flags.DEFINE_string('time', '60', "a job's time limit: minutes, H:MM:SS or D-HH; a longer run is requeued and continues")
flags.DEFINE_integer('gpus', 0, 'GPUs a node')
flags.DEFINE_integer('nodes', 1, 'nodes a run')
flags.DEFINE_integer('cpus', 0, 'cores a process; 0 = as the cluster gives')
flags.DEFINE_string('memory', '', "memory a node, such as 64G; '' = as the cluster gives")
flags.DEFINE_string('account', '', "Slurm's account")
flags.DEFINE_string('qos', '', "Slurm's quality of service")
flags.DEFINE_string('constraint', '', 'features that a node must have')
flags.DEFINE_multi_string('sbatch', [], "any other option of sbatch, as 'option=value'; may be repeated")
flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0, where several processes of one run meet; not needed under srun')
flags.DEFINE_integer('processes', None, 'how many processes make the run together; with --coordinator')
flags.DEFINE_integer('process', None, 'which of them this is, from 0; with --coordinator')
PEERS = ['coordinator', 'processes', 'process']
OURS = ['config', 'workdir', 'sweep', 'dry', 'list', 'chip', 'devices', 'only', 'executor', 'jobs', 'retries', *PEERS, 'debug']
CLUSTER = ['partition', 'time', 'gpus', 'nodes', 'cpus', 'memory', 'account', 'qos', 'constraint', 'sbatch']


def entry() -> int:
    """The console script: runs the command line of this process and returns its exit status."""
    return main(sys.argv)


def main(arguments: list[str]) -> int:
    """Runs one command line. Returns the exit status: 0, 2 for a mistake of the user's, 130 or 143 after Ctrl-C or SIGTERM."""
    return run_command(launch, arguments, 'interrupted; the same command continues from the last checkpoint')


def launch(arguments: list[str]) -> None:
    """Reads the flags and runs, or shows, what they ask for."""
    if {'--help', '-h'} & set(arguments):
        print(f'{__doc__}\n{FLAGS.module_help(sys.modules[__name__])}')
        return
    changed, execution = parse(arguments), read_execution()
    validate_execution(execution)
    peers = read_peers(FLAGS.coordinator, FLAGS.processes, FLAGS.process)
    if not FLAGS.config and (FLAGS.config is not None or FLAGS.workdir is None):
        raise UserError('give --config=FILE[:size], such as --config=configs/bert.py:tiny, or the --workdir of what to continue')
    # Imports that take seconds come after all that can be refused without them.
    from research.runs.mirror import open_workdir
    from research.study import request

    given, mirror = open_workdir(FLAGS.workdir) if FLAGS.workdir else (None, None)
    if mirror and not FLAGS.config:
        mirror.fetch_definition()
    asked = request.define(FLAGS.config, given, changed, FLAGS.sweep)
    from research.study.execution import execute
    from research.study.study import Study

    workdir = given or Path(f'runs/{asked.name}')
    if mirror and isinstance(asked, Study):
        raise UserError(f'--workdir={mirror.place}: a study needs a folder on a disk; a single run may be in a bucket')
    if FLAGS.devices < 1:
        raise UserError(f'--devices={FLAGS.devices} must be at least 1')
    if FLAGS.chip and not (FLAGS.dry or FLAGS.list):
        raise UserError(f'--chip={FLAGS.chip} predicts and trains nothing: give --dry or --list with it')
    if FLAGS.devices > 1 and not (FLAGS.dry or FLAGS.chip):
        raise UserError(f'--devices={FLAGS.devices} is for predictions: give --dry, or --list and a --chip, with it')
    if not isinstance(asked, Study) and (execution != Execution() or FLAGS.list):
        raise UserError(
            '--list, --only, --executor, --jobs and the flags of Slurm are for studies: give a file of experiments/, or a --sweep'
        )
    if peers and (isinstance(asked, Study) or FLAGS.dry):
        raise UserError(
            '--coordinator, --processes and --process are for training one run: a study starts the processes of its runs itself '
            '(--executor=slurm --nodes=N)'
        )
    if FLAGS.dry:
        from research.study.config_files import read_deviations
        from research.study.planning import dry

        deviations = read_deviations(FLAGS.config) if FLAGS.config else {}
        print(json.dumps(dry.preview(asked, workdir, FLAGS.chip, FLAGS.devices, deviations), indent=2))
    elif not isinstance(asked, Study):
        from research.runs.run import run

        run(asked, workdir, peers, mirror)
    elif FLAGS.list:
        from research.study.planning import listing

        listing.show(asked, workdir, execute.select(asked, execution.only), FLAGS.chip, FLAGS.devices)
    else:
        os.environ['LAUNCHED_BY'] = shlex.join(hide_secrets(arguments))  # what the runs' environment.json call their command
        execute.run_study(asked, workdir, execution, execute.report_apart)


def read_execution() -> Execution:
    """How the flags say that a study is executed."""
    cluster = Cluster(
        partition=FLAGS.partition,
        time=FLAGS.time,
        gpus=FLAGS.gpus,
        nodes=FLAGS.nodes,
        cpus=FLAGS.cpus,
        memory=FLAGS.memory,
        account=FLAGS.account,
        qos=FLAGS.qos,
        constraint=FLAGS.constraint,
        extra=tuple(FLAGS.sbatch),
    )
    return Execution(FLAGS.executor, FLAGS.jobs, FLAGS.retries, FLAGS.only, cluster)


def parse(arguments: list[str]) -> dict[str, str]:
    """Fills FLAGS and returns the changes to the config: dotted name -> text. Both `--a=b` and `--a b` are understood."""
    for name in (*OURS, *CLUSTER):  # a process may run several command lines
        FLAGS[name].unparse()
    try:
        rest = FLAGS(arguments, known_only=True)[1:]
    except flags.Error as error:
        raise UserError(str(error).splitlines()[0]) from None
    return parse_changes(rest, [*OURS, *CLUSTER], f'--config.KEY, --{", --".join(OURS)}; for Slurm: --{", --".join(CLUSTER)}')


if __name__ == '__main__':
    sys.exit(entry())
