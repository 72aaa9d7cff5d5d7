"""python -m tests.fuzz [TARGET …] [--seconds=600] [--seed=N]: fuzzes parsers, each in a process of its own.

A parser must succeed or say one clear line, within 10 s and 1 GB more than it has at the start. What fails is kept in
tests/fuzz/found/CASE, which the tests read again and again.
"""

import argparse
import faulthandler
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from research.files import fingerprint
from tests.fuzz.mutations import Files, changed_files
from tests.fuzz.targets import CASES, TARGETS, attempt, is_clear

FOUND = Path(__file__).parent / 'found'
SECONDS, MEMORY = 10, 2**30


def fuzz(name: str, seconds: float, number: int, last: Path) -> int:
    """Fuzzes one parser in this process; `last` holds the case that it reads at any moment. Returns how often it was asked."""
    files = {case: CASES[case].files() for case in TARGETS[name]}
    for case, valid in files.items():
        with tempfile.TemporaryDirectory() as folder:
            problem = attempt(case, Path(folder), valid)  # also loads all modules, which the limits do not count
        if problem:
            raise SystemExit(f'{case}: the valid files are refused: {problem}')
    size = int(Path('/proc/self/statm').read_text().split()[0]) * os.sysconf('SC_PAGE_SIZE')
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    faulthandler.register(signal.SIGPROF, chain=True)  # prints where it hangs, and ends the process
    asked, failed, end = 0, False, time.monotonic() + seconds

    def once(drawn: tuple[str, Files]) -> None:
        nonlocal asked, failed
        if time.monotonic() > end and not failed:
            return
        case, changed = drawn
        asked += 1
        keep(case, changed, last)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of the processor: others may use the machine too
        faulthandler.dump_traceback_later(6 * SECONDS, exit=True)
        folder = Path(tempfile.mkdtemp())
        try:
            problem = attempt(case, folder, changed)
            if not is_clear(problem):
                raise AssertionError(f'not one clear line: {problem[:500]!r}')
        except BaseException:
            failed = True
            raise
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            faulthandler.cancel_dump_traceback_later()
            shutil.rmtree(folder)

    options = settings(
        max_examples=100,
        database=None,
        deadline=None,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example),
        phases=(Phase.generate, Phase.target, Phase.shrink),
    )
    for round in itertools.count():
        case = TARGETS[name][round % len(files)]
        drawn = changed_files(files[case]).map(lambda changed, case=case: (case, changed))
        seed(number + round)(options(given(drawn)(once)))()
        if time.monotonic() > end:
            return asked
    return asked


def keep(case: str, files: Files, path: Path) -> None:
    """Writes a case and its files as one JSON file that a person can read."""
    content = {'case': case, 'files': {name: content.decode('latin-1') for name, content in files.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + '\n')


def recall(path: Path) -> Files:
    """The files that `keep` wrote."""
    return {name: content.encode('latin-1') for name, content in json.loads(path.read_text())['files'].items()}


def fuzz_apart(name: str, seconds: float, number: int) -> str:
    """Fuzzes one parser in a process of its own; '' if it held, else what it said at the end. Keeps what was found."""
    last = Path(tempfile.mkdtemp()) / 'last.json'
    command = [sys.executable, '-m', 'tests.fuzz', name, f'--seconds={seconds}', f'--seed={number}', f'--last={last}']
    ended = subprocess.run(command, capture_output=True, text=True, errors='replace', check=False)
    sys.stdout.write(ended.stdout if ended.returncode == 0 else '')
    if ended.returncode == 0:
        return ''
    if last.exists():
        content = json.loads(last.read_text())
        path = FOUND / content['case'] / f'{fingerprint(content)}.json'
        keep(content['case'], recall(last), path)
        return f'{name}: {path} (seed {number}, status {ended.returncode})\n{ended.stdout[-500:]}{ended.stderr[-5000:]}'
    return f'{name}: status {ended.returncode}\n{ended.stderr[-5000:]}'


def main() -> int:
    """Runs the command line. Returns 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('targets', nargs='*', metavar='TARGET', help=', '.join(TARGETS))
    parser.add_argument('--seconds', type=float, default=600, help='for each target')
    parser.add_argument('--seed', type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument('--last', type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    unknown = [name for name in given.targets if name not in TARGETS]
    if unknown:
        parser.error(f'no target {unknown[0]}; there are: {", ".join(TARGETS)}')
    if given.last is not None:
        (name,) = given.targets
        try:
            print(f'{name}: {fuzz(name, given.seconds, given.seed, given.last):,} files, nothing found (seed {given.seed})')
        finally:
            shutil.rmtree(given.last.parent, ignore_errors=True) if sys.exc_info()[0] is None else None
        return 0
    found = [problem for name in given.targets or TARGETS if (problem := fuzz_apart(name, given.seconds, given.seed))]
    print('\n\n'.join(found))
    return int(bool(found))


if __name__ == '__main__':
    sys.exit(main())
