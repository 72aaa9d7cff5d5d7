"""A run whose folder is in a bucket: it works on a copy of it in the user's cache, which is uploaded as the run goes on.

A bucket has no locks, no appending and no renaming. So each file is uploaded as a whole after it has changed, and a checkpoint's
checksums last: without them it does not count. `session.json` names the session that writes: a session that begins puts its own
there, and one that finds another's stops. A copy whose session was the last to write is at least as new as the bucket; any other
is made equal to the bucket before the run goes on.
"""

import contextlib
import dataclasses
import json
import os
import platform
import re
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from research import copies
from research.checkpoint_files import SUMS
from research.copies import SESSION
from research.errors import UserError
from research.escape import clean
from research.experiment import Experiment
from research.files import is_remote
from research.records import SIZE, parse_json, parse_record, read_as, to_json, write_record
from research.remote import Entry, Folder, parse

EVERY = 30.0  # seconds between two uploads, or as long as the last one took
LONGEST = 4096  # bytes of session.json
CHECKPOINT = re.compile(r'checkpoints/(\d+)/')


@dataclasses.dataclass(frozen=True)
class Session:
    """session.json: the process that writes to the folder, or wrote last."""

    token: str
    process: int
    machine: str
    ended: bool = False

    def __str__(self) -> str:
        return f'process {self.process} on {self.machine}'


class Mirror:
    """The copy of a run's folder in a bucket, and its uploads."""

    def __init__(self, place: Folder) -> None:
        self.place = place
        self.folder = copies.find_copy(place, 'run')
        self._mine = Session(secrets.token_hex(8), os.getpid(), platform.node())
        self._record = self.folder.parent / SESSION  # the last session of this copy
        self._uploaded: dict[str, tuple[int, int]] = {}  # name -> size and time of the file that was uploaded
        self._there: set[str] = set()  # names of objects below checkpoints/ that this session may delete
        self._ended = threading.Event()

    def fetch_definition(self) -> None:
        """Copies the run's experiment.json alone. Raises UserError if there is none."""
        if copies.fetch_file(self.place, 'experiment.json', SIZE) is None:
            raise UserError(f'{self.place} is no run folder: it has no experiment.json; give a --config')

    def join(self, held: contextlib.ExitStack, chief: bool) -> list[str]:
        """Begins a session, which ends with `held`; returns lines for the log. Of several processes the chief alone uploads.

        Raises UserError if the folder cannot be used, and in another process than the chief that does not share the copy's disk.
        """
        if chief:
            return held.enter_context(self._session())
        theirs, here = self._read(), read_as(Session, self._record)
        if here is None or theirs is None or here.token != theirs.token:
            raise UserError(
                f'{self.place}: its copy {self.folder} must be the same for all processes of the run: '
                'set XDG_CACHE_HOME to a folder that the hosts share'
            )
        return []

    @contextlib.contextmanager
    def _session(self) -> Iterator[list[str]]:
        notes, new = self._begin()
        thread = threading.Thread(target=self._work, daemon=True)
        thread.start()
        try:
            yield notes
        except UserError as error:
            try:
                self._end(thread, new)
            except UserError as second:  # what ended the run matters more
                print(clean(f'{self.folder.name}: {second}'), file=sys.stderr)
            raise error
        except BaseException:
            self._end(thread, new)
            raise
        else:
            self._end(thread, new)

    def _begin(self) -> tuple[list[str], bool]:
        """Makes the copy equal to the bucket, unless it is newer. Returns lines for the log, and whether the folder was empty."""
        before = self._read()
        entries = self.place.list_objects()
        entries.pop(SESSION, None)
        if 'experiment.json' not in entries and set(entries) - {'failure.json'}:
            raise UserError(f'{self.place} is in use, but is no run folder: it has no experiment.json; give another --workdir')
        copies.begin_copy(self.folder)
        self._write(self._mine)
        here = read_as(Session, self._record)
        self._record.unlink(missing_ok=True)  # a kill while the copy changes leaves one of which nothing is known
        newer = here is not None and before is not None and here.token == before.token
        done = 'result.json' in entries  # nothing reads its checkpoints, and none is deleted
        self._there |= set() if done else {name for name in entries if CHECKPOINT.match(name)}
        complete = {name: entry for name, entry in entries.items() if _is_complete(name, entries)}
        if not newer:
            copies.remove_others(self.folder, complete)
        missing = {name: entry for name, entry in complete.items() if not (self.folder / name).is_file()}
        missing = {name: entry for name, entry in missing.items() if not (done and CHECKPOINT.match(name))}
        copies.download(self.place, missing, self.folder)
        for name, entry in complete.items():  # what was just read needs no upload, nor do checkpoints, which never change
            path = self.folder / name
            if path.is_file() and path.stat().st_size == entry.size and (name in missing or CHECKPOINT.match(name)):
                self._uploaded[name] = _describe(path)
        write_record(self._record, to_json(self._mine))
        notes = [f'{self.place}: works on the copy {self.folder}, and uploads it every {EVERY:g} s and at the end']
        if before is not None and not before.ended and not newer:
            notes.append(f'{before} has not ended its session there: if it still runs, it stops at its next upload')
        return notes, before is None and not entries

    def _work(self) -> None:
        """Uploads until the session ends. What fails is said, and tried again."""
        pause = EVERY
        while not self._ended.wait(pause):
            began = time.monotonic()
            try:
                self._upload()
            except TakenError:
                if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
                    os.kill(os.getpid(), signal.SIGTERM)  # the run saves its state, and `_end` says why
                return
            except (UserError, OSError) as error:
                print(clean(f'{self.folder.name}: {error}; tried again'), flush=True)
            pause = max(EVERY, time.monotonic() - began)

    def _end(self, thread: threading.Thread, new: bool) -> None:
        """Uploads the rest and ends the session. Raises UserError if that fails."""
        self._ended.set()
        thread.join()
        if new and not self.folder.exists():  # a run that was never possible leaves nothing behind
            self.place.delete([SESSION])
            return
        try:
            self._upload()
            self._write(dataclasses.replace(self._mine, ended=True))
        except TakenError:
            raise
        except UserError as error:
            raise UserError(f'{error}. What is not uploaded stays in {self.folder}; the same command uploads it') from error
        print(f'{self.folder.name}: all files are in {self.place}', flush=True)

    def _upload(self) -> None:
        """Uploads the files that have changed, then deletes the checkpoints that are gone. Raises TakenError, UserError."""
        theirs = self._read()
        if theirs is None or theirs.token != self._mine.token:
            other = f'{theirs} writes there now' if theirs else f'its {SESSION} is gone'
            raise TakenError(f'{self.place}: {other}, so this run stops; its own files stay in {self.folder}')
        kept = self.folder.parent / 'uploading'
        shutil.rmtree(kept, ignore_errors=True)
        try:
            names = [
                name for name in copies.list_files(self.folder) if not name.startswith('checkpoints/') or CHECKPOINT.match(name)
            ]
            steps = {found[0] for name in names if (found := CHECKPOINT.match(name))}
            frozen = {name: path for step in steps for name, path in self._freeze(step, kept).items()}
            rest = [name for name in names if not CHECKPOINT.match(name)]
            for name in sorted([*rest, *frozen], key=lambda name: (_rank(name), name)):
                self._put(name, frozen[name] if name in frozen else self.folder / name)
            self._there |= set(frozen)
            gone = {name for name in self._there if name not in frozen}
            self.place.delete(sorted(gone, key=lambda name: (not name.endswith(f'/{SUMS}'), name)))
            self._there -= gone
        finally:
            shutil.rmtree(kept, ignore_errors=True)

    def _freeze(self, step: str, kept: Path) -> dict[str, Path]:
        """Links to the files of a checkpoint, which the run may remove while they are uploaded; {} if it was just removed."""
        found = {}
        for path in sorted(path for path in (self.folder / step).rglob('*') if path.is_file()):
            name = path.relative_to(self.folder).as_posix()
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, kept / name)
            except FileNotFoundError:
                return {}
            found[name] = kept / name
        return found if step + SUMS in found else {}

    def _put(self, name: str, path: Path) -> None:
        """Uploads a file if it has changed. One that is gone is left out."""
        try:
            about = _describe(path)
            if name in self._uploaded and self._uploaded[name] == about:
                return
            if CHECKPOINT.match(name):
                self.place.put(path, name)
            else:  # it may grow meanwhile
                self.place.write(name, path.read_bytes())
        except FileNotFoundError:
            return
        self._uploaded[name] = about

    def _read(self) -> Session | None:
        """The session.json of the folder; None if there is none that can be read."""
        content = self.place.read(SESSION, LONGEST)
        try:
            return None if content is None else parse_record(Session, parse_json(content.decode(), f'{self.place}/{SESSION}'))
        except (ValueError, TypeError, UserError):
            return None

    def _write(self, session: Session) -> None:
        self.place.write(SESSION, (json.dumps(to_json(session)) + '\n').encode())


def open_workdir(text: str) -> tuple[Path, Mirror | None]:
    """The folder that a run works in, and, if `text` is the address of a folder of a bucket, the uploads of that copy."""
    mirror = Mirror(parse(text, '--workdir')) if is_remote(text) else None
    return (mirror.folder if mirror else Path(text)), mirror


def refuse_siblings(x: Experiment, place: Folder) -> None:
    """Raises UserError if an experiment whose folder is in a bucket names a run beside it."""
    for key, source in (('start', x.start), ('teacher', x.teacher), ('data.tokenizer', x.data.tokenizer)):
        if source.startswith('@'):
            beside = str(place).rpartition('/')[0]
            raise UserError(f"{key}='{source}' names a run of a study, which cannot be in a bucket: give {beside}/{source[1:]}")


class TakenError(UserError):
    """Another session writes to the folder."""


def _is_complete(name: str, entries: Mapping[str, Entry]) -> bool:
    """Whether an object belongs to no checkpoint, or to one whose upload was finished."""
    found = CHECKPOINT.match(name)
    return found is None or found[0] + SUMS in entries


def _describe(path: Path) -> tuple[int, int]:
    """What changes with a file: its size and the time of its last change."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _rank(name: str) -> int:
    """The place of a file in the order of uploads, such that what a kill leaves in the bucket can be continued."""
    if name == 'result.json':
        return 4
    if CHECKPOINT.match(name):
        return 3 if name.endswith(f'/{SUMS}') else 2
    return 0 if name == 'experiment.json' else 1
