"""TARGETS: every parser of files from elsewhere, and the kinds of valid files that it is begun with."""

import contextlib
import functools
import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from tokenizers import models

from research.errors import UserError
from tests.fuzz.mutations import Files, is_json

REFERENCES = Path(__file__).parents[1] / 'interchange' / 'references'
PIECES = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'the', 'old', 'sailor', '##s', 'a', '.', 'é', '名')
STORY = 'The old sailor carried seven coins.\nA quiet teacher followed her.\n\nThe king forgot the letter.\nIt rained.\n\n' * 3


class Case(NamedTuple):
    """Files that are valid, and how a parser reads a folder of them, changed or not."""

    files: Callable[[], Files]
    read: Callable[[Path], object]


def dump(value: Any) -> bytes:
    """A value as JSON."""
    return json.dumps(value).encode()


# ---- Hugging Face folders -------------------------------------------------------------------------------------------------------


def reference(name: str) -> Files:
    """The files of a Hugging Face folder of the references, with a vocabulary."""
    folder = REFERENCES / name
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in ('.json', '.safetensors', '.bin')}
    return files | {'vocab.txt': '\n'.join(PIECES).encode()}


def shards(name: str) -> Files:
    """A folder whose model.safetensors is two, with an index."""
    from safetensors.numpy import load, save

    files = reference(name)
    tensors = load(files.pop('model.safetensors'))
    names = [f'model-{n}.safetensors' for n in range(2)]
    place = {tensor: names[n % 2] for n, tensor in enumerate(tensors)}
    files |= {file: save({tensor: tensors[tensor] for tensor in tensors if place[tensor] == file}) for file in names}
    return files | {'model.safetensors.index.json': dump({'metadata': {'total_size': 1}, 'weight_map': place})}


def read_folder(folder: Path) -> object:
    """Opens a model as `import`, `predict` and a run's start do."""
    from research.interchange.reading import open_folder

    return open_folder(folder, 'model')


def split_safetensors(name: str) -> Files:
    """A folder whose model.safetensors is taken apart: the JSON header, and the numbers."""
    files = reference(name)
    content = files.pop('model.safetensors')
    (size,) = struct.unpack_from('<Q', content)
    return files | {'header.json': content[8 : 8 + size], 'numbers': content[8 + size :]}


def read_split_safetensors(folder: Path) -> object:
    """Joins a model.safetensors that was taken apart, and opens the folder."""
    header = read_bytes(folder / 'header.json')
    (folder / 'model.safetensors').write_bytes(struct.pack('<Q', len(header)) + header + read_bytes(folder / 'numbers'))
    return read_folder(folder)


def read_bytes(path: Path) -> bytes:
    """The content of a file; nothing if it is not there."""
    return path.read_bytes() if path.exists() else b''


def split_zip(name: str) -> Files:
    """A folder whose pytorch_model.bin is taken apart into its entries."""
    files = reference(name)
    with zipfile.ZipFile(io.BytesIO(files.pop('pytorch_model.bin'))) as archive:
        return files | {entry.filename.replace('/', '|'): archive.read(entry) for entry in archive.infolist()}


def read_split_zip(folder: Path) -> object:
    """Joins a pytorch_model.bin that was taken apart, and opens the folder."""
    with zipfile.ZipFile(folder / 'pytorch_model.bin', 'w') as archive:
        for path in sorted(folder.glob('*|*')):
            archive.writestr(path.name.replace('|', '/'), path.read_bytes())
    return read_folder(folder)


# ---- Tokenizers -----------------------------------------------------------------------------------------------------------------


def vocabulary_folder() -> Files:
    """A vocab.txt with the files that may lie beside it."""
    config = {'do_lower_case': True, 'strip_accents': None, 'tokenizer_class': 'BertTokenizer', 'model_max_length': 512}
    return {
        'vocab.txt': '\n'.join(PIECES).encode(),
        'tokenizer_config.json': dump(config),
        'added_tokens.json': dump({'[E1]': 13}),
        'special_tokens_map.json': dump({'unk_token': '[UNK]', 'mask_token': {'content': '[MASK]', 'lstrip': True}}),
        'config.json': dump({'model_type': 'bert', 'vocab_size': 14}),
    }


def tokenizer_json(model: Any, albert: bool = False) -> Files:
    """A tokenizer.json of our own."""
    from research.data import tokenizers

    return {'tokenizer.json': (tokenizers.as_albert if albert else tokenizers.as_bert)(model, True).to_str().encode()}


def wordpiece() -> Files:
    """A tokenizer.json of BERT's kind."""
    return tokenizer_json(models.WordPiece({piece: id for id, piece in enumerate(PIECES)}, unk_token='[UNK]'))


def unigram() -> Files:
    """A tokenizer.json of ALBERT's kind."""
    pieces = [
        ('<pad>', 0.0),
        ('<unk>', 0.0),
        ('[CLS]', 0.0),
        ('[SEP]', 0.0),
        ('[MASK]', 0.0),
        ('▁', -2.0),
        ('▁the', -3.0),
        ('a', -4.0),
    ]
    return tokenizer_json(models.Unigram(pieces, unk_id=1, byte_fallback=False), albert=True)


def sentencepiece() -> Files:
    """A spiece.model: a message of protocol buffers."""

    def field(number: int, value: Any) -> bytes:
        if isinstance(value, bytes):
            return bytes([number << 3 | 2, len(value)]) + value
        return bytes([number << 3 | 5]) + struct.pack('<f', value) if isinstance(value, float) else bytes([number << 3, value])

    pieces = [('<pad>', 0.0, 3), ('<unk>', 0.0, 2), ('[CLS]', 0.0, 3), ('[SEP]', 0.0, 3), ('[MASK]', 0.0, 4), ('▁the', -2.0, 1)]
    content = b''.join(field(1, field(1, piece.encode()) + field(2, score) + field(3, kind)) for piece, score, kind in pieces)
    rest = field(2, field(3, 1) + bytes([40 << 3 & 127 | 128, 40 >> 4, 1])) + field(3, field(1, b'nmt_nfkc') + field(2, b''))
    return {'spiece.model': content + rest, 'tokenizer_config.json': dump({'do_lower_case': True, 'keep_accents': False})}


def rules() -> Files:
    """A tokenizer.json with a step of most kinds."""
    whole = json.loads(wordpiece()['tokenizer.json'])
    split = {'type': 'Split', 'behavior': 'Isolated', 'invert': False}
    normalizer = (
        {'type': 'Replace', 'pattern': {'String': 'old'}, 'content': 'young'},
        {'type': 'Replace', 'pattern': {'Regex': '[0-9]+'}, 'content': '0'},
        {'type': 'Prepend', 'prepend': ' '},
        {'type': 'Strip', 'strip_left': True, 'strip_right': True},
        *({'type': name} for name in ('NFKC', 'StripAccents', 'Lowercase', 'Nmt')),
    )
    cutter = (
        {'type': 'Punctuation', 'behavior': 'Isolated'},
        {'type': 'Digits', 'individual_digits': True},
        {**split, 'pattern': {'Regex': '[aeiou]'}},
        {**split, 'pattern': {'String': 's'}},
        {'type': 'CharDelimiterSplit', 'delimiter': '-'},
        {'type': 'ByteLevel', 'add_prefix_space': True, 'trim_offsets': True, 'use_regex': True},
        {'type': 'Metaspace', 'replacement': '▁', 'prepend_scheme': 'always', 'split': True},
        {'type': 'UnicodeScripts'},
        {'type': 'FixedLength', 'length': 5},
    )
    flags = {'single_word': False, 'lstrip': True, 'rstrip': False, 'normalized': False}
    cls, a = {'SpecialToken': {'id': '[CLS]', 'type_id': 0}}, {'Sequence': {'id': 'A', 'type_id': 0}}
    template = {'single': [cls, a], 'pair': [cls, a, {'Sequence': {'id': 'B', 'type_id': 1}}]}
    special = {'[CLS]': {'id': '[CLS]', 'ids': [2], 'tokens': ['[CLS]']}}
    whole |= {
        'truncation': {'direction': 'Right', 'max_length': 9, 'strategy': 'LongestFirst', 'stride': 0},
        'padding': {
            'strategy': {'Fixed': 9}, 'direction': 'Right', 'pad_to_multiple_of': 4, 'pad_id': 0, 'pad_type_id': 0, 'pad_token': 'a'
        },
        'added_tokens': [{'id': 13 + n, 'content': f'[E{n}]', 'special': bool(n), **flags} for n in range(2)],
        'normalizer': {'type': 'Sequence', 'normalizers': normalizer},
        'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': cutter},
        'post_processor': {'type': 'TemplateProcessing', **template, 'special_tokens': special},
    }  # fmt: skip
    return {'tokenizer.json': dump(whole)}


def bpe() -> Files:
    """A tokenizer.json whose model merges pairs."""
    ids = {piece: id for id, piece in enumerate((*PIECES, 't', 'h', 'e', 'th'))}
    return tokenizer_json(models.BPE(ids, [('t', 'h'), ('th', 'e')], unk_token='[UNK]', fuse_unk=True))


def charsmap() -> Files:
    """A map of characters in parts, [place, unit] of a trie and the replacements: 'A' becomes 'a', 'é' becomes 'e'."""
    below = {'A': 512, 'é': 768}
    units = [[0, 0], [0x41, 0x41 | 256 | (0x41 ^ below['A']) << 10], [0xC3, 0xC3 | (0xC3 ^ 1024) << 10]]
    units += [[1024 ^ 0xA9, 0xA9 | 256 | (1024 ^ 0xA9 ^ below['é']) << 10], [below['A'], 2**31], [below['é'], 2**31 | 2], [1279, 0]]
    return {'units.json': dump(units), 'replacements': b'a\0e\0', **sentencepiece()}


def read_charsmap(folder: Path) -> object:
    """Joins a map of characters, puts it at the end of the spiece.model, and reads that."""
    units = [0] * 4096
    content = read_bytes(folder / 'units.json')
    listed = json.loads(content) if is_json(content) else ()
    for each in listed:
        if isinstance(each, list) and len(each) == 2 and all(type(n) is int for n in each) and 0 <= each[0] < len(units):
            units[each[0]] = each[1] & 0xFFFFFFFF
    joined = struct.pack('<I4096I', 4 * 4096, *units) + read_bytes(folder / 'replacements')
    size = len(joined) + 4
    lengths = [bytes([n & 127 | 128, n >> 7 & 127 | 128, n >> 14]) for n in (size, size - 4)]
    with (folder / 'spiece.model').open('ab') as file:
        file.write(b'\x1a' + lengths[0] + b'\x12' + lengths[1] + joined)
    return read_tokenizer(folder)


def read_tokenizer(folder: Path) -> object:
    """Reads a tokenizer, its pieces and a text."""
    from research.data.tokenizers import load_tokenizer, vocabulary_of

    tokenizer = load_tokenizer(folder)
    return vocabulary_of(tokenizer), tokenizer.encode('The old sailors, é 名 [MASK] 😀\u200d').ids


# ---- Tasks and texts ------------------------------------------------------------------------------------------------------------


def read_task(name: str, file: str, folder: Path) -> object:
    """The examples of a task whose train split is in `file`."""
    from research.data import tasks
    from research.data.settings import Data

    if name == 'custom':
        data = Data(task=name, train=str(folder / file), dev=str(folder / file), label='label')
    else:
        data = Data(task=name, folder=str(folder))
    return [list(split) for split in tasks.examples(data, str(folder / 'cache')).values()]


def table(separator: str) -> bytes:
    """A small table of a task."""
    rows = [('sentence', 'label'), *((f'the "old" sailor {n}', 'ab'[n % 2]) for n in range(6))]
    return '\n'.join(separator.join(row) for row in rows).encode()


def lines_of_a_task() -> Files:
    """JSON lines of a task."""
    rows = [{'sentence': f'the old sailor {n}', 'label': 'ab'[n % 2]} for n in range(6)]
    return {'train.jsonl': '\n'.join(json.dumps(row) for row in rows).encode()}


def squad(version: str) -> Files:
    """A file of SQuAD's for both splits."""
    answer = {'text': 'sailor', 'answer_start': 8}
    questions: list[dict[str, Any]] = [
        {'id': f'q{n}', 'question': 'Who?', 'answers': [answer], 'is_impossible': False} for n in range(2)
    ]
    questions[1] |= {'is_impossible': True, 'answers': []} if version == '2.0' else {}
    content = {'version': version, 'data': [{'title': 'a', 'paragraphs': [{'context': 'The old sailor left.', 'qas': questions}]}]}
    return {f'{split}-v{version}.json': dump(content) for split in ('train', 'dev')}


def race() -> Files:
    """A passage of RACE's for each split."""
    passage = {'article': 'A b.', 'questions': ['Who?'], 'options': [['a', 'b', 'c', 'd']], 'answers': ['A'], 'id': 'high1.txt'}
    return {f'{split}_{part}.jsonl': dump(passage) for split in ('train', 'dev', 'test') for part in ('middle', 'high')}


def read_texts(source: str, folder: Path) -> object:
    """The documents of a source of texts."""
    from research.data import sources

    return list(sources.documents(source.format(folder=folder)))


@functools.cache
def tfds() -> Files:
    """The folder of a prepared dataset of TensorFlow Datasets, with texts and numbers."""
    import numpy as np
    from tensorflow_datasets import core, features

    class Mine(core.GeneratorBasedBuilder):
        """A dataset of three texts."""

        VERSION = core.Version('1.0.0')

        def _info(self) -> core.DatasetInfo:
            return core.DatasetInfo(builder=self, features=features.FeaturesDict({'text': features.Text(), 'stars': np.int32}))

        def _split_generators(self, dl_manager: object) -> dict[str, Any]:
            del dl_manager
            return {'train': ((n, {'text': f'The old sailor {n}.\nIt rained.', 'stars': n}) for n in range(3))}

        def _generate_examples(self) -> None:
            """Unused."""

    with tempfile.TemporaryDirectory() as place:
        builder = Mine(data_dir=place, file_format='array_record')
        builder.download_and_prepare()
        files = {path.name: path.read_bytes() for path in Path(builder.data_dir).iterdir()}
    shard = files.pop(SHARD)
    return files | {'begin': shard[: len(shard) // 2].rstrip(b'\0'), 'end': shard[len(shard) // 2 :].rstrip(b'\0')}


SHARD = 'mine-train.array_record-00000-of-00001'


def read_tfds(folder: Path) -> object:
    """Joins the two blocks of a shard, which are mostly zeros, and reads its documents."""
    content = b''.join(read_bytes(folder / name).ljust(2**16, b'\0') for name in ('begin', 'end'))
    (folder / SHARD).write_bytes(content)
    return read_texts('tfds:{folder}', folder)


# ---- Our own folders ------------------------------------------------------------------------------------------------------------


def experiment() -> Any:
    """An experiment as JSON values."""
    from research.experiment import Experiment
    from research.wire import to_wire

    return json.loads(json.dumps(to_wire(Experiment()).to_dict()))


def read_experiment(folder: Path) -> object:
    """Reads, validates and sizes the experiment of a run folder, as --dry does."""
    from research import costs, validation
    from research.runs.definition import read_definition

    x = read_definition(folder)
    validation.validate(x)
    return costs.summarize_parameters(x.model, ())


def study() -> Files:
    """A study of four runs, three of them done, with all that a report reads."""
    from research.experiment import Experiment
    from research.study.columns import COLLAPSED, SCORE, Column
    from research.study.ledger import make_definition, to_plain
    from research.study.study import Claim, Row, Study, Table

    rows = (
        Row('one', {'run': ('a', 'c')}, {'loss': 2.4}, {'what': 'x'}),
        Row('two', {'run': ('b',)}),
        Row('three', {'run': ('d',)}),
    )
    columns = (
        Column('loss', 'run', 'metrics:dev/mlm', 'plain', 'min', 'note'),
        Column('size', 'run', 'parameters:encoder', 'millions', relative='one'),
        Column('time', 'run', 'train_seconds', 'minutes'),
        Column('mean', '', '', of=('loss', 'time')),
        SCORE,
        COLLAPSED,
    )
    study = Study(
        'mine',
        {'a': Experiment(), 'b': Experiment(seed=1), 'c': Experiment(seed=2), 'd': Experiment(start='@a')},
        Table('T', rows, columns, 'loss', 'a paper'),
        'note',
        (Claim('{a} < {b}', (('a', 'c'), 'metrics:dev/mlm'), ('d', 'metrics:dev/mlm')),),
    )
    result = {
        'name': 'a', 'steps': 2, 'metrics': {'dev/mlm': 2.5}, 'selected': {'step': 1, 'by': 'dev/mlm', 'how': 'best'},
        'flops_per_token': 1.0, 'flops_per_step': 2.0,
        'parameters': {'total': 3, 'encoder': 2, 'encoder_without_pooler': 1, 'modules': {'mlm': 1}}, 'checkpoint_bytes': 4,
        'train_seconds': 1.0, 'wall_seconds': 2.0, 'tokens_per_second': 3.0, 'peak_memory_bytes': 5, 'latency_seconds': 0.1,
        'smoothness': {'l2': [1.0], 'degrees': [2.0]}, 'unigram_entropy': 3.0, 'labels': ['no', 'yes'], 'reported': 'dev',
        'baseline': {'majority': {'dev/accuracy': 0.5, 'score': 0.5}, 'random': {'score': 0.5}}, 'score': 0.7,
        'collapsed': {'dev': 0, 'reported': 1},
    }  # fmt: skip
    line = {'step': 1, 'wall': 1.0, 'seconds': 1.0, 'train/loss': 3.0, 'dev/mlm': 2.5}
    environment = {
        'commit': None, 'uncommitted_changes': None, 'command': ['launch.py'], 'python': '3.11', 'machine': 'Linux', 'versions': {},
        'devices': {'platform': 'cpu', 'kind': 'cpu', 'count': 1, 'processes': 1}, 'cores': 2, 'data': {'fingerprint': 'a'},
        'steps': 2,
    }  # fmt: skip
    failure = {'reason': 'why', 'attempts': 1, 'again': False, 'traceback': ''}
    done = {
        'result.json': dump(result),
        'metrics.jsonl': dump(line) + b'\n' + dump({**line, 'step': 2}) + b'\n',
        'environment.json': dump(environment | {'sessions': [environment | {'machine': 'other'}]}),
    }
    return {
        'study.json': dump(make_definition(study)),
        'b|failure.json': dump(failure),
        **{f'{run}|{name}': content for run in 'acd' for name, content in done.items()},
        **{f'{run}|experiment.json': dump(to_plain(study.runs[run])) for run in 'acd'},
    }


def read_study(folder: Path) -> object:
    """Shows the states of a study and writes its report."""
    from research.study import __main__ as command

    for path in folder.glob('*|*'):
        target = folder / path.name.replace('|', '/')
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    with contextlib.redirect_stdout(io.StringIO()):
        command.perform(['status', str(folder)])
        return command.perform(['report', str(folder)])


def read_study_without_figures(folder: Path) -> object:
    """As `read_study`, in a tenth of the time."""
    from research.study.reporting import figures

    with mock.patch.dict(figures.FIGURES, clear=True):
        return read_study(folder)


def held_out() -> Files:
    """The sums of held-out documents."""
    import numpy as np

    from research.evaluation.gains import HeldOut, write_held_out

    with tempfile.TemporaryDirectory() as folder:
        write_held_out(Path(folder), HeldOut(np.arange(9), np.arange(9) + 1, np.ones(9), np.ones(9)))
        return {'held_out.npz': (Path(folder) / 'held_out.npz').read_bytes()}


def read_held_out(folder: Path) -> object:
    """Reads the sums of held-out documents as a report does."""
    from research.evaluation import gains

    return gains.read_held_out(folder)


def command_lines() -> Files:
    """Changes of a config as a command line gives them, key -> text, and other texts to exchange some for."""
    from research.experiment import Experiment
    from research.wire import keys, value

    changes = {key: str(value(Experiment(), key)) for key in keys(Experiment)}
    texts = [
        '0',
        '1',
        '2',
        '3',
        '-1',
        '0.5',
        '1e999',
        'nan',
        '9' * 5000,
        '(' * 500,
        '()',
        '(0, 1)',
        '((0, 1), (1, 0))',
        'a,b',
        "('a",
    ]
    texts += [
        'true',
        'None',
        '2**40',
        '12',
        '64',
        'text:a.txt',
        'mrpc',
        '@a',
        'runs/a',
        'encoder',
        'embeddings',
        '0x10',
        '1_0',
        '²',
    ]
    return {'changes.json': dump({'changes': changes, 'texts': texts})}


def read_command_lines(folder: Path) -> object:
    """Applies the changes and validates what becomes of the experiment."""
    from research import validation
    from research.experiment import Experiment
    from research.wire import override

    try:
        changes = json.loads(read_bytes(folder / 'changes.json'))['changes'].items()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None  # no command line has them
    x = Experiment()
    for key, text in changes:
        x = override(x, {key: text if isinstance(text, str) else str(text)})
    return validation.validate(x)


def lines_of_predict(name: str) -> Files:
    """A model, and lines for each kind of prediction."""
    line = {'text': 'the [MASK] sailor', 'pair': 'a', 'question': 'the', 'context': 'the old sailor é \u200d.'}
    modules = [{'path': path, 'type': f'models.{kind}'} for path, kind in (('', 'Transformer'), ('1_Pooling', 'Pooling'))]
    return {
        'in.jsonl': dump(line) + b'\n' + dump({**line, 'text': 'a [MASK]'}),
        'modules.json': dump(modules),
        '1_Pooling|config.json': dump({'word_embedding_dimension': 8, 'pooling_mode_cls_token': True}),
        'sentence_bert_config.json': dump({'max_seq_length': 9, 'do_lower_case': False}),
        'config_sentence_transformers.json': dump({'default_prompt_name': None}),
        **reference(name),
    }


def read_lines_of_predict(kind: str, folder: Path) -> None:
    """Predicts, and reads what that wrote."""
    from research.predict import __main__ as command

    for path in folder.glob('*|*'):
        (folder / '1_Pooling').mkdir()
        path.rename(folder / path.name.replace('|', '/'))
    command.main([str(folder), f'--kind={kind}', f'--input={folder / "in.jsonl"}', f'--output={folder / "out.jsonl"}'])
    if (folder / 'out.jsonl').exists():
        for line in (folder / 'out.jsonl').read_text().splitlines():
            json.loads(line, parse_constant=refuse_constant)


def refuse_constant(name: str) -> None:
    """Raises ValueError: NaN and Infinity are no JSON."""
    raise ValueError(f'{name} is no JSON')


# A kind of prediction -> a model for it.
PREDICTED = {'embed': 'BertModel', 'fill-mask': 'BertPretraining', 'classify': 'DistilBertLabel', 'answer': 'AlbertSpan'}

CASES = {
    'safetensors': Case(functools.partial(reference, 'BertLabel'), read_folder),
    'safetensors-header': Case(functools.partial(split_safetensors, 'AlbertPretraining'), read_split_safetensors),
    'shards': Case(functools.partial(shards, 'DistilBertLabel'), read_folder),
    'bin': Case(functools.partial(reference, 'BertBin'), read_folder),
    'bin-entries': Case(functools.partial(split_zip, 'BertBin'), read_split_zip),
    'bin-legacy': Case(functools.partial(reference, 'BertLegacyBin'), read_folder),
    'vocabulary': Case(vocabulary_folder, read_tokenizer),
    'wordpiece': Case(wordpiece, read_tokenizer),
    'unigram': Case(unigram, read_tokenizer),
    'rules': Case(rules, read_tokenizer),
    'bpe': Case(bpe, read_tokenizer),
    'sentencepiece': Case(sentencepiece, read_tokenizer),
    'charsmap': Case(charsmap, read_charsmap),
    'tsv': Case(lambda: {'train.tsv': table('\t')}, functools.partial(read_task, 'custom', 'train.tsv')),
    'csv': Case(lambda: {'train.csv': table(',')}, functools.partial(read_task, 'custom', 'train.csv')),
    'jsonl': Case(lines_of_a_task, functools.partial(read_task, 'custom', 'train.jsonl')),
    'squad': Case(functools.partial(squad, '1.1'), functools.partial(read_task, 'squad', '')),
    'squad2': Case(functools.partial(squad, '2.0'), functools.partial(read_task, 'squad2', '')),
    'race': Case(race, functools.partial(read_task, 'race', '')),
    'text': Case(lambda: {'a.txt': STORY.encode()}, functools.partial(read_texts, 'text:{folder}/a.txt')),
    'jsonl-texts': Case(
        lambda: {'a.jsonl': dump({'text': STORY}) + b'\n'}, functools.partial(read_texts, 'jsonl:{folder}/a.jsonl')
    ),
    'tfds': Case(tfds, read_tfds),
    'experiment': Case(lambda: {'experiment.json': dump(experiment())}, read_experiment),
    'study': Case(study, read_study_without_figures),
    'study-figures': Case(study, read_study),
    'held-out': Case(held_out, read_held_out),
    'command-line': Case(command_lines, read_command_lines),
    **{
        f'predict-{kind}': Case(functools.partial(lines_of_predict, name), functools.partial(read_lines_of_predict, kind))
        for kind, name in PREDICTED.items()
    },
}


# A parser -> the CASES that try it.
TARGETS = {
    'safetensors': ('safetensors', 'safetensors-header', 'shards'),
    'pickles': ('bin', 'bin-entries', 'bin-legacy'),
    'vocabularies': ('vocabulary',),
    'tokenizer-json': ('wordpiece', 'unigram', 'rules', 'bpe'),
    'sentencepiece': ('sentencepiece', 'charsmap'),
    'tables': ('tsv', 'csv', 'jsonl'),
    'squad': ('squad', 'squad2'),
    'race': ('race',),
    'texts': ('text', 'jsonl-texts'),
    'tfds': ('tfds',),
    'experiments': ('experiment',),
    'studies': ('study', 'study-figures', 'held-out'),
    'command-lines': ('command-line',),
    'predict': tuple(f'predict-{kind}' for kind in PREDICTED),
}


def attempt(name: str, folder: Path, files: Files) -> str:
    """Lets the parser of a case read files: '' after success, else its one clear line. Any other error is raised: it was found."""
    for file, content in files.items():
        (folder / file).write_bytes(content)
    try:
        CASES[name].read(folder)
    except UserError as error:
        return str(error)
    return ''


def is_clear(problem: str) -> bool:
    """Whether what `attempt` returned is one line.

    A few newlines may come from names in the file: a command shows them as \\x0a.
    """
    return problem.count('\n') <= 3 and len(problem) < 20_000 and 'Traceback' not in problem
