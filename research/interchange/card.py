"""The model card of an export: architecture, provenance and results."""

import shlex
from pathlib import Path
from typing import Any

from research import costs
from research.files import read_record
from research.models.architecture import Architecture
from research.models.sharing import count_groups
from research.runs.folder import read_environment, read_result
from research.surgery import Donor


def card(class_name: str, donor: Donor, run: Path, notes: tuple[str, ...], licence: str) -> str:
    """The README.md of an export of `donor`, which the folder `run` holds."""
    result = read_result(run)
    summary = costs.summary(donor.architecture, donor.heads)
    name = read_key(run / 'experiment.json', 'name') or run.name
    results = {} if result is None else {metric: f'{value:.4f}' for metric, value in result.metrics.items()}
    parts = [
        f'---\nlicense: {licence}\nlibrary_name: transformers\n---',
        f'# {name}',
        f'`{class_name}`, {summary["total"]:,} parameters ({summary["encoder"]:,} in the encoder).',
        '## Architecture',
        table(('field', 'value'), architecture(donor)),
        *(f'{note[0].upper()}{note[1:]}.' for note in notes),
        '## Origin',
        table(('what', 'value'), {'Run': name, **provenance(run)}),
        '## Results',
        table(('metric', 'value'), results) if results else 'The run recorded none.',
    ]
    return '\n\n'.join(parts) + '\n'


def architecture(donor: Donor) -> dict[str, Any]:
    """The fields of the donor's Architecture that a reader asks for first."""
    a: Architecture = donor.architecture
    attention, feed_forward = count_groups(a)
    return {
        'layers': a.layers,
        'width': a.width,
        'attention heads': a.heads,
        'inner width': a.inner,
        'embedding size': a.embedding,
        'vocabulary': f'{a.vocabulary:,}',
        'positions': f'{a.positions} ({a.position_kind})',
        'activation': a.activation,
        'sharing': f'{a.sharing}: {attention} attention and {feed_forward} feed-forward blocks',
        'heads on top': ', '.join(head for head, _ in donor.heads) or 'none',
    }


def provenance(run: Path) -> dict[str, Any]:
    """Code, command and data of the run; what was not recorded is None."""
    environment = read_environment(run)
    data = {} if environment is None else environment.data
    return {
        'Commit of the code': None if environment is None else environment.commit,
        'Command': None if environment is None else f'`python {shlex.join(environment.command)}`',
        'Data': data['source'] if 'source' in data else None,
        'Data fingerprint': data['fingerprint'] if 'fingerprint' in data else None,
        'Tokenizer fingerprint': read_key(run / 'tokenizer' / 'facts.json', 'fingerprint'),
    }


def table(header: tuple[str, str], rows: dict[str, Any]) -> str:
    """A Markdown table; None is 'not recorded'."""
    lines = [f'| {" | ".join(header)} |', '| --- | --- |']
    return '\n'.join(lines + [f'| {key} | {"not recorded" if value is None else value} |' for key, value in rows.items()])


def read_key(file: Path, key: str) -> Any:
    """The value at `key` of the JSON object in a file; None without either."""
    record = read_record(file)
    return record[key] if record is not None and key in record else None
