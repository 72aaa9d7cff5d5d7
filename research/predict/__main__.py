"""Predictions of a trained model, from a run folder or a Hugging Face folder: JSON lines in, JSON lines out.

python -m research.predict MODEL --kind=fill-mask|classify|answer|embed|hidden [--input FILE.jsonl] [--output FILE]
"""

import json
import math
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rich.console
import rich.progress
from numpy.typing import NDArray

from research.command import Parser, run_command
from research.data.json_lines import records
from research.errors import UserError, choose
from research.escape import to_json
from research.files import open_part, read_path
from research.predict.batching import predict, require
from research.predict.kinds import KINDS, read_input
from research.runs import sources


def main(arguments: list[str]) -> None:
    """Runs one command line."""
    parser = Parser(prog='python -m research.predict', description='Predictions of a trained model.')
    parser.add_argument('model', help='a run folder, a Hugging Face folder, or an id of the hub')
    parser.add_argument('--kind', required=True, help=', '.join(KINDS))
    parser.add_argument(
        '--input',
        type=read_path,
        help='JSON lines with text (and pair), or question and context; plain, .gz, .xz or .zst; by default the standard input',
    )
    parser.add_argument('--output', type=read_path, help='JSON lines, or an .npz for hidden; by default the standard output')
    parser.add_argument(
        '--no-answer',
        type=float,
        metavar='LEAD',
        help="for answer: predict '' if the logit of no answer exceeds that of the best span by more than this, such as 0; "
        'by default as the run was trained, and a Hugging Face model always answers',
    )
    given = parser.parse_args(arguments)
    choose('kind of prediction', given.kind, KINDS)
    if given.kind == 'hidden' and given.output is None:
        raise UserError('--kind=hidden writes arrays: give --output=FILE.npz')
    if given.no_answer is not None and (given.kind != 'answer' or not math.isfinite(given.no_answer)):
        raise UserError(f'--no-answer={given.no_answer} must be a finite number, and is for --kind=answer')
    if given.input is not None and not given.input.is_file():
        raise UserError(
            f'--input={given.input} is {"a folder" if given.input.is_dir() else "not there"}: give a file of JSON lines'
        )
    if given.output is not None and (given.output.is_dir() or not given.output.parent.is_dir()):
        raise UserError(f'--output={given.output} is {"a" if given.output.is_dir() else "in no"} folder: give a file in one')
    donor, x = sources.open_model(given.model, Path.cwd() / 'run', 'MODEL')
    kind = require(donor, given.kind)
    source, opened = (Path('standard input'), sys.stdin.buffer) if given.input is None else (given.input, None)
    inputs = (read_input(fields, f"'{source}' line {line}", kind) for line, fields in records(source, opened))
    with progress() as report:
        found = predict(donor, kind, x.data, inputs, report, given.no_answer)
        if given.kind == 'hidden' and given.output is not None:
            write_arrays(found, given.output)
        else:
            write_lines(found, given.output)


@contextmanager
def progress() -> Iterator[Callable[[int], None]]:
    """A function to call with the number of inputs that were just finished; it shows the progress on the standard error."""
    console = rich.console.Console(stderr=True, highlight=False)
    done, begin = 0, time.monotonic()
    columns = [rich.progress.TextColumn('{task.completed:,} inputs'), rich.progress.TimeElapsedColumn()]
    with rich.progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as live:
        task = live.add_task('', total=None)

        def step(more: int) -> None:
            nonlocal done
            done += more
            live.update(task, completed=done)
            if not console.is_terminal:
                print(f'{done:,} inputs, {time.monotonic() - begin:.1f} s', file=sys.stderr, flush=True)

        yield step


def write_lines(found: Iterator[dict[str, Any]], output: Path | None) -> None:
    """Writes one JSON line for each prediction, to the standard output, or atomically to a file."""
    if output is None:
        for each in found:
            line = json.dumps(each, ensure_ascii=sys.stdout.encoding.lower() != 'utf-8', allow_nan=False)
            print(to_json(line), flush=True)
        return
    with open_part(output) as part, part.open('w', encoding='utf-8') as stream:
        for each in found:
            stream.write(json.dumps(each, ensure_ascii=False, allow_nan=False) + '\n')


def write_arrays(found: Iterator[dict[str, NDArray[np.float32]]], output: Path) -> None:
    """Writes the arrays of input i under the keys i/NAME of an .npz, as they come."""
    with open_part(output) as part, zipfile.ZipFile(part, 'w', zipfile.ZIP_STORED, allowZip64=True) as archive:
        for i, arrays in enumerate(found):
            for name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f'{i}/{name}.npy'), 'w', force_zip64=True) as stream:
                    np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)


def entry() -> int:
    """The console script: runs the command line of this process and returns its exit status."""
    return run_command(main, sys.argv[1:])


if __name__ == '__main__':
    sys.exit(entry())
