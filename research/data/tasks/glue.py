"""The nine tasks of GLUE and its diagnostic set AX (Wang et al. 2019): official files, or TFDS by name.

MRPC and QQP are always measured by accuracy, F1 and their mean, STS-B by Pearson's and Spearman's correlation and their mean; a
paper prints one of the three. Devlin et al. 2019, Table 1 (test): F1, F1 and Spearman's. Sanh et al. 2019, Table 1 (dev) does not
say: its QQP can only be the mean. Lan et al. 2020, Table 9 (dev) stands beside Liu et al. 2019, who print accuracy. `printed` is a
default; a table names what stands beside its numbers.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from research.data import json_lines, text_files
from research.data.tasks import files, prepared
from research.data.tasks.example import Example, Printed, Task
from research.errors import UserError

SCALE = (0.0, 5.0)  # of STS-B's scores
# The Quora file has a few rows that a newline or a missing question broke: at most this share is left out, with a message.
BROKEN = 1e-4
FILES = {split: f'{split}.tsv' for split in ('train', 'dev', 'test')}  # split -> its file
VALIDATION = {'dev': 'validation'}  # split -> its name in TFDS, where it differs


@dataclass(frozen=True)
class Glue:
    """Where the texts and the labels of one task are."""

    folder: str
    texts: tuple[str, ...]  # the columns of the text, and of its pair
    label: str  # the column of the label or the score
    names: tuple[str, ...]  # the labels, as Hugging Face orders them; () for scores
    raw: tuple[str, ...]  # the labels as the files spell them
    sizes: Mapping[str, int]  # of the official splits
    printed: Printed | None = None
    files: Mapping[str, str] = field(default_factory=lambda: FILES)
    folders: tuple[str, ...] = ()  # other folders in which the files may lie, whatever the name of the one given
    columns: tuple[str, ...] = ()  # of the labelled files, where they have no header
    fields: tuple[str, ...] = ()  # the columns of the texts in TFDS, where they differ
    tfds: Mapping[str, str] = field(default_factory=lambda: VALIDATION)
    diagnosed: str = ''  # the row of the diagnostic set that is read with the task
    metrics: tuple[str, ...] = ('accuracy',)
    selects: str = 'accuracy'
    lenient: bool = False  # whether broken rows are left out


ENTAILMENT = ('entailment', 'neutral', 'contradiction')
TWO = ('entailment', 'not_entailment')
BINARY = ('0', '1')
PAIR = ('sentence1', 'sentence2')
MNLI_FILES = {
    'train': 'train.tsv',
    'dev': 'dev_matched.tsv',
    'dev_mismatched': 'dev_mismatched.tsv',
    'test': 'test_matched.tsv',
    'test_mismatched': 'test_mismatched.tsv',
}
MNLI_TFDS = {
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
        Printed('CoLA', what="Matthews' correlation"),
        columns=('source', 'label', 'star', 'sentence'),
        metrics=('matthews',),
        selects='matthews',
    ),
    'sst2': Glue(
        'SST-2',
        ('sentence',),
        'label',
        ('negative', 'positive'),
        BINARY,
        {'train': 67_349, 'dev': 872, 'test': 1821},
        Printed('SST-2'),
    ),
    'mrpc': Glue(
        'MRPC',
        ('#1 String', '#2 String'),
        'Quality',
        ('not_equivalent', 'equivalent'),
        BINARY,
        {'train': 3668, 'dev': 408, 'test': 1725},
        Printed('MRPC', 'metrics:dev/f1', 'F1'),
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
        Printed('QQP', 'metrics:dev/accuracy'),
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
        Printed('STS-B', what="the mean of Pearson's and Spearman's correlation"),
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
        Printed('MNLI', what='accuracy, matched'),
        files=MNLI_FILES,
        fields=('premise', 'hypothesis'),
        tfds=MNLI_TFDS,
        diagnosed='ax',
    ),
    'qnli': Glue(
        'QNLI', ('question', 'sentence'), 'label', TWO, TWO, {'train': 104_743, 'dev': 5463, 'test': 5463}, Printed('QNLI')
    ),
    'rte': Glue('RTE', PAIR, 'label', TWO, TWO, {'train': 2490, 'dev': 277, 'test': 3000}, Printed('RTE')),
    'wnli': Glue(
        'WNLI',
        PAIR,
        'label',
        ('not_entailment', 'entailment'),
        BINARY,
        {'train': 635, 'dev': 71, 'test': 146},
        Printed('WNLI'),
    ),
    'ax': Glue(
        'AX',
        PAIR,
        'label',
        ENTAILMENT,
        ENTAILMENT,
        {'test': 1104},
        files={'test': 'diagnostic.tsv'},
        folders=('diagnostic', 'MNLI'),
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
        splits=lambda data, cache: from_folder(name, Path(data.folder).expanduser()) if data.folder else from_tfds(name),
        metrics=row.metrics,
        selects=row.selects,
        sizes=row.sizes,
        trains='train' in row.sizes,
        printed=(row.printed,) if row.printed else (),
    )


def find_folder(row: Glue, folder: Path) -> Path:
    """The folder of a task's files: one in `folder`, or `folder` itself. Raises UserError if there is none."""
    places = [folder / row.folder, *([folder] if row.folders or folder.name == row.folder else [])]
    places += [folder / other for other in row.folders]
    names = row.files.values()
    for place in places:
        if any((place / name).is_file() for name in names):
            return place
    raise UserError(
        f"data.folder='{folder}' has no {row.folder}/{next(iter(row.files.values()))}: give the folder that holds {row.folder}"
    )


def from_folder(name: str, folder: Path) -> dict[str, list[Example]]:
    """The splits whose official files are there, with the diagnostic set of the row.

    Raises UserError if train or dev is missing, or a row is not as it must be.
    """
    row = GLUE[name]
    place = find_folder(row, folder)
    for split in ('train', 'dev'):
        if split in row.files and not (place / row.files[split]).is_file():
            raise UserError(f"the {split} split of {name} is missing: there is no '{place / row.files[split]}'")
    found = {split: read(row, place / file, split) for split, file in row.files.items() if (place / file).is_file()}
    if row.diagnosed:
        other = GLUE[row.diagnosed]
        paths = [place.parent / each / other.files['test'] for each in (other.folder, *other.folders)]
        there = [path for path in paths if path.is_file()]
        found |= {row.diagnosed: read(other, there[0], 'test')} if there else {}
    return found


def records(row: Glue, path: Path, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, record) of each row of one official file."""
    if row.columns and not split.startswith('test'):
        lines = ((number, line.split('\t')) for number, line in text_files.lines(path) if line)
        return files.name_columns(path, (each for part in ([(0, list(row.columns))], lines) for each in part))
    if not row.lenient or split.startswith('test'):  # the server expects every row of test
        return files.tab_separated(path)
    return leave_out_broken(row, path)


def leave_out_broken(row: Glue, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows that have all columns and texts. Raises UserError at the first broken one if more than BROKEN of them are."""
    lines = [(number, line.split('\t')) for number, line in text_files.lines(path) if line]
    header = lines[0][1] if lines else []
    texts = [header.index(column) for column in row.texts if column in header]
    good = [each for each in lines if len(each[1]) == len(header) and all(each[1][at].strip() for at in texts)]
    broken = len(lines) - len(good)
    if 0 < broken <= BROKEN * len(lines):
        print(f'{path}: {broken} of {len(lines) - 1:,} rows lack a column or a question; they are left out', file=sys.stderr)
        lines = good
    return files.name_columns(path, iter(lines))


def read(row: Glue, path: Path, split: str) -> list[Example]:
    """The examples of one official file; those of test have no labels.

    Raises UserError for a missing column, an empty text and an unknown label.
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
        source = row.tfds[split] if split in row.tfds else split
        found[split] = [
            example(row, record, number, f'TFDS glue/{name} {source} example {number}')
            for number, record in enumerate(prepared.records(f'glue/{name}', source))
        ]
    return found


def example(row: Glue, record: Mapping[str, Any], number: int, where: str) -> Example:
    """The Example of a TFDS record; a label of −1 is unknown."""
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
