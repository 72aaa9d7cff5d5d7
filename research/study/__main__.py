"""python -m research.study status DIR | report DIR | run DIR NAME"""

import sys
from pathlib import Path

from research.command import Parser, run_command
from research.errors import choose
from research.study.ledger import read_study


def main(arguments: list[str]) -> int:
    """Runs one command line and returns its exit status."""
    parser = Parser(prog='python -m research.study', description='A study, from its folder alone.')
    commands = parser.add_subparsers(dest='command', required=True, parser_class=Parser)
    status = commands.add_parser('status', help='the state of every run')
    report = commands.add_parser('report', help='write the tables and figures anew')
    run = commands.add_parser('run', help='one attempt at one run: what a launcher starts')
    for command in (status, report, run):
        command.add_argument('folder', type=Path, metavar='DIR', help='the folder of a study')
    run.add_argument('name', metavar='NAME', help='a run of it')
    run.add_argument('--cores', default='', help='the cores that it may use, such as 0,1; by default all')
    run.add_argument('--tied', action='store_true', help='end when the standard input does')
    ended = 0

    def perform(arguments: list[str]) -> None:
        nonlocal ended
        given = parser.parse_args(arguments)
        study = read_study(given.folder)
        if given.command == 'status':
            from research.study import terminal
            from research.study.execution import progress, queue

            terminal.console().print(progress.table(study, given.folder, queue.look(study, given.folder)))
        elif given.command == 'report':
            from research.study.reporting.report import report

            report(given.folder)
        else:
            from research.study.execution.attempt import start

            choose(f'run of {given.folder}', given.name, study.runs)
            ended = start(given.folder, given.name, given.cores, given.tied)

    return run_command(perform, arguments) or ended


def entry() -> int:
    """The command small-berts-study: one command line, that of this process."""
    return main(sys.argv[1:])


if __name__ == '__main__':
    sys.exit(entry())
