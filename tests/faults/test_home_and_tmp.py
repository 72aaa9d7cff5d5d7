"""A home that cannot be written, a TMPDIR that is none, and no room in /tmp, all at once: every door works, or says so in one line.

jax, matplotlib, huggingface_hub and Python's tempfile each want a folder of their own there. Nothing that they keep is needed.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from research.experiment import Experiment
from research.wire import to_wire

Command = Callable[..., subprocess.CompletedProcess[str]]
FULL = 'mount -t tmpfs -o size=4k full {0} && {{ head -c 9999 /dev/zero > {0}/fill || true; }}'  # in 2>/dev/null, it says so
NOWHERE = '/dev/null'  # a folder below it can be made by nobody, not by root either


def can_mount(root: Path) -> bool:
    """Whether this process may put a full disk on /tmp for its children, and what they run lies elsewhere."""
    if any(path.resolve().is_relative_to('/tmp') for path in (root, Path(sys.prefix))) or not shutil.which('unshare'):
        return False
    trial = ['unshare', '-m', 'mount', '-t', 'tmpfs', 'none', '/mnt']
    return subprocess.run(trial, capture_output=True, check=False).returncode == 0


def without_room(base: Path, folder: Path, asked: list[str]) -> list[str]:
    """A command line that runs another in `folder` where /tmp and /var/tmp are full; what lies in `base` is in /mnt there."""
    mounts = ' && '.join([f'mount --bind {shlex.quote(str(base))} /mnt', *(FULL.format(name) for name in ('/tmp', '/var/tmp'))])
    place, *asked = (each.replace(str(base), '/mnt') for each in (str(folder), *asked))
    return ['unshare', '-m', 'sh', '-c', f'{{ {mounts}; }} 2>/dev/null && cd {shlex.quote(place)} && exec "$@"', 'sh', *asked]


@pytest.fixture
def command(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """command(folder, arguments, given) runs `python arguments` in a folder of this session's, without home and temporary files.

    The home and TMPDIR cannot be made; besides, /tmp and /var/tmp are full where root of Linux runs this outside of them.
    """
    base = tmp_path_factory.getbasetemp()
    lost = ('XDG_CACHE_HOME', 'XDG_CONFIG_HOME', 'MPLCONFIGDIR', 'HF_HOME', 'JAX_COMPILATION_CACHE_DIR')
    environment = {name: value for name, value in os.environ.items() if name not in lost}
    environment |= {'HOME': f'{NOWHERE}/home', 'TMPDIR': f'{NOWHERE}/tmp', 'PYTHONPATH': str(root), 'JAX_NUM_CPU_DEVICES': '1'}
    full = can_mount(root)

    def run(folder: Path, *arguments: str, given: str = '') -> subprocess.CompletedProcess[str]:
        asked = [sys.executable, *arguments]
        if full:
            asked = without_room(base, folder, asked)
        return subprocess.run(asked, cwd=folder, env=environment, input=given, capture_output=True, text=True, check=False)

    return run


def test_a_study_is_run_and_reported(command: Command, tiny: Callable[..., Experiment], tmp_path: Path, root: Path) -> None:
    """Its launcher, the process of its run, two processes that make batches, and the figures of its report."""
    x = tiny('bert', {'machine.workers': 2, 'machine.cache': 'cache'})
    source = x.data.source.removeprefix('text:')
    shutil.copy(source, tmp_path / 'stories.txt')
    wire: dict[str, Any] = to_wire(x).to_dict()
    wire['data']['source'] = 'text:stories.txt'
    (tmp_path / 'mine.json').write_text(json.dumps(wire))
    (tmp_path / 'mine.py').write_text(
        'import json\nfrom ml_collections import ConfigDict\n\n'
        'def get_config():\n    return ConfigDict(json.load(open("mine.json")))\n'
    )
    asked = ('--config=mine.py', '--sweep=seed=0', '--workdir=study')
    ended = command(tmp_path, str(root / 'launch.py'), *asked)
    assert ended.returncode == 0, ended.stderr
    assert 'Traceback' not in ended.stderr
    assert list((tmp_path / 'study').glob('*/result.json')) and (tmp_path / 'study' / 'report.html').is_file()
    assert list((tmp_path / 'study' / 'figures').glob('*.png'))


def test_a_model_is_exported_imported_and_asked(command: Command, teacher: Path, tmp_path: Path) -> None:
    for arguments in (('export', str(teacher), 'out'), ('import', 'out', 'back')):
        ended = command(tmp_path, '-m', 'research.interchange', *arguments)
        assert ended.returncode == 0, ended.stderr
    ended = command(tmp_path, '-m', 'research.predict', 'back', '--kind=fill-mask', given='{"text": "the [MASK] sailor"}\n')
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) and 'Traceback' not in ended.stderr
