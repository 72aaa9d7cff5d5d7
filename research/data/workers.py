"""Worker processes, which neither the interpreter's lock nor jax's threads slow down."""

import os
import pickle
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from research.data.cache import Unfinished
from research.data.cutting import Cut, Knife, cut, make_knife
from research.data.sources import Found
from research.errors import UserError
from research.machine import cores

CHUNK = 2**19  # characters cut at once, or a single document of more
DOCUMENTS = 4096  # cut at once, at most
ALONE = 16  # chunks that this process cuts itself before it starts workers, which takes a second
MOST = 16  # processes: one reader cannot keep more busy
Chunk = tuple[float, list[list[str]]]  # share of the source read, documents


def chunks(found: Iterable[Found]) -> Iterator[Chunk]:
    """(share of the source read, documents) in runs of about CHUNK characters."""
    documents: list[list[str]] = []
    size, share = 0, 0.0
    for share, document in found:
        documents.append(document)
        size += sum(map(len, document))
        if size >= CHUNK or len(documents) == DOCUMENTS:
            yield share, documents
            documents, size = [], 0
    if documents:
        yield share, documents


def cuts(found: Iterable[Found], tool: Knife) -> Generator[tuple[float, int, Cut]]:
    """(share of the source read, number of documents, their Cut) of each run of documents, in the order of the source."""
    stream = chunks(found)
    for number, (share, documents) in enumerate(stream, start=1):
        yield share, len(documents), cut(documents, tool)
        if number == ALONE and cores() > 1:
            break
    orders = tool.tokenizer.to_str(), tool.tokenizer.encode_special_tokens, tool.cleaners
    with staff(min(cores(), MOST), cutter, *orders) as ask:
        pending: deque[tuple[float, int, Future[Cut]]] = deque()
        for share, documents in stream:
            pending.append((share, len(documents), ask(documents)))
            if len(pending) > 2 * cores():
                share, size, future = pending.popleft()
                yield share, size, future.result()
        for share, size, future in pending:
            yield share, size, future.result()


def cutter(tokenizer: str, as_text: bool, cleaners: tuple[str, ...]) -> Callable[[list[list[str]]], Cut]:
    """A function that cuts documents by a tokenizer, given as its JSON; as_text: whether special pieces in the text are text."""
    made = Tokenizer.from_str(tokenizer)
    made.encode_special_tokens = as_text
    return partial(cut, knife=make_knife(made, cleaners))


Worker = subprocess.Popen[bytes]


@contextmanager
def staff(count: int, build: Callable[..., Callable[[Any], Any]], *arguments: Any) -> Iterator[Callable[[Any], Future[Any]]]:
    """A function that has one of `count` processes work on something, and returns a Future; they start with its first call.

    Each process calls build(*arguments) once, and the result with everything it is given. A UserError there is raised here.
    """
    idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    started: list[Worker] = []
    orders = pickle.dumps((build, arguments))

    def have_done(given: Any) -> Any:
        process = idle.get()
        try:
            return exchange(process, given)
        finally:
            idle.put(process)

    with ThreadPoolExecutor(count) as pool:

        def ask(given: Any) -> Future[Any]:
            if not started:
                started.extend(worker(orders) for _ in range(count))
                for process in started:
                    idle.put(process)
            return pool.submit(have_done, given)

        try:
            yield ask
        finally:
            for process in started:
                process.kill()
            pool.shutdown(cancel_futures=True)
            for process in started:
                close(process)


def exchange(process: Worker, given: Any) -> Any:
    """The answer of a worker. Raises its UserError, and Unfinished if it was killed."""
    try:
        assert process.stdin and process.stdout
        pickle.dump(given, process.stdin, pickle.HIGHEST_PROTOCOL)
        process.stdin.flush()
        answer = pickle.load(process.stdout)
    except (EOFError, OSError, pickle.UnpicklingError) as error:
        status = process.wait()
        if status > 0:  # not killed: it failed, and would again
            raise RuntimeError(f'a process that prepares data failed (exit status {status}); its error is above') from error
        raise Unfinished(
            f'a process that prepares data was ended (exit status {status}); the same command goes on. If the machine is short '
            'of memory, use fewer processes: taskset -c 0, or for batches --config.machine.workers=0'
        ) from error
    if isinstance(answer, UserError):
        raise answer
    return answer


def close(process: Worker) -> None:
    """Closes the pipes of a worker that was killed."""
    process.wait()
    assert process.stdin and process.stdout
    process.stdout.close()
    with suppress(BrokenPipeError):  # of the data still in its buffer
        process.stdin.close()


def worker(orders: bytes) -> Worker:
    """A process that works on what it is sent until its input ends."""
    there = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get('PYTHONPATH', '')])]
    process = subprocess.Popen(
        # -P: nothing is imported from the folder that the user is in.
        [sys.executable, '-P', '-c', 'from research.data.workers import serve; serve()'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(there), 'TOKENIZERS_PARALLELISM': 'false'},
        start_new_session=True,  # an interruption from the keyboard is for this process alone
    )
    assert process.stdin
    process.stdin.write(orders)
    return process


def serve() -> None:
    """In a worker: reads orders and then work from the standard input, and writes the answers to the standard output."""
    inbox, outbox = sys.stdin.buffer, os.fdopen(os.dup(1), 'wb')
    os.dup2(2, 1)  # the output of libraries must not mix with the answers
    build, arguments = pickle.load(inbox)
    work = None
    while True:
        try:
            given = pickle.load(inbox)
        except EOFError:
            return
        try:
            work = work or build(*arguments)
            answer = work(given)
        except UserError as error:
            answer = error
        pickle.dump(answer, outbox, pickle.HIGHEST_PROTOCOL)
        outbox.flush()
