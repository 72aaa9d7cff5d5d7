"""python -m research.interchange import SOURCE RUN_DIR | export RUN_DIR TARGET_DIR"""

import argparse
import hashlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import rich.console
import rich.table
import rich.text

from research import costs, wire
from research.checkpoint import Checkpoints
from research.command import Parser, run_command
from research.data.tokenizers import load_tokenizer, save_tokenizer
from research.errors import UserError
from research.escape import clean
from research.files import open_part_folder, read_path
from research.interchange import reading, writing
from research.interchange.reading import ReportRow
from research.interchange.weights import find_weight_files
from research.records import to_json, write_record
from research.runs import sources
from research.runs.environment import describe_environment
from research.runs.fingerprints import fingerprint_params
from research.runs.folder import Parameters, Result, write_environment, write_result
from research.surgery import Donor, Pooling
from research.train import State

ROWS = 200  # of the report on an import that are printed


def main(arguments: list[str]) -> None:
    """Runs one command line."""
    parser = Parser(prog='python -m research.interchange', description='Import and export of Hugging Face checkpoints.')
    commands = parser.add_subparsers(dest='command', required=True, parser_class=Parser)
    inward = commands.add_parser('import', help='write a Hugging Face folder or a model of the hub as a run folder')
    inward.add_argument('source', help='a folder, or an id of the hub')
    inward.add_argument('run', type=read_path, help='the run folder to write')
    outward = commands.add_parser('export', help='write a run as a Hugging Face folder')
    outward.add_argument('run', type=read_path, help='a run folder')
    outward.add_argument('target', type=read_path, help='the folder to write')
    outward.add_argument('--heads', help='the heads to export, such as mlm,pair, or none; by default all')
    outward.add_argument('--licence', default='unknown', help='for the model card, in the spelling of the hub, such as apache-2.0')
    given = parser.parse_args(arguments)
    if given.command == 'import':
        import_run(given)
    else:
        export_run(given)


def import_run(given: argparse.Namespace) -> None:
    """Writes the run folder and prints which tensors are loaded, random or ignored."""
    run: Path = given.run
    folder = sources.find(given.source, Path.cwd() / 'run', 'SOURCE')
    donor, report = reading.open_folder(folder, given.source)
    with open_part_folder(run) as part:
        write_run(donor, folder, part, run.name)
    rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(make_table(report))
    total = costs.summarize_parameters(donor.architecture, donor.heads)['total']
    heads = ', '.join(name for name, _ in donor.heads) or 'none'
    print(f'{clean(given.source)} -> {clean(str(run))}: {total:,} parameters, heads: {heads}')
    for head, fault in donor.faults.items():
        print(f'note: the {head} head is left out: {clean(fault)}')
    if donor.pooling.fault:
        print(f'note: no embeddings can be computed: {clean(donor.pooling.fault)}')
    if donor.tokenizer is None:
        print('note: the folder has no tokenizer: a run that starts from this one needs --config.data.tokenizer')


def write_run(donor: Donor, folder: Path, run: Path, name: str) -> None:
    """Writes a finished run called `name` into `run`: the model `donor`, read from `folder`. Empties the donor's parameters."""
    write_record(run / 'experiment.json', wire.to_wire(sources.from_architecture(name, donor.architecture)).to_dict())
    if donor.tokenizer is not None:
        save_tokenizer(load_tokenizer(donor.tokenizer), run / 'tokenizer')
    result = make_result(donor, name)
    checkpoints = Checkpoints(run / 'checkpoints')
    checkpoints.save(State(step=jnp.zeros((), jnp.int32), key=jax.random.key(0), params=donor.params, moments={}))
    donor.params.clear()  # a copy is being saved; two do not fit the memory
    checkpoints.close()
    facts = {
        'source': donor.label,
        'fingerprint': fingerprint_files(find_weight_files(folder)),
        'labels': list(donor.labels) or None,
    }
    if donor.pooling != Pooling():
        facts['pooling'] = to_json(donor.pooling)
    write_environment(run, describe_environment(facts))
    write_result(run, result)


def make_result(donor: Donor, name: str) -> Result:
    """The Result of a model that was not trained here, without measurements."""
    a = donor.architecture
    parameters = Parameters(**costs.summarize_parameters(a, donor.heads))
    return Result(
        name=name,
        steps=0,
        metrics={},
        selected=None,
        parameters=parameters,
        flops_per_token=costs.count_forward_flops(a, a.positions) / a.positions,
        flops_per_step=0,
        checkpoint_bytes=4 * parameters.total,
        train_seconds=0.0,
        wall_seconds=0.0,
        tokens_per_second=None,
        peak_memory_bytes=None,
        latency_seconds=None,
        smoothness=None,
        unigram_entropy=None,
        labels=donor.labels or None,
        baseline=None,
        reported=None,
        score=None,
        collapsed=None,
        fingerprint=fingerprint_params(donor.params),
    )


def fingerprint_files(files: list[Path]) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of the files' bytes."""
    content = hashlib.sha256()
    for file in files:
        with file.open('rb') as stream:
            while chunk := stream.read(1 << 20):
                content.update(chunk)
    return content.hexdigest()[:16]


def make_table(report: list[ReportRow]) -> rich.table.Table:
    """The report on an import as a table."""
    found = rich.table.Table('', 'what', 'tensors', 'parameters')
    for row in report[:ROWS]:
        numbers = (f'{row.tensors:,}', f'{row.parameters:,}') if row.tensors else ('', '')
        found.add_row(row.status, rich.text.Text(clean(row.what, 200)), *numbers)  # a name in brackets is no markup
    left = report[ROWS:]
    if left:
        found.add_row(
            '', f'and {len(left):,} more', f'{sum(row.tensors for row in left):,}', f'{sum(row.parameters for row in left):,}'
        )
    return found


def export_run(given: argparse.Namespace) -> None:
    """Writes the Hugging Face folder and prints the class that loads it."""
    if not (given.run / 'experiment.json').is_file():
        raise UserError(f"'{given.run}' is no run folder: it has no experiment.json")
    donor = sources.open_donor(str(given.run), Path.cwd() / 'run', 'RUN_DIR')
    heads = None if given.heads is None else tuple(name for name in given.heads.split(',') if name != 'none')
    exported = writing.export_model(donor, given.run, given.target, heads, given.licence)
    print(clean(f'{given.run} -> {given.target}: {exported.class_name} (model type {exported.kind})'))
    for note in exported.notes:
        print(f'note: {clean(note)}')
    if donor.tokenizer is None:
        print('note: the run has no tokenizer, so the export has none')


def entry() -> int:
    """Runs this process's command line and returns its exit status."""
    return run_command(main, sys.argv[1:])


if __name__ == '__main__':
    sys.exit(entry())
