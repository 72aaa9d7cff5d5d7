"""What a model says of texts: JSON lines in, JSON lines out, from a run folder or a Hugging Face folder.

python -m research.predict MODEL --kind=fill-mask|classify|answer|embed|hidden [--input FILE.jsonl] [--output FILE]
"""

import dataclasses
import json
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import rich.progress
from numpy.typing import NDArray
from scipy.special import softmax
from tokenizers import Tokenizer

from research import donors
from research.answers import Answer, candidates, none_logit
from research.data import tokenizers
from research.data.settings import Data
from research.data.sources import parsed, string
from research.data.supervised import Ids, cut
from research.data.tokenizers import Vocabulary, load_tokenizer, vocabulary_of
from research.data.windows import windows
from research.errors import Parser, UserError, choose, run_command
from research.models.heads import Model, encode, score
from research.surgery import Donor

WINDOW = 1024  # inputs that are held at once; within a window they are batched by length
TOKENS = 4096  # pieces of a batch, padding included
SHORTEST = 16  # pieces; batches are padded to this times a power of two, so few programs are compiled
TOP = 5  # pieces that fill-mask tells


@dataclasses.dataclass(frozen=True, eq=False)
class Sequence:
    """One row of a batch."""

    ids: list[int]
    types: list[int]
    positions: tuple[int, ...] = ()  # of the [MASK]s
    offsets: tuple[tuple[int, int], ...] = ()  # answer: where each piece of the context lies in it, in characters
    first: int = 0  # answer: the position of the context's first piece


@dataclasses.dataclass(frozen=True)
class Input:
    """One line of the input."""

    where: str  # for messages
    fields: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Reader:
    """A tokenizer and the room that the model has."""

    tokenizer: Tokenizer
    pieces: Vocabulary
    room: int  # T, at most, special pieces included
    types: bool  # whether there is a second token type
    data: Data  # what the model was trained with: how answers are looked for, and whether there may be none

    def sequence(self, *segments: NDArray[np.int32]) -> tuple[list[int], list[int]]:
        """[CLS] A [SEP] or [CLS] A [SEP] B [SEP], the longer segment cut first where there is not enough room."""
        first, *second = ([segment] for segment in segments)
        ids, types = [self.pieces.cls], [0]
        for kind, (segment,) in enumerate(cut(first, second[0] if second else None, self.room)):
            ids += [*segment.tolist(), self.pieces.sep]
            types += [kind if self.types else 0] * (len(segment) + 1)
        return ids, types


# ---- What each kind reads -----------------------------------------------------------------------------------------------------


def read_text(reader: Reader, inputs: list[Input]) -> list[list[Sequence]]:
    """Each input's text, with its pair where it has one; what a text itself calls '[SEP]' is letters, as in training."""
    return assemble(reader, inputs, partial(tokenizers.encode, reader.tokenizer, reader.pieces))


def assemble(reader: Reader, inputs: list[Input], pieces: Callable[[list[str]], Ids]) -> list[list[Sequence]]:
    """A Sequence of each input's text, with its pair where it has one, as `pieces` turns texts into ids."""
    texts = pieces([x.fields['text'] for x in inputs])
    pairs = iter(pieces([x.fields['pair'] for x in inputs if 'pair' in x.fields]))
    segments = [[text, next(pairs)] if 'pair' in x.fields else [text] for x, text in zip(inputs, texts, strict=True)]
    return [[Sequence(*reader.sequence(*each))] for each in segments]


def read_masked(reader: Reader, inputs: list[Input]) -> list[list[Sequence]]:
    """Each input's text, in which the mask piece is itself, not its letters, as all other special pieces are.

    Raises UserError for a text without one, and for one that is cut before its last.
    """
    mask = str(reader.tokenizer.id_to_token(reader.pieces.mask))
    blank = np.array([reader.pieces.mask], np.int32)

    def pieces(texts: list[str]) -> Ids:
        found = []
        for text in texts:
            *before, last = text.split(mask)
            parts = tokenizers.encode(reader.tokenizer, reader.pieces, [*map(str.rstrip, before), last])
            found.append(np.concatenate([each for part in parts for each in (part, blank)][:-1]))
        return found

    found = []
    for x, (one,) in zip(inputs, assemble(reader, inputs, pieces), strict=True):
        wanted = sum(text.count(mask) for text in x.fields.values())
        if not wanted:
            raise UserError(f'{x.where} holds no {mask}, which is what fill-mask fills: {json.dumps(x.fields["text"][:60])}')
        positions = tuple(i for i, id in enumerate(one.ids) if id == reader.pieces.mask)
        if len(positions) < wanted:
            raise UserError(f'{x.where} is longer than the {reader.room} pieces that are read: its last {mask} would be cut off')
        found.append([dataclasses.replace(one, positions=positions)])
    return found


def read_question(reader: Reader, inputs: list[Input]) -> list[list[Sequence]]:
    """Each input's question with windows over its context."""
    asked = [(x.fields['question'], x.fields['context']) for x in inputs]
    return [
        [
            Sequence(
                *reader.sequence(one.question, one.part),
                offsets=one.offsets,
                first=one.first,
            )
            for one in each
        ]
        for each in windows(reader.tokenizer, reader.pieces, asked, reader.room, reader.data.answers)
    ]


# ---- What each kind computes and tells ----------------------------------------------------------------------------------------


def fill(model: Model, params: Any, batch: dict[str, jax.Array]) -> Any:
    """The most probable pieces at `masked_positions` [B, P]: probabilities and ids, both [B, P, TOP]."""
    logits = score(model, params, 'mlm', encode(model, params, batch), batch['masked_positions'])
    return jax.lax.top_k(jax.nn.softmax(logits), min(TOP, logits.shape[-1]))


def classify(model: Model, params: Any, batch: dict[str, jax.Array]) -> Any:
    """The logits of the labels [B, C]."""
    return score(model, params, 'label', encode(model, params, batch))


def answer(model: Model, params: Any, batch: dict[str, jax.Array]) -> Any:
    """The logits of an answer's first and last piece [B, T, 2]."""
    return score(model, params, 'span', encode(model, params, batch))


def embed(model: Model, params: Any, batch: dict[str, jax.Array]) -> Any:
    """The mean of the last hidden states over all pieces, special ones included [B, D]."""
    hidden = encode(model, params, batch).hidden.astype(jnp.float32)
    mask = batch['mask'][:, :, None].astype(jnp.float32)
    return (hidden * mask).sum(1) / mask.sum(1)


def hidden(model: Model, params: Any, batch: dict[str, jax.Array]) -> Any:
    """The hidden states of all layers, the embeddings first [B, L + 1, T, D]."""
    layers = encode(model, params, batch, want=frozenset({'layers'})).layers
    assert layers is not None
    return layers.swapaxes(0, 1).astype(jnp.float32)


def tell_filled(donor: Donor, reader: Reader, x: Input, rows: list[tuple[Sequence, Any]]) -> dict[str, Any]:
    """For each [MASK] in turn its most probable pieces."""
    ((one, (probabilities, ids)),) = rows
    return {
        'masks': [
            [
                {'piece': reader.tokenizer.id_to_token(int(id)), 'probability': number(probability)}
                for id, probability in zip(ids[i], probabilities[i], strict=True)
            ]
            for i in range(len(one.positions))
        ]
    }


def tell_label(donor: Donor, reader: Reader, x: Input, rows: list[tuple[Sequence, Any]]) -> dict[str, Any]:
    """The most probable label and the probability of each; of a model with one label, which is a scale, the score on it."""
    ((_, logits),) = rows
    names = donor.labels or tuple(f'LABEL_{i}' for i in range(len(logits)))
    if len(names) == 1:
        return {'label': names[0], 'score': number(logits[0])}
    probabilities = softmax(logits)
    return {
        'label': names[int(probabilities.argmax())],
        'probabilities': {name: number(p) for name, p in zip(names, probabilities, strict=True)},
    }


def tell_answer(donor: Donor, reader: Reader, x: Input, rows: list[tuple[Sequence, Any]]) -> dict[str, Any]:
    """The most probable span of the context: its text, its characters [start, end), and its probability within its window.

    A model of SQuAD 2.0 tells '' where no answer leads by more than the threshold, as its metrics have it.
    """
    found = [each for one, logits in rows for each in candidates(logits, one.first, one.offsets, reader.data.answers.longest, 1)]
    best = max(found, key=lambda each: each.probability, default=Answer(0, 0, 0.0, 0.0))
    if reader.data.task == 'squad2' and found:
        lead = min(none_logit(logits) for _, logits in rows) - max(each.logit for each in found)
        best = Answer(0, 0, 0.0, 0.0) if lead > reader.data.answers.threshold else best
    answer = x.fields['context'][best.start : best.end]
    return {'answer': answer, 'start': best.start, 'end': best.end, 'score': number(best.probability)}


def tell_vector(donor: Donor, reader: Reader, x: Input, rows: list[tuple[Sequence, Any]]) -> dict[str, Any]:
    """The vector of the text."""
    ((_, vector),) = rows
    return {'embedding': [number(component) for component in vector]}


def tell_hidden(donor: Donor, reader: Reader, x: Input, rows: list[tuple[Sequence, Any]]) -> dict[str, Any]:
    """hidden_l [T, D] of each layer."""
    ((one, layers),) = rows
    return {f'hidden_{i}': layer[: len(one.ids)] for i, layer in enumerate(layers)}


def number(x: Any) -> float:
    """A float32 as the shortest decimal that means it."""
    return float(str(np.float32(x)))


@dataclasses.dataclass(frozen=True)
class Kind:
    """One thing to ask of a model."""

    head: str  # the head it reads; '' for the encoder alone
    fields: tuple[str, ...]  # of an input line
    read: Callable[[Reader, list[Input]], list[list[Sequence]]]
    compute: Callable[[Model, Any, dict[str, jax.Array]], Any]
    tell: Callable[[Donor, Reader, Input, list[tuple[Sequence, Any]]], dict[str, Any]]


KINDS = {
    'fill-mask': Kind('mlm', ('text',), read_masked, fill, tell_filled),
    'classify': Kind('label', ('text',), read_text, classify, tell_label),
    'answer': Kind('span', ('question', 'context'), read_question, answer, tell_answer),
    'embed': Kind('', ('text',), read_text, embed, tell_vector),
    'hidden': Kind('', ('text',), read_text, hidden, tell_hidden),
}


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
    donor = donors.open_donor(given.model, Path.cwd() / 'run', 'MODEL')
    if kind.head and kind.head not in dict(donor.heads):
        has = ', '.join(name for name, _ in donor.heads) or 'none'
        raise UserError(f'--kind={given.kind} needs the {kind.head} head, which {donor.label} lacks (it has: {has})')
    if donor.tokenizer is None:
        raise UserError(f'{donor.label} has no tokenizer, so it can read no text: put its tokenizer.json or vocab.txt beside it')
    data = donors.read_experiment(given.model, Path.cwd() / 'run', 'MODEL').data
    with nullcontext(sys.stdin) if given.input is None else given.input.open(encoding='utf-8') as lines:
        told = predict(donor, kind, data, parse(lines, given.input or 'standard input', kind))
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
        found = parsed(text, source, line)
        fields = {}
        where = f"'{source}' line {line}"
        for name in (*kind.fields, *(('pair',) if 'pair' in found and kind.fields == ('text',) else ())):
            fields[name] = string(found, name, where)
        yield Input(where, fields)


def predict(donor: Donor, kind: Kind, data: Data, inputs: Iterable[Input]) -> Iterator[dict[str, Any]]:
    """What `donor` says of each input, in order; longer ones are cut to the length that it was trained with, in pieces."""
    a = dataclasses.replace(donor.architecture, unroll=1)  # rolled: each of the few shapes compiles fast
    assert donor.tokenizer is not None
    tokenizer = load_tokenizer(donor.tokenizer)
    reader = Reader(tokenizer, vocabulary_of(tokenizer), min(data.length, a.positions), a.types != 1, data)
    params = jax.tree.map(jnp.asarray, donor.params)
    compute = jax.jit(partial(kind.compute, Model(a, donor.heads)))
    sizes: dict[int, int] = {}
    inputs = iter(inputs)
    with progress() as step:
        while window := list(islice(inputs, WINDOW)):
            read = kind.read(reader, window)
            rows = [(i, one) for i, sequences in enumerate(read) for one in sequences]
            results: list[Any] = [None] * len(rows)
            for members, batch in batches([one for _, one in rows], reader, sizes):
                found = jax.tree.map(np.asarray, compute(params, batch))
                for place, member in enumerate(members):
                    results[member] = jax.tree.map(lambda x, place=place: x[place], found)
            of: list[list[tuple[Sequence, Any]]] = [[] for _ in window]
            for (i, one), result in zip(rows, results, strict=True):
                of[i].append((one, result))
            for x, mine in zip(window, of, strict=True):
                yield kind.tell(donor, reader, x, mine)
            step(len(window))


def batches(
    rows: list[Sequence], reader: Reader, sizes: dict[int, int]
) -> Iterator[tuple[list[int], dict[str, NDArray[np.int32]]]]:
    """Batches of rows of similar length, with the numbers of their rows: [B, T] for a T that is one of few, B the same for each T.

    sizes: T -> B, kept from one call to the next. Filler rows read one piece.
    """
    by_length: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        by_length.setdefault(min(reader.room, power_of_two(len(row.ids), SHORTEST)), []).append(i)
    for length, members in sorted(by_length.items()):
        wanted = min(max(TOKENS // length, 1), power_of_two(len(members), 1))
        sizes[length] = max(wanted, sizes[length]) if length in sizes else wanted
        for begin in range(0, len(members), sizes[length]):
            part = members[begin : begin + sizes[length]]
            masks = power_of_two(max(len(rows[i].positions) for i in part), 1)
            batch = {
                'ids': np.full((sizes[length], length), reader.pieces.pad, np.int32),
                'types': np.zeros((sizes[length], length), np.int32),
                'mask': np.zeros((sizes[length], length), np.int32),
                'masked_positions': np.zeros((sizes[length], masks), np.int32),
            }
            batch['mask'][:, 0] = 1
            for place, i in enumerate(part):
                n = len(rows[i].ids)
                batch['ids'][place, :n] = rows[i].ids
                batch['types'][place, :n] = rows[i].types
                batch['mask'][place, :n] = 1
                batch['masked_positions'][place, : len(rows[i].positions)] = rows[i].positions
            yield part, batch


def power_of_two(n: int, least: int) -> int:
    """The least `least` · 2^k that is not below `n`."""
    return least << max(0, (max(n, 1) - 1) // least).bit_length()


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
