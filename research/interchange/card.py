"""The model card of an export: architecture, origin and results."""

import shlex
from pathlib import Path
from typing import Any

from research import costs
from research.escape import hide_secrets, to_markdown, to_markdown_code
from research.models.architecture import Architecture
from research.models.sharing import count_groups
from research.records import read_record
from research.runs.folder import read_environment, read_result
from research.surgery import Donor


def make_card(class_name: str, donor: Donor, run: Path, notes: tuple[str, ...], licence: str) -> str:
    """The README.md of an export of `donor`, the model in the folder `run`; `notes` are the differences of the export."""
    result = read_result(run)
    summary = costs.summarize_parameters(donor.architecture, donor.heads)
    name = read_key(run / 'experiment.json', 'name') or run.name
    results = {} if result is None else {metric: f'{value:.4f}' for metric, value in result.metrics.items()}
    parts = [
        f'---\nlicense: {licence}\nlibrary_name: transformers\n---',
        f'# {to_markdown(str(name))}',
        f'`{class_name}`, {summary["total"]:,} parameters ({summary["encoder"]:,} in the encoder).',
        '## Architecture',
        format_table(('field', 'value'), describe_architecture(donor)),
        *(f'{note[0].upper()}{note[1:]}.' for note in notes),
        '## Origin',
        format_table(('what', 'value'), {'Run': name, **describe_origin(run)}),
        '## Results',
        format_table(('metric', 'value'), results) if results else 'The run recorded none.',
    ]
    return '\n\n'.join(parts) + '\n'


def describe_architecture(donor: Donor) -> dict[str, Any]:
    """The main fields of the donor's Architecture."""
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
        'LayerNorm': a.norm,
        'activation': a.activation,
        'sharing': f'{a.sharing}: {attention} attention and {feed_forward} feed-forward blocks',
        'heads on top': ', '.join(head for head, _ in donor.heads) or 'none',
    }


def describe_origin(run: Path) -> dict[str, Any]:
    """Code, command and data of the run; None if not recorded."""
    environment = read_environment(run)
    data = {} if environment is None else environment.data
    # Cards are published, and earlier versions recorded secrets.
    command = None if environment is None else shlex.join(('python', *hide_secrets(environment.command)))
    return {
        'Commit of the code': None if environment is None else environment.commit,
        'Command': None if command is None else Code(to_markdown_code(command)),
        'Data': data['source'] if 'source' in data else None,
        'Data fingerprint': data['fingerprint'] if 'fingerprint' in data else None,
        'Tokenizer fingerprint': read_key(run / 'tokenizer' / 'facts.json', 'fingerprint'),
    }


class Code(str):
    """Markdown that is a span of code."""


def format_table(header: tuple[str, str], rows: dict[str, Any]) -> str:
    """A Markdown table; None becomes 'not recorded'."""
    lines = [f'| {" | ".join(header)} |', '| --- | --- |']
    for key, value in rows.items():
        shown = value if isinstance(value, Code) else 'not recorded' if value is None else to_markdown(str(value), table=True)
        lines.append(f'| {to_markdown(key, table=True)} | {shown} |')
    return '\n'.join(lines)


def read_key(file: Path, key: str) -> Any:
    """The value of `key` in the JSON object of a file; None if there is no such file or key."""
    record = read_record(file)
    return record[key] if record is not None and key in record else None
