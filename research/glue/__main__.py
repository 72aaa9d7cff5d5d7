"""python -m research.glue table FOLDER | submit OUT RUN [RUN …]

table: of the runs in FOLDER, such as a study's. submit: writes CoLA.tsv … AX.tsv from the runs' predictions for test.
"""

import sys

from research.command import Parser, run_command
from research.files import read_path, write_whole
from research.glue.submission import find_wrong_sizes, make_submission
from research.glue.table import make_table


def main(arguments: list[str]) -> None:
    """Runs one command line."""
    parser = Parser(prog='python -m research.glue', description='A table of GLUE runs, and a folder for its server.')
    commands = parser.add_subparsers(dest='command', required=True)
    shown = commands.add_parser('table')
    shown.add_argument('folder', type=read_path)
    sent = commands.add_parser('submit')
    sent.add_argument('out', type=read_path)
    sent.add_argument('runs', type=read_path, nargs='+')
    sent.add_argument('--fill', action='store_true', help='give tasks without a run the same label for every example')
    given = parser.parse_args(arguments)
    if given.command == 'table':
        print('\n'.join(make_table(given.folder)))
        return
    texts, filled = make_submission(given.runs, given.fill)
    for name, text in texts.items():
        write_whole(given.out / name, text.encode())
    for line in find_wrong_sizes(texts):
        print(f'warning: {line}', file=sys.stderr)
    print(f'{given.out}: {len(texts)} files' + (f'; one label throughout in {", ".join(filled)}' if filled else ''))


def entry() -> int:
    """Runs this process's command line and returns its exit status."""
    return run_command(main, sys.argv[1:])


if __name__ == '__main__':
    sys.exit(entry())
