"""Folders of buckets: addresses, objects, errors of clients in one line, and bounds on time."""

import time
from pathlib import Path

import pytest

from research import remote
from research.errors import UserError
from research.files import is_remote, read_path, refuse_address
from research.remote import Folder, parse
from tests import buckets


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Folder:
    """An empty folder of a bucket."""
    buckets.use(monkeypatch)
    return parse('gs://b/runs/x', '--workdir')


def test_an_address_is_a_folder_of_a_bucket() -> None:
    assert parse('s3://b/runs/x/', '--workdir') == Folder('s3', 'b', 'runs/x')
    assert str(parse('gs://b/x', 'start')) == 'gs://b/x'
    assert not is_remote('runs/x') and not is_remote('text:a.txt') and is_remote('az://b/x')


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('gcs://b/x', "no store (--workdir='gcs://b/x') named 'gcs'; did you mean 'gs'? (there are: gs, s3)"),
        ('gs://', 'must be a folder of a bucket, such as gs://BUCKET/runs/NAME'),
        ('gs://b', 'must be a folder of a bucket'),
        ('s3://b/../x', 'must be a folder of a bucket'),
        ('s3://b/a//x', 'must be a folder of a bucket'),
        ('s3://b/x?versionId=3', 'must be a folder of a bucket'),
        ('gs://b/x*', 'must be a folder of a bucket'),
        ('gs://user:word@b/x', 'must be a folder of a bucket'),
        ('gs://b/x ', "--workdir='x ' must be the name of a folder"),
    ],
)
def test_another_address_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError) as found:
        parse(text, '--workdir')
    assert says in str(found.value)


def test_objects_are_written_listed_read_and_deleted(folder: Folder, tmp_path: Path) -> None:
    assert folder.list_objects() == {} and folder.read('a', 10) is None
    folder.write('a/b', b'12345')
    (tmp_path / 'c').write_bytes(b'67')
    folder.put(tmp_path / 'c', 'c')
    buckets.put('b/runs/xy/of-another', b'1')
    assert {name: entry.size for name, entry in folder.list_objects().items()} == {'a/b': 5, 'c': 2}
    assert folder.read('a/b', 3) == b'123'
    folder.fetch('a/b', tmp_path / 'new' / 'b', 5)
    assert (tmp_path / 'new' / 'b').read_bytes() == b'12345'
    folder.delete(['c', 'gone'])
    assert list(buckets.contents()) == ['b/runs/x/a/b', 'b/runs/xy/of-another']


def test_names_that_lead_out_of_a_folder_are_left_out(folder: Folder) -> None:
    for name in ('../out', '.hidden', 'a/.git/config', 'a\\b', 'a\x1b[2J', 'a//b', 'n' * 201, 'good'):
        buckets.put(f'b/runs/x/{name}')
    assert list(folder.list_objects()) == ['good']


def test_a_folder_of_too_many_objects_is_refused(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, 'OBJECTS', 1)
    folder.write('a', b'')
    assert len(folder.list_objects()) == 1
    folder.write('b', b'')
    with pytest.raises(UserError, match='gs://b/runs/x holds 2 objects: a run or a model has at most 1'):
        folder.list_objects()


def test_an_object_that_changes_while_it_is_read_leaves_no_file(folder: Folder, tmp_path: Path) -> None:
    folder.write('a', b'12345')
    with pytest.raises(UserError, match='gs://b/runs/x: a changed while it was read'):
        folder.fetch('a', tmp_path / 'a', 4)
    assert not list(tmp_path.iterdir())


class DefaultCredentialsError(Exception):
    """As google.auth names it."""


class ClientConnectorError(OSError):
    """As aiohttp names it."""


@pytest.mark.parametrize(
    ('error', 'says'),
    [
        (DefaultCredentialsError('not found'), 'there are no valid credentials (DefaultCredentialsError: not found); run `gcloud'),
        (OSError('Anonymous caller does not have storage.objects.list access, 401'), 'there are no valid credentials'),
        (PermissionError('Access Denied'), 'these credentials may not do that (PermissionError: Access Denied); run `gcloud'),
        (OSError('Forbidden: https://x\nb does not have access'), 'these credentials may not do that (OSError: Forbidden: https'),
        (ClientConnectorError('Cannot connect to host'), 'it cannot be reached: is there a network? (ClientConnectorError'),
        (RuntimeError('what?\x1b[2J'), 'the store refuses (RuntimeError: what?'),
    ],
)
def test_an_error_of_a_client_is_one_line(error: Exception, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    buckets.use(monkeypatch, buckets.Broken)
    monkeypatch.setattr(buckets.Broken, 'error', error)
    with pytest.raises(UserError) as found:
        parse('gs://b/runs/x', '--workdir').list_objects()
    assert str(found.value).startswith(f'gs://b/runs/x: {says}')
    assert len(str(found.value).splitlines()) == 1 and '\x1b' not in str(found.value)


def test_a_bucket_that_is_not_there_is_named_where_something_is_written(monkeypatch: pytest.MonkeyPatch, folder: Folder) -> None:
    def refuse(*arguments: object) -> None:
        raise FileNotFoundError('The specified bucket does not exist')

    monkeypatch.setattr(buckets.MemoryFileSystem, 'pipe_file', refuse)
    with pytest.raises(UserError, match='gs://b/runs/x: there is no such bucket or object'):
        folder.write('a', b'')


def test_a_client_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, folder: Folder) -> None:
    monkeypatch.setattr(remote, 'PATIENCE', 0.05)
    monkeypatch.setattr(buckets.MemoryFileSystem, 'find', lambda *arguments, **options: time.sleep(1))
    with pytest.raises(UserError, match='it did not answer in time: is there a network'):
        folder.list_objects()


def test_a_client_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme, package, needed in (('gs', 'gcsfs', 'requirements-gcs.txt'), ('s3', 's3fs', 'requirements-s3.txt')):
        remote.connect.cache_clear()
        monkeypatch.setitem(__import__('sys').modules, remote.STORES[scheme].client[0], None)
        with pytest.raises(UserError, match=f'{scheme}://b/x: {package} is not installed: pip install -r {needed}'):
            parse(f'{scheme}://b/x', 'start').list_objects()


def test_what_must_be_on_a_disk_is_refused_in_a_bucket() -> None:
    for value in ('gs://b/x', 'text:s3://b/x.txt'):
        with pytest.raises(UserError, match=r"data\.source='.*' is an address: a run folder, a start and a teacher may be"):
            refuse_address('data.source', value)
    refuse_address('data.source', 'text:x.txt')
    with pytest.raises(UserError, match="'gs://b/x' is an address, and this command works on a disk"):
        read_path('gs://b/x')
    assert read_path('x') == Path('x')
