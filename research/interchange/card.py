"""The model card that an export carries: what the model is, where it comes from and what it reached."""

import json
import shlex
from pathlib import Path
from typing import Any

from research import costs
from research.models.architecture import Architecture
from research.models.sharing import count_groups
from research.surgery import Donor


def card(class_name: str, donor: Donor, run: Path, notes: tuple[str, ...], licence: str) -> str:
    """The README.md of an export of `donor`, from what the folder `run` says of itself."""
    environment, result = facts(run / 'environment.json'), facts(run / 'result.json')
    summary = costs.summary(donor.architecture, donor.heads)
    name = read(facts(run / 'experiment.json'), 'name') or run.name
    origin = {
        'Run': name,
        'Commit of the code': read(environment, 'commit'),
        'Command': command(environment),
        'Data': read(environment, 'data', 'source'),
        'Data fingerprint': read(environment, 'data', 'fingerprint'),
        'Tokenizer fingerprint': read(facts(run / 'tokenizer' / 'facts.json'), 'fingerprint'),
    }
    results = {metric: f'{value:.4f}' for metric, value in (read(result, 'metrics') or {}).items()}
    parts = [
        f'---\nlicense: {licence}\nlibrary_name: transformers\n---',
        f'# {name}',
        f'`{class_name}`, {summary["total"]:,} parameters ({summary["encoder"]:,} in the encoder).',
        '## Architecture',
        table(('field', 'value'), architecture(donor)),
        *(f'{note[0].upper()}{note[1:]}.' for note in notes),
        '## Origin',
        table(('what', 'value'), origin),
        '## Results',
        table(('metric', 'value'), results) if results else 'The run recorded none.',
    ]
    return '\n\n'.join(parts) + '\n'


def architecture(donor: Donor) -> dict[str, Any]:
    """What a reader wants to know of an Architecture first."""
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


def command(environment: dict[str, Any]) -> str | None:
    """The command line of the run."""
    given = read(environment, 'command')
    return None if given is None else f'`python {shlex.join(given)}`'


def table(header: tuple[str, str], rows: dict[str, Any]) -> str:
    """A Markdown table; what is not known says so."""
    lines = [f'| {" | ".join(header)} |', '| --- | --- |']
    return '\n'.join(lines + [f'| {key} | {"not recorded" if value is None else value} |' for key, value in rows.items()])


def facts(file: Path) -> dict[str, Any]:
    """The JSON object in a file; {} where there is none."""
    return json.loads(file.read_text('utf-8')) if file.is_file() else {}


def read(found: Any, *keys: str) -> Any:
    """The value at `keys`, or None where one is absent."""
    for key in keys:
        if not isinstance(found, dict) or key not in found:
            return None
        found = found[key]
    return found
