"""The environment that a run records for reproduction: code, command, versions, devices, data."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from typing import Any

import jax

from research import parallel
from research.escape import hide_secrets
from research.machine import cores, describe_processor
from research.runs.fingerprints import fingerprint_code
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
    'ml-dtypes',
    'scipy',
    'scikit-learn',
    'pyarrow',
    'tensorflow-datasets',
)
ACCELERATORS = ('jax-', 'jax_', 'nvidia-', 'libtpu')  # how the names of packages begin that are there on a GPU or a TPU alone

# Variables that change numbers, beside jax's own. No other is recorded: any may hold a secret.
VARIABLES = ('XLA_FLAGS', 'LIBTPU_INIT_ARGS', 'NVIDIA_TF32_OVERRIDE', 'CUBLAS_WORKSPACE_CONFIG', 'OMP_NUM_THREADS')
HARMLESS = ('cache', 'log', 'dump', 'address', 'traceback')  # words in the names of jax's settings that change no number
SETTINGS = (
    'jax_default_matmul_precision',
    'jax_default_prng_impl',
    'jax_disable_most_optimizations',
    'jax_enable_x64',
    'jax_numpy_dtype_promotion',
    'jax_random_seed_offset',
    'jax_threefry_partitionable',
    'jax_use_shardy_partitioner',
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
    processor, instructions = describe_processor()
    return Environment(
        version=VERSION,
        commit=_git('rev-parse', 'HEAD') if in_repository else None,
        uncommitted_changes=None if changed is None else bool(changed),
        command=tuple(hide_secrets(find_command())),
        python=platform.python_version(),
        machine=f'{platform.system()} {platform.machine()}',
        versions=find_versions(),
        devices=parallel.describe_devices(),
        cores=cores(),
        data=facts,
        code=fingerprint_code(ROOT),
        processor=processor,
        instructions=instructions,
        variables=find_variables(),
        jax={name: jax.config.values[name] for name in SETTINGS if name in jax.config.values},
    )


def find_versions() -> dict[str, str]:
    """The versions of PACKAGES, and of what is installed for accelerators."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    for found in importlib.metadata.distributions():
        if found.name.lower().startswith(ACCELERATORS):
            versions[found.name] = found.version
    return versions


def find_variables() -> dict[str, str]:
    """The environment variables that change numbers: VARIABLES, and those of jax's settings."""
    jax_names = {name.upper() for name in jax.config.values if not any(word in name for word in HARMLESS)}
    return {name: os.environ[name] for name in sorted({*VARIABLES, *jax_names}) if name in os.environ}
