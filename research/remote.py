"""Folders of buckets, `gs://` and `s3://`: their objects are listed, read, written and deleted as a whole.

The clients are those that etils.epath uses, through fsspec: gcsfs and s3fs. Each call has a bound on its time, and what a client
raises becomes one line. Names of objects come from elsewhere: those that cannot be files of a folder are left out.
"""

import dataclasses
import functools
import importlib
import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from research.errors import UserError, choose
from research.escape import clean
from research.files import open_part, validate_name

T = TypeVar('T')
PATIENCE = 90.0  # seconds for a call; the clients try again within
SPEED = 2**19  # bytes a second that a transfer takes at least
OBJECTS = 100_000  # in one folder
LONGEST = 200  # bytes of a part of an object's name


@dataclasses.dataclass(frozen=True)
class Store:
    """How the buckets of one scheme are reached. client: module and class. login: how a user gives credentials."""

    client: tuple[str, str]
    requirements: str
    options: Mapping[str, Any]
    login: str


STORES = {
    'gs': Store(
        ('gcsfs.core', 'GCSFileSystem'),
        'requirements-gcs.txt',
        {'consistency': 'md5'},
        'run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a key file',
    ),
    's3': Store(
        ('s3fs', 'S3FileSystem'),
        'requirements-s3.txt',
        {'config_kwargs': {'connect_timeout': 10, 'read_timeout': 60, 'retries': {'max_attempts': 3}}},
        'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE',
    ),
}

# How the clients' errors read, type and text, and what they mean; the first that matches counts.
LOGIN, DENIED = 'there are no valid credentials', 'these credentials may not do that'
REASONS = {
    r'NoCredentials|DefaultCredentials|PartialCredentials|CredentialRetrieval|RefreshError|TokenRetrieval|Unauthori[sz]ed'
    r'|Anonymous caller|Invalid Credentials|InvalidAccessKeyId|Access Key Id|SignatureDoesNotMatch|signature we calculated'
    r'|ExpiredToken|token .* expired|SSOToken|ProfileNotFound|, 401\b': LOGIN,
    r'PermissionError|Forbidden|AccessDenied|Access Denied|, 403\b': DENIED,
    r'FileNotFoundError|NoSuchBucket|bucket does not exist|, 404\b': 'there is no such bucket or object',
    r'TimeoutError|Timeout': 'it did not answer in time: is there a network?',
    r'EndpointConnection|ClientConnector|ConnectionError|ConnectTimeout|ServerDisconnected|Cannot connect|TransportError'
    r'|ProxyError|Name or service': 'it cannot be reached: is there a network?',
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """An object: its bytes, and a tag that changes with its content."""

    size: int
    tag: str


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder of a bucket. Its methods raise UserError, with the folder in front, if the store refuses or does not answer."""

    scheme: str
    bucket: str
    path: str

    def __str__(self) -> str:
        return f'{self.scheme}://{self.bucket}/{self.path}'

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition('/')[2]

    def list_objects(self) -> dict[str, Entry]:
        """The objects below the folder, by their names there; {} if there are none."""
        try:
            found = self._call(lambda client: client.find(f'{self.bucket}/{self.path}', detail=True), missing_ok=True) or {}
        except _MissingError:
            return {}
        if len(found) > OBJECTS:
            raise UserError(f'{self} holds {len(found):,} objects: a run or a model has at most {OBJECTS:,}')
        start = f'{self.bucket}/{self.path}/'
        names = {path.lstrip('/'): about for path, about in found.items()}
        return {
            path.removeprefix(start): Entry(int(about['size']), _find_tag(about))
            for path, about in sorted(names.items())
            if path.startswith(start) and about['type'] == 'file' and is_plain(path.removeprefix(start))
        }

    def read(self, name: str, most: int) -> bytes | None:
        """The first `most` bytes of an object; None if it is not there."""
        try:
            return self._call(lambda client: client.cat_file(self._locate(name), start=0, end=most), missing_ok=True)
        except _MissingError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Writes an object."""
        self._call(lambda client: client.pipe_file(self._locate(name), content), len(content))

    def put(self, path: Path, name: str) -> None:
        """Writes the content of a file, which does not change meanwhile, as an object."""
        self._call(lambda client: client.put_file(str(path), self._locate(name)), path.stat().st_size)

    def fetch(self, name: str, path: Path, size: int) -> None:
        """Writes an object of `size` bytes to a file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_part(path) as part:
            self._call(lambda client: client.get_file(self._locate(name), str(part)), size)
            if part.stat().st_size != size:
                raise UserError(f'{self}: {name} changed while it was read: once more')

    def delete(self, names: Iterable[str]) -> None:
        """Deletes objects; one that is gone already is no error."""
        for name in names:
            try:
                self._call(lambda client, name=name: client.rm_file(self._locate(name)), missing_ok=True)
            except _MissingError:
                continue

    def _locate(self, name: str) -> str:
        return f'{self.bucket}/{self.path}/{name}'

    def _call(self, action: Callable[[Any], T], size: int = 0, missing_ok: bool = False) -> T:
        """The result of `action` with the client; size: bytes that it transfers. Raises _MissingError if it is `missing_ok`."""
        try:
            return _limit(lambda: action(connect(self.scheme)), PATIENCE + size / SPEED)
        except ImportError:
            store = STORES[self.scheme]
            raise UserError(
                f'{self}: {store.client[0].partition(".")[0]} is not installed: pip install -r {store.requirements}'
            ) from None
        except Exception as error:
            if missing_ok and isinstance(error, FileNotFoundError):
                raise _MissingError from None
            raise UserError(f'{self}: {_explain(error, STORES[self.scheme])}') from error


class _MissingError(Exception):
    """There is no such object."""


def _find_tag(about: Mapping[str, Any]) -> str:
    """What changes with the content of an object, whatever the store calls it."""
    return next((str(about[key]) for key in ('md5Hash', 'crc32c', 'ETag', 'etag', 'created') if key in about), '')


@functools.cache
def connect(scheme: str) -> Any:
    """The client of a scheme. Raises ImportError if its package is not there."""
    store = STORES[scheme]
    module, name = store.client
    logging.getLogger(module.partition('.')[0]).setLevel(logging.CRITICAL)  # it logs the errors that it raises, with tracebacks
    return getattr(importlib.import_module(module), name)(use_listings_cache=False, **store.options)


def _limit(action: Callable[[], T], seconds: float) -> T:
    """The result of `action`. Raises TimeoutError if it takes longer: the thread that runs it ends with the process."""
    found: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            found.append(action())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(f'no answer in {seconds:.0f} s')
    return found[0]


def _explain(error: BaseException, store: Store) -> str:
    """What an error of a client means, in one line."""
    said = ' '.join(f'{type(error).__name__}: {error}'.split())
    meant = next((words for pattern, words in REASONS.items() if re.search(pattern, said)), '')
    hint = f'; {store.login}' if meant in (LOGIN, DENIED) else ''
    return f'{meant or "the store refuses"} ({clean(said)[:300]}){hint}'


# ---- Names ----------------------------------------------------------------------------------------------------------------------


def parse(text: str, key: str) -> Folder:
    """The folder that an address names; `key` begins messages. Raises UserError for another scheme, or no folder of a bucket."""
    scheme, _, rest = text.partition('://')
    choose(f'store ({key}={text!r})', scheme, STORES)
    bucket, _, path = rest.strip('/').partition('/')
    if not bucket or not is_plain(path) or set('[]*?#@:') & set(rest):
        raise UserError(f'{key}={text!r} must be a folder of a bucket, such as {scheme}://BUCKET/runs/NAME')
    found = Folder(scheme, bucket, path)
    validate_name(key, found.name)
    return found


def is_plain(name: str) -> bool:
    """Whether the name of an object can be that of a file of ours: no '..', nothing hidden, nothing that moves the cursor."""
    whole = clean(name) == name and '\\' not in name
    return whole and all(part and part[0] != '.' and len(part.encode()) <= LONGEST for part in name.split('/'))
