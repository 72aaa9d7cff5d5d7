"""The one door: run an experiment, a sweep of one, or a study.

python launch.py --config=configs/bert.py:tiny --workdir=runs/bert-tiny --config.run.steps=1000
python launch.py --config=configs/albert.py:base --sweep=layers,sharing
python launch.py --config=configs/albert.py:base --sweep='model.layers=3,6,12' --dry
python launch.py --config=experiments/quickstart.py
python launch.py --workdir=runs/bert-tiny        (once more, or on from where it stopped: as its folder says)
"""

import dataclasses
import json
import sys
import types
from pathlib import Path

from absl import flags

from research.command import changes, load, module
from research.errors import UserError, run_command
from research.experiment import Experiment, from_wire, override, override_sibling
from research.study.graph import Study
from research.study.sweep import sweep

FLAGS = flags.FLAGS
flags.DEFINE_string('config', None, 'FILE[:size] of configs/ or experiments/; --config.KEY=VALUE changes a key of it')
flags.DEFINE_string('workdir', None, 'folder of the run or the study; by default runs/NAME')
flags.DEFINE_multi_string(
    'sweep', [], "axes that multiply: names that the config file defines, or 'key=value,value'; may be repeated"
)
flags.DEFINE_bool('dry', False, 'print what would run, its parameters, FLOPs and memory, as one JSON object, and train nothing')


def main(arguments: list[str]) -> int:
    """Runs one command line. Returns the exit status: 0, 2 for a mistake of the user's, 130 when interrupted."""
    return run_command(launch, arguments, 'interrupted; the same command continues from the last checkpoint')


def launch(arguments: list[str]) -> None:
    """Reads the flags and runs, or shows, what they ask for."""
    changed = parse(arguments)
    if FLAGS.config is None and FLAGS.workdir is None:
        raise UserError('give --config=FILE[:size], such as --config=configs/bert.py:tiny, or the --workdir of a run to continue')
    asked = load(FLAGS.config) if FLAGS.config else reopen(Path(FLAGS.workdir))
    if isinstance(asked, Study):
        if FLAGS.sweep:
            raise UserError(f'{FLAGS.config} is a study: it names its runs itself, so --sweep has nothing to multiply')
        asked = dataclasses.replace(asked, runs={name: override_sibling(x, changed) for name, x in asked.runs.items()})
    else:
        asked = override(asked, changed)
        if FLAGS.sweep:
            asked = sweep(asked, FLAGS.sweep, module(FLAGS.config) if FLAGS.config else types.ModuleType('none'))
    workdir = Path(FLAGS.workdir or f'runs/{asked.name}')
    # jax takes seconds to load, so a mistake in the command line is told before that.
    from research import preview, run
    from research.study import execute, report

    if FLAGS.dry:
        print(json.dumps(preview.preview(asked, workdir), indent=2))
    elif isinstance(asked, Study):
        try:
            execute.run_study(asked, workdir, run.run)
        finally:
            if (workdir / 'study.json').exists():  # what there is so far is worth reading, also when a run failed
                report.report(asked, workdir)
    else:
        run.run(asked, workdir)


def parse(arguments: list[str]) -> dict[str, str]:
    """Fills FLAGS and returns the changes to the config: dotted name -> text. Both `--a=b` and `--a b` are understood."""
    try:
        rest = FLAGS(arguments, known_only=True)[1:]
    except flags.Error as error:
        raise UserError(str(error).splitlines()[0]) from None
    return changes(rest, FLAGS, '--config, --config.KEY, --workdir, --sweep, --dry')


def reopen(workdir: Path) -> Experiment:
    """The Experiment of a run folder."""
    try:
        return from_wire(json.loads((workdir / 'experiment.json').read_text()))
    except FileNotFoundError:
        raise UserError(f'{workdir} is no run folder: it has no experiment.json; give a --config') from None
    except json.JSONDecodeError as error:
        raise UserError(f'{workdir}/experiment.json is not JSON ({error}); give a --config') from None


if __name__ == '__main__':
    sys.exit(main(sys.argv))
