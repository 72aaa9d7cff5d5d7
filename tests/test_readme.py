"""The README's commands run, in its order, on stand-ins for the files they name, with steps and batches cut down."""

import json
import lzma
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from research.interchange.__main__ import main as interchange

# What shortens a command of each kind; experiments take the size that shows that everything runs.
SHORTER = ('--config.run.steps=2', '--config.run.batch=2', '--config.run.evaluate_every=0')
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
    if 'launch.py' in command and '--dry' not in command:
        command += ' ' + ' '.join(SHORTER)
    return re.sub(r'\bpython\b', shlex.quote(sys.executable), command)


@pytest.fixture(scope='module')
def place(root: Path, teacher: Path, text: dict, examples: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the repository to a command, with the files that the README's commands name."""
    folder = tmp_path_factory.mktemp('readme')
    for name in LINKED:
        (folder / name).symlink_to(root / name)
    stories = Path(text['data.source'].removeprefix('text:'))
    (folder / 'corpus').mkdir()
    shutil.copy(stories, folder / 'corpus' / 'stories.txt')
    with lzma.open(folder / 'books.jsonl.xz', 'wt') as file:
        file.writelines(json.dumps({'text': story}) + '\n' for story in stories.read_text().split('\n\n'))
    for split in ('train', 'test'):
        shutil.copy(examples[f'data.{split}'], folder / f'{split}.tsv')
    for name in ('bert-base-uncased', 'albert-base-v2'):
        interchange(['export', str(teacher), str(folder / 'path' / 'to' / name)])
    return folder


def test_the_commands_are_found(root: Path) -> None:
    found = list(commands((root / 'README.md').read_text()))
    assert 'make test' in [command.partition('#')[0].strip() for command in found]
    assert sum('launch.py' in command for command in found) > 5
    assert not [command for command in found if command.endswith('\\')]


@pytest.mark.slow
def test_the_readme_runs(root: Path, place: Path) -> None:
    environment = {**os.environ, 'JAX_COMPILATION_CACHE_DIR': str(root / '.jax_cache')}
    for command in commands((root / 'README.md').read_text()):
        if command.startswith('make '):  # these are what runs the tests
            continue
        ended = subprocess.run(
            ['bash', '-euo', 'pipefail', '-c', shortened(command)], cwd=place, env=environment, capture_output=True, text=True
        )
        assert ended.returncode == 0, f'{command}\n{ended.stdout}\n{ended.stderr}'
