"""The README's commands run, in its order, on stand-ins for the files they name, with steps and batches cut down.

Left out are those that need what a test has not: a cluster, a benchmark's peers, official files, a study's hours.
"""

import importlib
import json
import lzma
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from research.interchange.__main__ import main as interchange
from research.runs import run as runs
from research.study import config_files
from tests.faults.forks import Forker

# What shortens a command of each kind; experiments take the size that shows that everything runs.
SHORTER = ('--config.run.steps=2', '--config.run.epochs=0', '--config.run.batch=2', '--config.run.evaluate_every=0')
LEFT_OUT = ('make ', 'benchmarks/', 'research.glue', 'research.study', '…', '=RUN', '--executor=slurm')
LINKED = ('launch.py', 'configs', 'experiments', 'research')


def commands(text: str) -> Iterator[str]:
    """The command lines of a Markdown text: in bash blocks, and in indented ones that begin with a program we know."""
    for block in re.findall(r'^```bash\n(.*?)^```', text, re.MULTILINE | re.DOTALL):
        lines = re.sub(r'\\\n\s*', '', block).splitlines()
        yield from (line for line in lines if line.strip() and not line.startswith('#'))
    indented = re.sub(r'\\\n\s*', '', text)
    yield from (line.strip() for line in indented.splitlines() if re.match(r' {4}(python|make|echo) ', line))


def shortened(command: str) -> str:
    """The command with this Python, and with little to compute."""
    command = re.sub(r'\s+#.*', '', command)
    command = re.sub(r'(experiments/\w+\.py)(:\w+)?', r'\1:tiny', command)
    if 'experiments/' in command:
        command += '' if '--list' in command else ' --dry'
    elif 'launch.py' in command and '--dry' not in command:
        command += ' ' + ' '.join(SHORTER)
    return re.sub(r'\bpython\b', shlex.quote(sys.executable), command)


@pytest.fixture(scope='module')
def place(root: Path, tiny: Callable, text: dict, examples: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the repository to a command, with the files that the README's commands name."""
    folder = tmp_path_factory.mktemp('readme')
    for name in LINKED:
        (folder / name).symlink_to(root / name)
    stories = Path(text['data.source'].removeprefix('text:'))
    (folder / 'corpus').mkdir()
    shutil.copy(stories, folder / 'corpus' / 'stories.txt')
    shutil.copy(stories, folder / 'wiki.txt')
    (folder / 'books').mkdir()
    with lzma.open(folder / 'books.jsonl.xz', 'wt') as file:
        file.writelines(json.dumps({'text': story}) + '\n' for story in stories.read_text().split('\n\n'))
    shutil.copy(folder / 'books.jsonl.xz', folder / 'books')
    for split in ('train', 'test'):
        shutil.copy(examples[f'data.{split}'], folder / f'{split}.tsv')
    runs.run(tiny('bert', {'model.positions': 128}), folder / 'runs' / 'stand-in')
    for name in ('bert-base-uncased', 'albert-base-v2'):
        interchange(['export', str(folder / 'runs' / 'stand-in'), str(folder / 'path' / 'to' / name)])
    return folder


def test_the_commands_are_found(root: Path) -> None:
    found = list(commands((root / 'README.md').read_text()))
    assert 'make test' in [command.partition('#')[0].strip() for command in found]
    assert sum('launch.py' in command for command in found) > 5
    assert not [command for command in found if command.endswith('\\')]


def test_the_table_of_experiments_counts_their_runs(root: Path) -> None:
    rows = re.findall(r'^\| `(\w+)` \|.*\| (\d+) / (\d+) / (\d+) \|$', (root / 'README.md').read_text(), re.MULTILINE)
    assert len(rows) == 14
    for name, *counts in rows:
        study = config_files.module(str(root / 'experiments' / f'{name}.py')).get_study
        assert [len(study(size).runs) for size in ('tiny', 'small', 'paper')] == list(map(int, counts)), name


def test_the_bounds_of_the_page_on_security_are_those_of_the_code(root: Path) -> None:
    rows = re.findall(r'^\|.*\| ([\d,]+) \| `([\w.]+)\.([A-Z_]+)` \|$', (root / 'docs' / 'security.md').read_text(), re.MULTILINE)
    assert len(rows) == 30
    for number, module, name in rows:
        assert int(number.replace(',', '')) == vars(importlib.import_module(module))[name], f'{module}.{name}'


@pytest.mark.slow
def test_the_readme_runs(root: Path, place: Path) -> None:
    settings = {'JAX_COMPILATION_CACHE_DIR': str(root / '.jax_cache')}
    forker = Forker(place / 'forks', settings=settings, place=place)
    try:
        for command in commands((root / 'README.md').read_text()):
            if any(part in command for part in LEFT_OUT):
                continue
            line = shortened(command)
            program, *words = shlex.split(line)
            if program == sys.executable and words[0] == 'launch.py' and not {'|', '>', '&&'} & set(words):
                assert forker.run(*words[1:]) == 0, f'{command}\n{forker.said()[-5000:]}'
                continue
            ended = subprocess.run(
                ['bash', '-euo', 'pipefail', '-c', line],
                cwd=place,
                env={**os.environ, **settings},
                capture_output=True,
                text=True,
            )
            assert ended.returncode == 0, f'{command}\n{ended.stdout}\n{ended.stderr}'
    finally:
        forker.close()
