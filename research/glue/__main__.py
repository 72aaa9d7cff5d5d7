"""python -m research.glue table FOLDER | submit OUT RUN [RUN …]

table: FOLDER holds runs of any tasks, such as a study's. submit: writes CoLA.tsv … AX.tsv from the runs' predictions for test.
"""

import sys
from pathlib import Path

from research.command import Parser, run_command
from research.glue.submission import sizes, submission
from research.glue.table import table


def main(arguments: list[str]) -> None:
    """Runs one command line."""
    parser = Parser(prog='python -m research.glue', description='A table of GLUE runs, and a folder for its server.')
    commands = parser.add_subparsers(dest='command', required=True)
    shown = commands.add_parser('table')
    shown.add_argument('folder', type=Path)
    sent = commands.add_parser('submit')
    sent.add_argument('out', type=Path)
    sent.add_argument('runs', type=Path, nargs='+')
    sent.add_argument('--fill', action='store_true', help='one label throughout for tasks without a run')
    given = parser.parse_args(arguments)
    if given.command == 'table':
        print('\n'.join(table(given.folder)))
        return
    texts, filled = submission(given.runs, given.fill)
    given.out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (given.out / name).write_text(text, encoding='utf-8')
    for line in sizes(texts):
        print(f'warning: {line}', file=sys.stderr)
    print(f'{given.out}: {len(texts)} files' + (f'; one label throughout in {", ".join(filled)}' if filled else ''))


def entry() -> int:
    """The command small-berts-glue: one command line, that of this process."""
    return run_command(main, sys.argv[1:])


if __name__ == '__main__':
    sys.exit(entry())
