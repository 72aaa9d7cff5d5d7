"""The records of tasks that TFDS holds."""

from collections.abc import Iterator
from typing import Any

from research.data import builders
from research.errors import UserError


def records(name: str, split: str) -> Iterator[dict[str, Any]]:
    """The records of a split of the TFDS dataset `name`. Raises UserError if it is damaged, or not prepared and cannot be."""
    try:
        found = builders.open_builder(name, '', split)
        yield from (record for _, record in builders.read_examples(found, name, split))
    except UserError as error:
        raise UserError(f'{error}; or give the official files: --config.data.folder=FOLDER') from None


def string(value: Any) -> str:
    """A text as TFDS gives it, decoded."""
    return value.decode('utf-8') if isinstance(value, bytes) else str(value)
