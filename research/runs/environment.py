"""The environment that a run records for reproduction: code, command, versions, devices, data."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from typing import Any

from research import parallel
from research.escape import hide_secrets
from research.machine import cores
from research.runs.folder import Environment
from research.version import ROOT, VERSION

PACKAGES = (
    'jax',
    'jaxlib',
    'flax',
    'optax',
    'orbax-checkpoint',
    'numpy',
    'grain',
    'array-record',
    'tokenizers',
    'ml-collections',
    'safetensors',
)


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(['git', '-C', str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None  # git is missing, or the code was exported without its history


def find_command() -> list[str]:
    """The command line that this process serves: that of the launcher of its study, if there is one."""
    if 'LAUNCHED_BY' not in os.environ:
        return sys.argv
    try:
        return shlex.split(os.environ['LAUNCHED_BY'])
    except ValueError:  # a variable of the user's own that is no command line
        return [os.environ['LAUNCHED_BY']]


def describe_environment(facts: dict[str, Any]) -> Environment:
    """The Environment of this process; `facts` describe its data."""
    # An installed copy of the code may lie inside the repository of another project.
    in_repository = _git('rev-parse', '--show-toplevel') == str(ROOT.resolve())
    changed = _git('status', '--porcelain') if in_repository else None
    return Environment(
        version=VERSION,
        commit=_git('rev-parse', 'HEAD') if in_repository else None,
        uncommitted_changes=None if changed is None else bool(changed),
        command=tuple(hide_secrets(find_command())),
        python=platform.python_version(),
        machine=f'{platform.system()} {platform.machine()}',
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        devices=parallel.describe_devices(),
        cores=cores(),
        data=facts,
    )
