"""What a model says of texts: JSON lines in, JSON lines out, from a run folder or a Hugging Face folder.

python -m research.predict MODEL --kind=fill-mask|classify|answer|embed|hidden [--input FILE.jsonl] [--output FILE]
"""

import json
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import rich.console
import rich.progress
from numpy.typing import NDArray

from research.command import Parser, run_command
from research.data.json_lines import parse_line, string
from research.errors import UserError, choose
from research.predict.batching import predict
from research.predict.inputs import Input
from research.predict.kinds import KINDS, Kind
from research.runs import sources

# ---- The command --------------------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> None:
    """Runs one command line."""
    parser = Parser(prog='python -m research.predict', description='What a model says of texts.')
    parser.add_argument('model', help='a run folder, a Hugging Face folder, or an id of the hub')
    parser.add_argument('--kind', required=True, help=', '.join(KINDS))
    parser.add_argument('--input', type=Path, help='JSON lines; by default the standard input')
    parser.add_argument('--output', type=Path, help='JSON lines, or an .npz for hidden; by default the standard output')
    given = parser.parse_args(arguments)
    kind = KINDS[choose('kind of prediction', given.kind, KINDS)]
    if given.kind == 'hidden' and given.output is None:
        raise UserError('--kind=hidden writes arrays: give --output=FILE.npz')
    if given.input is not None and not given.input.is_file():
        raise UserError(
            f'--input={given.input} is {"a folder" if given.input.is_dir() else "not there"}: give a file of JSON lines'
        )
    if given.output is not None and (given.output.is_dir() or not given.output.parent.is_dir()):
        raise UserError(f'--output={given.output} is {"a" if given.output.is_dir() else "in no"} folder: give a file in one')
    donor = sources.open_donor(given.model, Path.cwd() / 'run', 'MODEL')
    if kind.head and kind.head not in dict(donor.heads):
        has = ', '.join(name for name, _ in donor.heads) or 'none'
        raise UserError(f'--kind={given.kind} needs the {kind.head} head, which {donor.label} lacks (it has: {has})')
    if donor.tokenizer is None:
        raise UserError(f'{donor.label} has no tokenizer, so it can read no text: put its tokenizer.json or vocab.txt beside it')
    data = sources.read_experiment(given.model, Path.cwd() / 'run', 'MODEL').data
    source = nullcontext(sys.stdin) if given.input is None else given.input.open(encoding='utf-8')
    with source as lines, progress() as report:
        told = predict(donor, kind, data, parse(lines, given.input or 'standard input', kind), report)
        if given.kind == 'hidden' and given.output is not None:
            write_arrays(told, given.output)
        else:
            write_lines(told, given.output)


def parse(lines: TextIO, source: Any, kind: Kind) -> Iterator[Input]:
    """The inputs on JSON lines; empty lines are passed over.

    Raises UserError for a line that is none, by its number.
    """
    numbers = enumerate(lines, 1)
    while True:
        try:
            line, text = next(numbers)
        except StopIteration:
            return
        except UnicodeDecodeError as error:
            raise UserError(f"'{source}' is not UTF-8: {error.reason}") from None
        if not text.strip():
            continue
        found = parse_line(text, source, line)
        fields = {}
        where = f"'{source}' line {line}"
        for name in (*kind.fields, *(('pair',) if 'pair' in found and kind.fields == ('text',) else ())):
            fields[name] = string(found, name, where)
        yield Input(where, fields)


@contextmanager
def progress() -> Iterator[Callable[[int], None]]:
    """A function that is told how many more inputs are done, and says so on the standard error."""
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


@contextmanager
def whole(output: Path) -> Iterator[Path]:
    """A path to write to that becomes `output` at the end, and is gone after an error."""
    part = output.with_name(output.name + '.part')
    try:
        yield part
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def write_lines(told: Iterator[dict[str, Any]], output: Path | None) -> None:
    """One JSON line each, to a file, whole or not at all, or to the standard output."""
    if output is None:
        for each in told:
            print(json.dumps(each, ensure_ascii=False), flush=True)
        return
    with whole(output) as part, part.open('w', encoding='utf-8') as stream:
        for each in told:
            stream.write(json.dumps(each, ensure_ascii=False) + '\n')


def write_arrays(told: Iterator[dict[str, NDArray[np.float32]]], output: Path) -> None:
    """The arrays of input i under the keys i/NAME of an .npz, written as they come."""
    with whole(output) as part, zipfile.ZipFile(part, 'w', zipfile.ZIP_STORED, allowZip64=True) as archive:
        for i, arrays in enumerate(told):
            for name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f'{i}/{name}.npy'), 'w', force_zip64=True) as stream:
                    np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)


if __name__ == '__main__':
    sys.exit(run_command(main, sys.argv[1:]))
