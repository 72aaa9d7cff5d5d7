"""Contenders that take turns, each in a process of its own, so that neither touches the other's memory, threads or compiler."""

import contextlib
import multiprocessing
import os
import resource
import statistics
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Contender(NamedTuple):
    """What a process of a contender measures."""

    run: Callable[[int], None]  # does so many steps and waits for the last
    read_peak: Callable[[], int | None] = lambda: None  # bytes at most in use since it was built; None if that is not recorded


# (what builds a contender in its process, its arguments, environment variables of the process)
Entry = tuple[Callable[..., Contender], Sequence[Any], Mapping[str, str]]


class Failed(Exception):
    """A contender that could not be built or run; the message is one line."""


class Turns(NamedTuple):
    """The results of one contender."""

    seconds: tuple[float, ...]  # of one step, in each round
    first: float  # seconds of the first step, mostly compilation
    peak: int | None  # bytes

    @property
    def median(self) -> float:
        """The median seconds of a step."""
        return statistics.median(self.seconds)

    @property
    def compilation(self) -> float:
        """Seconds to trace and compile: what the first step took beyond a later one."""
        return max(self.first - self.median, 0.0)


class Process(NamedTuple):
    """A contender's process, and how to talk with it."""

    process: Any
    connection: Any
    deadline: float  # of time.monotonic(), after which no answer is waited for

    def ask(self, question: Any) -> Any:
        """The answer to a question of `_serve`. Raises Failed with the contender's own error."""
        self.connection.send(question)
        return self.hear()

    def hear(self) -> Any:
        """The next answer. Raises Failed, also after the deadline."""
        try:
            if not self.connection.poll(max(self.deadline - time.monotonic(), 0)):
                self.process.kill()
                raise Failed('its time was up')
            kind, answer = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise Failed(f'its process died with status {self.process.exitcode}') from None
        if kind == 'failed':
            self.stop()
            raise Failed(answer)
        return answer

    def stop(self) -> None:
        """Ends the process."""
        self.connection.close()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def list_processors(threads: int | None) -> list[int]:
    """The processors of this process, or the first `threads` of them."""
    return sorted(os.sched_getaffinity(0))[:threads]


def start(
    build: Callable[..., Contender], arguments: Sequence[Any], threads: int | None, settings: Mapping[str, str], deadline: float
) -> Process:
    """A process that calls build(*arguments) with these environment variables on so many processors."""
    context = multiprocessing.get_context('spawn')
    here, there = context.Pipe()
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        process = context.Process(target=_serve, args=(there, build, tuple(arguments), list_processors(threads)))
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    there.close()
    return Process(process, here, deadline)


def _serve(connection: Any, build: Callable[..., Contender], arguments: tuple[Any, ...], processors: list[int]) -> None:
    """Builds a contender, sends the seconds of its first step, then answers: a number of steps -> seconds; None -> its peak."""
    os.sched_setaffinity(0, processors)
    try:
        contender = build(*arguments)
        first = measure(contender.run, 1)
        forget_resident_peak()
        connection.send(('seconds', first))
        while True:
            asked = connection.recv()
            connection.send(('peak', contender.read_peak()) if asked is None else ('seconds', measure(contender.run, asked)))
    except EOFError:
        return
    except Exception as error:
        if 'BENCHMARK_TRACEBACK' in os.environ:
            traceback.print_exc()
        text = str(error).strip() or 'no message'
        connection.send(('failed', f'{type(error).__name__}: {text.splitlines()[0][:200]}'))


def measure(run: Callable[[int], None], steps: int) -> float:
    """Seconds that `steps` steps take."""
    begin = time.perf_counter()
    run(steps)
    return time.perf_counter() - begin


def take_turns(
    contenders: Mapping[str, Entry],
    rounds: int,
    seconds: float,
    threads: int | None = None,
    limit: float = 86_400.0,
    at_once: bool = False,
) -> tuple[dict[str, Turns], dict[str, str]]:
    """(the Turns of each contender, the error of each that failed).

    contenders: name -> (build, its arguments, its environment variables). They are built one after the other (at_once: together,
    for machines with many processors), then make `rounds` rounds; in a round each runs for about `seconds`, one step at least, and
    the order rotates from round to round. A contender that is not built after three quarters of `limit` seconds has failed, and so
    has one without an answer when they are over.
    """
    begin = time.monotonic()
    processes: dict[str, Process] = {}
    firsts, steps, times, failed = {}, {}, {}, {}
    try:
        for name, (build, arguments, settings) in contenders.items() if at_once else ():
            processes[name] = start(build, arguments, threads, settings, begin + 0.75 * limit)
        for name, (build, arguments, settings) in contenders.items():
            try:
                if name not in processes:
                    processes[name] = start(build, arguments, threads, settings, begin + 0.75 * limit)
                firsts[name] = processes[name].hear()
                warm = processes[name].ask(1)  # one warm-up, which also says how many steps fill a turn
                steps[name] = max(1, round(seconds / max(warm, 1e-6)))
                times[name] = []
                processes[name] = processes[name]._replace(deadline=begin + limit)
            except Failed as error:
                failed[name] = str(error)
        for number in range(rounds):
            alive = [name for name in times if name not in failed]
            for name in alive[number % len(alive) :] + alive[: number % len(alive)] if alive else ():
                try:
                    times[name].append(processes[name].ask(steps[name]) / steps[name])
                except Failed as error:
                    failed[name] = str(error)
        found = {}
        for name in [name for name in times if name not in failed]:
            try:
                found[name] = Turns(tuple(times[name]), firsts[name], processes[name].ask(None))
            except Failed as error:
                failed[name] = str(error)
    finally:
        for process in processes.values():
            process.stop()
    return found, failed


def compare(ours: Turns, peer: Turns) -> tuple[float, float, float]:
    """How many times as fast as the peer: the median of the ratios of the rounds, the smallest and the largest."""
    ratios = [b / a for a, b in zip(ours.seconds, peer.seconds, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def describe_turns(first: Turns | None, turns: Turns) -> dict[str, Any]:
    """What each table says of a contender; `ratio` is how many times as fast `first` is, None for `first` itself."""
    return {
        'milliseconds': 1000 * turns.median,
        'rounds': [1000 * each for each in turns.seconds],
        'ratio': None if first is None or turns is first else compare(first, turns),
        'peak_bytes': turns.peak,
    }


def read_resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()


def read_resident_peak() -> int:
    """The largest number of bytes of this process that were in memory, since `forget_resident_peak` where Linux allows that."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM'))


def forget_resident_peak() -> None:
    """Makes `read_resident_peak` begin anew, without the compiler's memory; does nothing where that is forbidden."""
    with contextlib.suppress(OSError):
        Path('/proc/self/clear_refs').write_text('5')
