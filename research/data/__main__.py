"""python -m research.data prepare --config=FILE[:size] [--config.KEY=VALUE …] [--stats]"""

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from research import command
from research.command import Parser, run_command
from research.data import places, preparation, tokenizer_training, validation
from research.data.corpus import Corpus
from research.data.settings import Data
from research.data.tokenizers import describe_unreachable, vocabulary_of
from research.errors import UserError
from research.escape import clean
from research.experiment import Experiment
from research.runs import sources
from research.study import config_files
from research.wire import override

TOP = 20  # most frequent pieces shown


def main(arguments: list[str]) -> None:
    """Runs one command line."""
    parser = Parser(prog='python -m research.data', description='Corpora, prepared before they are needed.')
    commands = parser.add_subparsers(dest='command', required=True, parser_class=Parser)
    prepare = commands.add_parser('prepare', help='train the tokenizer and cut the corpus that a config pretrains on')
    prepare.add_argument(
        '--config', required=True, help='FILE[:size] of configs/ or experiments/; --config.KEY=VALUE changes a key'
    )
    prepare.add_argument('--stats', action='store_true', help='also print lengths, unknown pieces and the most frequent pieces')
    given, rest = parser.parse_known_args(arguments)
    changed = command.parse_changes(rest, ('config', 'stats'), '--config, --config.KEY, --stats')
    asked = config_files.load(given.config)
    runs = {asked.name: asked} if isinstance(asked, Experiment) else asked.runs
    wanted = {name: override(x, changed) for name, x in runs.items()}
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120)
    shown = set()
    for x, data in distinct(wanted.values()):
        tokenizer = tokenizer_training.tokenizer_of(data, x.machine.cache, x.model.vocabulary)
        if notice := describe_unreachable(tokenizer, vocabulary_of(tokenizer)):
            console.print(clean(notice), soft_wrap=True, markup=False)
        for each in preparation.prepare(data, x.machine.cache, tokenizer):
            if each.folder in shown:
                continue
            shown.add(each.folder)
            console.print(summary(each), soft_wrap=True, markup=False)
            if given.stats:
                console.print(lengths(each))
                console.print(frequent(each, [tokenizer.id_to_token(id) for id in range(vocabulary_of(tokenizer).size)]))


def distinct(experiments: Iterable[Experiment]) -> list[tuple[Experiment, Data]]:
    """One experiment, with its data, for each corpus that some experiments pretrain on. Raises UserError if none does."""
    found = {}
    for x in experiments:
        if not x.data.task:
            data = locate_tokenizer(x)
            validation.validate_corpus(data)
            validation.validate_machine(x.machine)
            found.setdefault((x.machine.cache, places.identity(data, x.model.vocabulary)), (x, data))
    if not found:
        raise UserError('the config fine-tunes on a task (data.task); only corpora to pretrain on are prepared')
    return list(found.values())


def locate_tokenizer(x: Experiment) -> Data:
    """The data of an experiment, with the folder of its tokenizer if that is the start's or the teacher's."""
    named = {'start': sources.source_of_start(x), 'teacher': x.teacher}
    source = named[x.data.tokenizer] if x.data.tokenizer in named else x.data.tokenizer
    if x.data.tokenizer in named and not source:
        raise UserError(
            f"data.tokenizer='{x.data.tokenizer}', but there is no {x.data.tokenizer}: give --config.{x.data.tokenizer}=RUN"
        )
    if source.startswith('@'):
        raise UserError(f"the tokenizer of '{source}' does not exist before that run; prepare with --config.data.tokenizer=FOLDER")
    if x.data.tokenizer in named:  # a run, a Hugging Face folder or an id of the hub
        source = str(sources.find(source, Path.cwd() / 'run', x.data.tokenizer))
    return dataclasses.replace(x.data, tokenizer=source)


def summary(each: Corpus) -> str:
    """Two lines about a prepared corpus."""
    facts = each.facts
    return (
        f'{clean(facts.source)}: {facts.documents:,} documents and {facts.tokens:,} tokens to train on, '
        f'{facts.held_out_documents:,} documents and {facts.held_out_tokens:,} tokens held out, '
        f'{facts.duplicates:,} duplicates left out, {facts.unknown_rate:.3%} of the pieces unknown\n'
        f'  {bytes_of(each.folder) / 1e6:,.1f} MB in {clean(str(each.folder))}, {each.weight:.0%} of the training text'
    )


def bytes_of(folder: Path) -> int:
    """The size of the files of a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


def lengths(each: Corpus) -> Table:
    """How many documents and how many sentences have how many pieces, by powers of two."""
    table = Table('pieces', 'documents', 'sentences', title='lengths', title_justify='left')
    for column in table.columns:
        column.justify = 'right'
    documents, sentences = each.facts.lengths['documents'], each.facts.lengths['sentences']
    for bin in range(max(len(documents), len(sentences))):
        counts = (f'{counted[bin]:,}' if bin < len(counted) else '' for counted in (documents, sentences))
        table.add_row(f'{2**bin:,} to {2 ** (bin + 1) - 1:,}', *counts)
    return table


def frequent(each: Corpus, pieces: list[str | None]) -> Table:
    """The most frequent pieces of the training text."""
    table = Table('piece', 'occurrences', 'share', title='most frequent pieces', title_justify='left')
    table.columns[1].justify = table.columns[2].justify = 'right'
    order = np.argsort(-each.counts, kind='stable')[:TOP]
    for id in order[each.counts[order] > 0]:
        table.add_row(Text(clean(str(pieces[id]))), f'{each.counts[id]:,}', f'{each.counts[id] / each.counts.sum():.2%}')
    return table


def entry() -> int:
    """The command small-berts-data: one command line, that of this process."""
    return run_command(main, sys.argv[1:], 'interrupted; the same command goes on from the last whole block')


if __name__ == '__main__':
    sys.exit(entry())
