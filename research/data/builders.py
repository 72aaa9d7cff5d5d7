"""Documents of TensorFlow Datasets, read without TensorFlow."""

import functools
import importlib
import importlib.util
import socket
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Any

from research.data.text_files import UNPACKED, refuse_long
from research.errors import UserError, nearest
from research.escape import flatten

HOST = 'storage.googleapis.com'  # where TFDS keeps its datasets' descriptions
FEATURES = 'tensorflow_datasets.core.features.'  # where the classes of features lie that a prepared folder may name


def open_builder(name: str, folder: str, split: str = 'train') -> Any:
    """The builder of a dataset with a split of that name, prepared as ArrayRecords, now if it was not before.

    name: of a dataset, or the folder of a prepared one. folder: the data_dir; '' is tfds' own. Raises UserError with
    the command that prepares the dataset if this machine cannot.
    """
    found = builder(name, folder)
    if not found.info.splits:
        prepare(found, name, folder)
    if split not in found.info.splits:
        raise UserError(f"tfds:{name} has no split '{split}' (there are: {', '.join(found.info.splits)})")
    if found.info.file_format.value != 'array_record':
        raise UserError(
            f"tfds:{name} lies in '{found.data_dir}' as {found.info.file_format.value}, which needs TensorFlow to be read; "
            f'{command(name, folder)}'
        )
    return found


def builder(name: str, folder: str) -> Any:
    """The builder of a dataset: of a prepared folder, or by name (`wikipedia/20230601.en`).

    Datasets that use TensorFlow's text tools are registered, without TensorFlow, only once their modules are imported.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import naming

    refuse_foreign_classes()
    if Path(name).expanduser().is_dir():
        if not (Path(name).expanduser() / 'dataset_info.json').is_file():
            raise UserError(
                f"'{name}' is not the folder of a prepared TFDS dataset (DATA_DIR/NAME/VERSION): it has no dataset_info.json"
            )
        try:
            return tfds.builder_from_directory(Path(name).expanduser())
        except UserError:
            raise
        except Exception as error:  # a parser's own
            raise UserError(f"'{name}/dataset_info.json' cannot be read: {flatten(str(error), 200)}") from error
    dataset = name.partition('/')[0].partition(':')[0]
    if importlib.util.find_spec(f'tensorflow_datasets.text.{dataset}'):
        importlib.import_module(f'tensorflow_datasets.text.{dataset}')
    try:
        if space := naming.parse_builder_name_kwargs(name)[0].namespace:
            raise UserError(
                f"'tfds:{name}' is not read: only TFDS' own datasets are, since a package of {space}'s may run their code"
            )
        return tfds.builder(name, data_dir=folder or None, file_format='array_record')
    except tfds.core.DatasetNotFoundError as error:
        close = nearest(dataset, tfds.list_builders(with_community_datasets=False))
        raise UserError(f"there is no TFDS dataset named '{dataset}'{close} (nor a folder of that name)") from error
    except UserError:
        raise
    except Exception as error:  # a builder's own, for a config or a version that it does not have
        raise UserError(f'tfds:{name} cannot be opened: {flatten(str(error), 200)}') from error


@functools.cache
def refuse_foreign_classes() -> None:
    """Makes TFDS refuse a folder of a dataset that names a class of features outside TFDS, before its module is imported.

    features.json and dataset_info.json name classes, at any depth and also in texts that are JSON themselves. TFDS would import
    the module of each, whatever it is, and so run its code. All of them pass through one function, which is replaced here.
    """
    import tensorflow_datasets as tfds

    connector: Any = tfds.features.FeatureConnector
    find = connector.cls_from_name

    def find_own(name: str) -> Any:
        if not str(name).startswith(FEATURES):
            raise UserError(
                f"a TFDS folder names the class '{name}' in its features.json, and only those of {FEATURES[:-1]} are loaded: "
                'the code of any other would run; give data whose folder you trust as text or JSON lines'
            )
        return find(name)

    connector.cls_from_name = staticmethod(find_own)


def prepare(found: Any, name: str, folder: str) -> None:
    """Downloads and prepares a dataset. Raises UserError with the command that does it elsewhere."""
    import tensorflow_datasets as tfds

    try:
        socket.getaddrinfo(HOST, 443)  # TFDS itself would try for minutes where there is no network
        found.download_and_prepare(file_format='array_record', download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except Exception as error:  # whatever a network, a disk or a builder can raise
        reason = f'{type(error).__name__}: {flatten(str(error), 200)}'
        raise UserError(
            f"tfds:{name} is not prepared in '{found.data_dir}' and could not be prepared here ({reason}); {command(name, folder)}"
        ) from error


def command(name: str, folder: str) -> str:
    """The clause with the command that prepares a dataset where there are a network and TensorFlow."""
    place = f' --data_dir={quote(folder)}' if folder else ''
    return f'where there are a network and TensorFlow, run: tfds build {quote(name)} --file_format=array_record{place}'


def documents(name: str, field: str, folder: str) -> Iterator[tuple[float, list[str]]]:
    """(share of the examples read, lines of the text in `field`) of each example."""
    for number, (share, example) in enumerate(read_examples(open_builder(name, folder), name), 1):
        yield share, text(example, field, f'tfds:{name} example {number}').split('\n')


def read_examples(found: Any, name: str, split: str = 'train') -> Iterator[tuple[float, dict[str, Any]]]:
    """(share read so far, example) of each example of a split.

    Raises UserError if a shard is missing or damaged, or its examples are not as features.json describes them.
    """
    try:
        source = found.as_data_source(split=split)
        total = len(source)
        for begin in range(0, total, UNPACKED):
            numbers = range(begin, min(total, begin + UNPACKED))
            for number, example in zip(numbers, source.__getitems__(list(numbers)), strict=True):
                if not isinstance(example, dict):
                    raise TypeError(f'example {number + 1} is not a record of fields but {type(example).__name__}')
                yield (number + 1) / total, example
    except UserError:  # of refuse_foreign_classes
        raise
    except Exception as error:  # of array_record, or of any class of features
        raise UserError(
            f"tfds:{name}: a shard in '{found.data_dir}' is missing or corrupt, or is not what its features.json describes "
            f'({flatten(str(error), 200)})'
        ) from error


def text(example: dict[str, Any], field: str, where: str) -> str:
    """The text in a field of an example."""
    if field not in example:
        raise UserError(f"{where} has no field '{field}' (data.field){nearest(field, example)}; it has {', '.join(example)}")
    value = example[field]
    if not isinstance(value, bytes | str):
        raise UserError(f"{where}: field '{field}' is not a text but {type(value).__name__}")
    try:
        found = value if isinstance(value, str) else value.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: field '{field}' is not UTF-8 at byte {error.start}") from error
    refuse_long(len(found), f'{where}: the document')
    return found


def stamp(name: str, folder: str) -> list[Any]:
    """The folder, name and sizes of a prepared dataset."""
    found = open_builder(name, folder)
    sizes = {split: [info.num_examples, info.num_bytes] for split, info in found.info.splits.items()}
    return [str(found.data_dir), found.info.full_name, sizes]
