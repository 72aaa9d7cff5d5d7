"""The nine tasks of GLUE and its diagnostic set AX (Wang et al. 2019): official files, or TFDS by name."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research.data import json_lines, text_files
from research.data.tasks import files, prepared
from research.data.tasks.example import Example, Task
from research.errors import UserError

SCALE = (0.0, 5.0)  # of STS-B's scores
# The Quora file has a few rows that a newline or a missing question broke: this share at most is left out, and told of.
BROKEN = 1e-4


@dataclass(frozen=True)
class Glue:
    """Where the texts and the labels of one task are."""

    folder: str
    texts: tuple[str, ...]  # the columns of the text, and of its pair
    label: str  # the column of the label or the score
    names: tuple[str, ...]  # the labels, as Hugging Face orders them; () for scores
    raw: tuple[str, ...]  # the labels as the files spell them
    sizes: Mapping[str, int]  # of the official splits
    files: Mapping[str, str] | None = None  # split -> file, where it is not SPLIT.tsv
    columns: tuple[str, ...] = ()  # of the labelled files, where they have no header
    fields: tuple[str, ...] = ()  # the columns of the texts in TFDS, where they differ
    metrics: tuple[str, ...] = ('accuracy',)
    selects: str = 'accuracy'
    lenient: bool = False  # broken rows are left out


ENTAILMENT = ('entailment', 'neutral', 'contradiction')
TWO = ('entailment', 'not_entailment')
BINARY = ('0', '1')
PAIR = ('sentence1', 'sentence2')
MNLI = {
    'train': 'train.tsv',
    'dev': 'dev_matched.tsv',
    'dev_mismatched': 'dev_mismatched.tsv',
    'test': 'test_matched.tsv',
    'test_mismatched': 'test_mismatched.tsv',
}
MATCHED = {
    'dev': 'validation_matched',
    'dev_mismatched': 'validation_mismatched',
    'test': 'test_matched',
    'test_mismatched': 'test_mismatched',
}

GLUE: dict[str, Glue] = {
    'cola': Glue(
        'CoLA',
        ('sentence',),
        'label',
        ('unacceptable', 'acceptable'),
        BINARY,
        {'train': 8551, 'dev': 1043, 'test': 1063},
        columns=('source', 'label', 'star', 'sentence'),
        metrics=('matthews',),
        selects='matthews',
    ),
    'sst2': Glue('SST-2', ('sentence',), 'label', ('negative', 'positive'), BINARY, {'train': 67_349, 'dev': 872, 'test': 1821}),
    'mrpc': Glue(
        'MRPC',
        ('#1 String', '#2 String'),
        'Quality',
        ('not_equivalent', 'equivalent'),
        BINARY,
        {'train': 3668, 'dev': 408, 'test': 1725},
        fields=PAIR,
        metrics=('accuracy', 'f1'),
        selects='score',
    ),
    'qqp': Glue(
        'QQP',
        ('question1', 'question2'),
        'is_duplicate',
        ('not_duplicate', 'duplicate'),
        BINARY,
        {'train': 363_846, 'dev': 40_430, 'test': 390_965},
        metrics=('accuracy', 'f1'),
        selects='score',
        lenient=True,
    ),
    'stsb': Glue(
        'STS-B',
        PAIR,
        'score',
        (),
        (),
        {'train': 5749, 'dev': 1500, 'test': 1379},
        metrics=('pearson', 'spearman'),
        selects='score',
    ),
    'mnli': Glue(
        'MNLI',
        PAIR,
        'gold_label',
        ENTAILMENT,
        ENTAILMENT,
        {'train': 392_702, 'dev': 9815, 'dev_mismatched': 9832, 'test': 9796, 'test_mismatched': 9847},
        files=MNLI,
        fields=('premise', 'hypothesis'),
    ),
    'qnli': Glue('QNLI', ('question', 'sentence'), 'label', TWO, TWO, {'train': 104_743, 'dev': 5463, 'test': 5463}),
    'rte': Glue('RTE', PAIR, 'label', TWO, TWO, {'train': 2490, 'dev': 277, 'test': 3000}),
    'wnli': Glue('WNLI', PAIR, 'label', ('not_entailment', 'entailment'), BINARY, {'train': 635, 'dev': 71, 'test': 146}),
    'ax': Glue(
        'AX',
        PAIR,
        'label',
        ENTAILMENT,
        ENTAILMENT,
        {'test': 1104},
        files={'test': 'diagnostic.tsv'},
        fields=('premise', 'hypothesis'),
        metrics=('matthews',),
        selects='matthews',
    ),
}


def task(name: str) -> Task:
    """The row of TASKS of a GLUE task."""
    row = GLUE[name]
    return Task(
        'label' if row.names else 'score',
        labels=lambda data: row.names or ('score',),
        splits=lambda data: from_folder(name, Path(data.folder).expanduser()) if data.folder else from_tfds(name),
        metrics=row.metrics,
        selects=row.selects,
        sizes=row.sizes,
    )


def home(row: Glue, folder: Path) -> Path:
    """The folder of a task's files: `folder` itself where it has the task's name, else its part of that name."""
    places = [folder, folder / 'diagnostic', folder / 'MNLI'] if row.folder == 'AX' else [folder]
    for place in [folder / row.folder, *places]:
        names = row.files.values() if row.files else ('train.tsv', 'dev.tsv')
        if (place.name == row.folder or row.folder == 'AX') and any((place / name).is_file() for name in names):
            return place
    raise UserError(
        f"data.folder='{folder}' has no {row.folder}/{next(iter(row.files.values())) if row.files else 'train.tsv'}: "
        f'give the folder that holds {row.folder}'
    )


def from_folder(name: str, folder: Path) -> dict[str, list[Example]]:
    """The splits whose official files are there. Raises UserError where train or dev is missing, or a row is not as it must be."""
    row = GLUE[name]
    place = home(row, folder)
    named = row.files or {split: f'{split}.tsv' for split in ('train', 'dev', 'test')}
    for split in ('train', 'dev'):
        if split in named and not (place / named[split]).is_file():
            raise UserError(f"the {split} split of {name} is missing: there is no '{place / named[split]}'")
    found = {split: read(row, place / file, split) for split, file in named.items() if (place / file).is_file()}
    diagnostics = [place.parent / other / 'diagnostic.tsv' for other in ('AX', 'diagnostic', 'MNLI')]
    there = [path for path in diagnostics if path.is_file()]
    return found | ({'ax': read(GLUE['ax'], there[0], 'test')} if name == 'mnli' and there else {})


def records(row: Glue, path: Path, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, record) of each row of one official file."""
    if row.columns and not split.startswith('test'):
        lines = ((number, line.split('\t')) for number, line in text_files.lines(path) if line)
        return files.named(path, (each for part in ([(0, list(row.columns))], lines) for each in part))
    if not row.lenient or split.startswith('test'):  # the server asks for every row of test
        return files.tab_separated(path)
    return unbroken(row, path)


def unbroken(row: Glue, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows that have all columns and texts. Raises UserError at the first that has not where they are more than a few."""
    lines = [(number, line.split('\t')) for number, line in text_files.lines(path) if line]
    header = lines[0][1] if lines else []
    texts = [header.index(column) for column in row.texts if column in header]
    good = [each for each in lines if len(each[1]) == len(header) and all(each[1][at].strip() for at in texts)]
    broken = len(lines) - len(good)
    if 0 < broken <= BROKEN * len(lines):
        print(f'{path}: {broken} of {len(lines) - 1:,} rows lack a column or a question; they are left out', file=sys.stderr)
        lines = good
    return files.named(path, iter(lines))


def read(row: Glue, path: Path, split: str) -> list[Example]:
    """The examples of one official file; those of test have no labels.

    Raises UserError for a missing column, an empty text, and a label that is not in the set.
    """
    result = []
    for number, record in records(row, path, split):
        where = f"'{path}' line {number}"
        text = json_lines.string if row.lenient and split.startswith('test') else files.text
        texts = [text(record, column, where) for column in row.texts]
        label, score = '', None
        if not split.startswith('test'):
            given = files.text(record, row.label, where).strip()
            if not row.names:
                score = files.number(given, row.label, where, *SCALE)
            elif given not in row.raw:
                raise UserError(f"{where}: unknown label '{given}' (there are: {', '.join(row.raw)})")
            else:
                label = row.names[row.raw.index(given)]
        id = str(record['index']) if 'index' in record else str(record['id']) if 'id' in record else str(len(result))
        result.append(Example(texts[0], texts[1] if len(texts) > 1 else '', label, where, id, score))
    if not result:
        raise UserError(f"'{path}' has no examples")
    return result


def from_tfds(name: str) -> dict[str, list[Example]]:
    """The splits that TFDS has under glue/NAME."""
    row = GLUE[name]
    found = {}
    for split in row.sizes:
        there = (MATCHED if name == 'mnli' else {'dev': 'validation'}) | {'train': 'train'}
        source = there[split] if split in there else split
        found[split] = [
            example(row, record, number, f'TFDS glue/{name} {source} example {number}')
            for number, record in enumerate(prepared.records(f'glue/{name}', source))
        ]
    return found


def example(row: Glue, record: Mapping[str, Any], number: int, where: str) -> Example:
    """The Example of a TFDS record; a label of −1 is not known."""
    texts = [prepared.string(record[column]) for column in row.fields or row.texts]
    label = float(record['label'])
    return Example(
        texts[0],
        texts[1] if len(texts) > 1 else '',
        row.names[int(label)] if row.names and label >= 0 else '',
        where,
        str(int(record['idx'])) if 'idx' in record else str(number),
        label if not row.names and label >= 0 else None,
    )
