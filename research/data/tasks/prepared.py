"""Tasks from TFDS, by name: `as_data_source` reads what was prepared as array_record, without TensorFlow."""

import importlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from research.errors import UserError

# Builders that TFDS finds by name only once their module is imported, where there is no TensorFlow.
MODULES = {'glue': 'tensorflow_datasets.text.glue'}

HOST = 'storage.googleapis.com'  # where TFDS keeps what it knows of its data sets


def records(name: str, split: str) -> Iterator[dict[str, Any]]:
    """The records of a split of the TFDS data set `name`, prepared first where it is not, if there is a network.

    Raises UserError, with the command that prepares it elsewhere, where it cannot be read.
    """
    import tensorflow_datasets as tfds  # takes seconds

    top = name.partition('/')[0]
    if top in MODULES:
        importlib.import_module(MODULES[top])
    builder = cast(Any, tfds).builder(name, file_format='array_record')
    remedy = (
        f'where there is a network run `tfds build {name} --file_format=array_record` (TFDS_DATA_DIR says where to), '
        'or give the official files: --config.data.folder=FOLDER'
    )
    try:
        if not (Path(builder.data_dir) / 'dataset_info.json').is_file():
            socket.getaddrinfo(HOST, 443)  # TFDS itself would try for minutes where there is no network
        builder.download_and_prepare()
        source = builder.as_data_source(split)
    except Exception as error:  # a download fails in a hundred ways, none of which TFDS names
        first = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise UserError(f"the TFDS data set '{name}' is not prepared in {builder.data_dir} ({first}); {remedy}") from None
    return iter(source)


def string(value: Any) -> str:
    """A text as TFDS gives it, decoded."""
    return value.decode('utf-8') if isinstance(value, bytes) else str(value)
