"""The folder in which jax keeps compiled programs for the next process."""

import os
from pathlib import Path

import jax

from research.files import find_cache, fingerprint
from research.machine import cores, read_processor

MOST = 2**32  # bytes; with any limit jax locks the folder, so that no process reads a half-written file of another
LEAST = 0.05  # seconds of compilation from which a program is kept: there are some sixty smaller ones before a first step


def use_compiled() -> None:
    """Makes jax keep compiled programs in the user's own folder, and read them there. Does nothing if the user chose a folder.

    A program of the folder is the one that would be compiled anew: its key holds the program, XLA's flags and the versions, and the
    folder's name what else decides it. So no number depends on it.
    """
    if jax.config.values['jax_compilation_cache_dir'] is not None:
        return
    folder = find_compiled()
    if folder is not None:
        jax.config.update('jax_compilation_cache_dir', str(folder))
        jax.config.update('jax_compilation_cache_max_size', MOST)
        jax.config.update('jax_persistent_cache_min_compile_time_secs', LEAST)


def find_compiled() -> Path | None:
    """The user's own folder of programs for this machine; None if others could write to it.

    A compiled program is code, so none is ever loaded from a run's or a study's folder, which may come from a stranger. The other
    paths that a folder names (`machine.cache`, sources, starts) are followed as if they were typed: `--dry` shows them, and what
    they hold is read as data.
    """
    try:
        whole = find_cache() / 'compiled'
        folder = whole / fingerprint_machine()
        return folder if all(map(_is_ours, (whole, folder))) else None
    except (OSError, RuntimeError):  # no home, or one that cannot be written
        return None


def _is_ours(folder: Path) -> bool:
    """Makes a folder, and returns whether nobody but this user can write to it. Raises OSError if it cannot be made."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    ours = found.st_uid == os.geteuid() and not found.st_mode & 0o022 and not folder.is_symlink()
    return ours and os.access(folder, os.W_OK | os.X_OK)


def fingerprint_machine() -> str:
    """What decides a compiled program besides jax's own key, in 16 digits: the processor, its instructions, the threads.

    jax calls every processor 'cpu', so that a home on several machines would give the programs of one to another. How many threads
    share a product is decided when it is compiled.
    """
    model, features = read_processor()
    return fingerprint([model, sorted(features), cores(), jax.config.values['jax_num_cpu_devices']])
