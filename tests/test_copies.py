"""Copies of models in buckets: what is read again, and what is refused."""

import shutil
from pathlib import Path

import pytest

from research import copies
from research.errors import UserError
from research.remote import Folder, parse
from tests import buckets


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Folder:
    """An empty folder of a bucket."""
    buckets.use(monkeypatch)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return parse('gs://b/models/x', 'start')


def test_a_copy_is_for_its_owner_alone_and_reads_only_what_changed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write('config.json', b'{}')
    folder.write('old.json', b'1')
    copy = copies.fetch_model(folder, 'start')
    assert copy.name == 'x' and copy.parent.stat().st_mode & 0o777 == 0o700
    assert copies.list_files(copy) == ['config.json', 'old.json']
    folder.delete(['old.json'])
    folder.write('new/a', b'2')
    got: list[str] = []
    fetch = Folder.fetch
    monkeypatch.setattr(Folder, 'fetch', lambda self, name, path, size: (got.append(name), fetch(self, name, path, size)))
    assert copies.list_files(copies.fetch_model(folder, 'start')) == ['config.json', 'new/a']
    assert got == ['new/a']
    (copy / 'config.json').write_text('[1, 2]')  # another size: not what was read
    copies.fetch_model(folder, 'start')
    assert got == ['new/a', 'config.json'] and (copy / 'config.json').read_text() == '{}'


def test_a_folder_without_anything_is_refused(folder: Folder) -> None:
    with pytest.raises(UserError, match="teacher='gs://b/models/x': there is no such folder, or it is empty; train it first"):
        copies.fetch_model(folder, 'teacher')


def test_a_disk_without_room_is_refused(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write('config.json', b'{}')
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(UserError, match='takes 2 bytes, and 1 are free: set XDG_CACHE_HOME to a folder of a larger disk'):
        copies.fetch_model(folder, 'start')


def test_a_file_that_is_too_large_is_refused(folder: Folder) -> None:
    folder.write('experiment.json', b'12345')
    with pytest.raises(UserError, match=r'gs://b/models/x/experiment\.json has over 4 bytes'):
        copies.fetch_file(folder, 'experiment.json', 4)
    found = copies.fetch_file(folder, 'experiment.json', 5)
    assert found is not None and found.read_bytes() == b'12345'


def test_without_a_home_the_mending_is_said(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path) -> Path:
        raise RuntimeError('Could not determine home directory.')

    monkeypatch.setattr(Path, 'expanduser', fail)
    with pytest.raises(UserError, match='there is no home for its copy: set XDG_CACHE_HOME to a folder of yours'):
        copies.find_copy(folder, 'run')
