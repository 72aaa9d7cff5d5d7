"""python -m research.study status DIR | report DIR | run DIR NAME | verify RUN | replay RUN --step=N"""

import argparse
import sys

from research.command import Parser, run_command
from research.errors import DamagedError
from research.escape import clean
from research.files import read_path

DIFFERENT = 1  # exit status where a run's numbers are not what its folder gives


def main(arguments: list[str]) -> int:
    """Runs one command line and returns its exit status."""
    return run_command(perform, arguments)


def perform(arguments: list[str]) -> int:
    """Runs one command line and returns its exit status. Raises UserError for a mistake."""
    given = parse(arguments)
    if given.command == 'status':  # in under a second: nothing that it needs loads jax
        from research.study import terminal
        from research.study.execution import progress, queue
        from research.study.stored import read_needs

        name, needs = read_needs(given.folder)
        terminal.make_console().print(progress.make_table(name, given.folder, queue.current_states(needs, given.folder)))
        return 0
    if given.command == 'report':
        from research.study.reporting.report import report

        report(given.folder)
        return 0
    if given.command in ('verify', 'replay'):
        return 0 if repeat(given) else DIFFERENT
    from research.study.execution.attempt import start_run

    return start_run(given.folder, given.name, given.cores, given.tied)


def repeat(given: argparse.Namespace) -> bool:
    """Verifies or replays a run: whether its numbers are what its folder gives."""
    from research.runs.replaying import replay
    from research.runs.verifying import verify

    try:
        return verify(given.folder, show) if given.command == 'verify' else replay(given.folder, given.step, show)
    except DamagedError as error:
        show(str(error))
        show(f'{given.folder}: different: it is damaged')
        return False


def show(line: str) -> None:
    """Prints one line, whose parts may come from a file."""
    print(clean(line), flush=True)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line, read."""
    parser = Parser(prog='python -m research.study', description='A study, or a run, from its folder alone.')
    commands = parser.add_subparsers(dest='command', required=True, parser_class=Parser)
    status = commands.add_parser('status', help='the state of every run')
    report = commands.add_parser('report', help='write the tables and figures anew')
    run = commands.add_parser('run', help='one attempt at one run, as a launcher starts it')
    for command in (status, report, run):
        command.add_argument('folder', type=read_path, metavar='DIR', help='the folder of a study')
    verify = commands.add_parser('verify', help='evaluate a finished run anew: is its result what its weights and data give?')
    replay = commands.add_parser('replay', help='compute logged steps of a run anew, from the checkpoint before')
    for command in (verify, replay):
        command.add_argument('folder', type=read_path, metavar='RUN', help='the folder of a run')
    replay.add_argument('--step', type=int, required=True, metavar='N', help='the step')
    run.add_argument('name', metavar='NAME', help='a run of the study')
    run.add_argument('--cores', default='', help='the cores that it may use, such as 0,1; by default all')
    run.add_argument('--tied', action='store_true', help='end when the standard input does')
    return parser.parse_args(arguments)


def entry() -> int:
    """Runs this process's command line and returns its exit status."""
    return main(sys.argv[1:])


if __name__ == '__main__':
    sys.exit(entry())
