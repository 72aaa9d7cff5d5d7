"""Documents cut by all cores: by processes, which neither the lock of the interpreter nor threads of jax hold up."""

import os
import pickle
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from research.data.cutting import Cut, Knife, cut, knife
from research.data.sources import Found
from research.errors import UserError

CHUNK = 2**19  # characters cut at once, or a single document of more
DOCUMENTS = 4096  # cut at once, at most
ALONE = 16  # chunks that this process cuts itself before it asks for help, which takes a second to come
MOST = 16  # processes: one reader does not feed more

Chunk = tuple[float, list[list[str]]]  # share of the source read, documents


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def chunks(found: Iterable[Found]) -> Iterator[Chunk]:
    """Documents in runs of about CHUNK characters."""
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
    """(share of the source read, documents read, their Cut) of run after run, in the order of the source."""
    stream = chunks(found)
    for number, (share, documents) in enumerate(stream, start=1):
        yield share, len(documents), cut(documents, tool)
        if number == ALONE and cores() > 1:
            break
    with staff(min(cores(), MOST), tool) as ask:
        pending: deque[tuple[float, int, Future[Cut]]] = deque()
        for share, documents in stream:
            pending.append((share, len(documents), ask(documents)))
            if len(pending) > 2 * cores():
                share, size, future = pending.popleft()
                yield share, size, future.result()
        for share, size, future in pending:
            yield share, size, future.result()


@contextmanager
def staff(count: int, tool: Knife) -> Iterator[Any]:
    """A function that has documents cut by one of `count` processes and gives a Future; they start when it is first called."""
    idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
    started: list[subprocess.Popen[bytes]] = []
    orders = pickle.dumps((tool.tokenizer.to_str(), tool.tokenizer.encode_special_tokens, tool.cleaners))

    def have_cut(documents: list[list[str]]) -> Cut:
        process = idle.get()
        try:
            assert process.stdin and process.stdout
            pickle.dump(documents, process.stdin, pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            return pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            status = process.wait()
            raise UserError(
                f'a process that cuts documents was ended (exit status {status}); if the machine is short of memory, '
                'let fewer cores take part, for example with taskset -c 0'
            ) from error
        finally:
            idle.put(process)

    with ThreadPoolExecutor(count) as pool:

        def ask(documents: list[list[str]]) -> Future[Cut]:
            if not started:
                started.extend(worker(orders) for _ in range(count))
                for process in started:
                    idle.put(process)
            return pool.submit(have_cut, documents)

        try:
            yield ask
        finally:
            for process in started:
                process.kill()
            pool.shutdown(cancel_futures=True)
            for process in started:
                process.wait()
                assert process.stdin and process.stdout
                process.stdout.close()
                try:
                    process.stdin.close()
                except BrokenPipeError:  # what was written last is still in the buffer
                    continue


def worker(orders: bytes) -> subprocess.Popen[bytes]:
    """A process that cuts what it is sent; it ends when its input does."""
    process = subprocess.Popen(
        [sys.executable, '-c', 'from research.data.workers import serve; serve()'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, 'TOKENIZERS_PARALLELISM': 'false'},
        start_new_session=True,  # an interruption from the keyboard is the reader's to answer
    )
    assert process.stdin
    process.stdin.write(orders)
    return process


def serve() -> None:
    """Reads orders and documents from the standard input and writes Cuts to the standard output."""
    inbox, outbox = sys.stdin.buffer, os.fdopen(os.dup(1), 'wb')
    os.dup2(2, 1)  # nothing that a library prints may get among the answers
    text, as_text, names = pickle.load(inbox)
    tokenizer = Tokenizer.from_str(text)
    tokenizer.encode_special_tokens = as_text
    tool = knife(tokenizer, names)
    while True:
        try:
            documents = pickle.load(inbox)
        except EOFError:
            return
        pickle.dump(cut(documents, tool), outbox, pickle.HIGHEST_PROTOCOL)
        outbox.flush()
