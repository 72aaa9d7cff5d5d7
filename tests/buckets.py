"""Buckets in the memory of this process, and one that refuses: what tests put in the place of gcsfs and s3fs."""

import dataclasses

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from research import remote


class Broken(MemoryFileSystem):
    """A store whose every call raises `error`."""

    cachable = False
    error: Exception = OSError('nothing')

    def find(self, *arguments: object, **options: object) -> dict[str, object]:
        """Raises the error."""
        raise type(self).error

    def cat_file(self, *arguments: object, **options: object) -> bytes:
        """Raises the error."""
        raise type(self).error


def use(monkeypatch: pytest.MonkeyPatch, client: type[MemoryFileSystem] = MemoryFileSystem) -> None:
    """Makes gs:// an empty store in memory, of the class `client`."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = ['']
    remote.connect.cache_clear()
    store = dataclasses.replace(remote.STORES['gs'], client=(client.__module__, client.__name__), options={})
    monkeypatch.setitem(remote.STORES, 'gs', store)


def contents() -> dict[str, bytes]:
    """The objects in memory, by their names with the bucket in front."""
    return {name.lstrip('/'): file.getvalue() for name, file in sorted(MemoryFileSystem.store.items())}


def put(name: str, content: bytes = b'') -> None:
    """Writes an object, BUCKET/NAME."""
    MemoryFileSystem().pipe_file(name, content)
