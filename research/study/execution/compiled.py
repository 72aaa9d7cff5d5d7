"""The folder in which jax keeps compiled programs for the next run."""

import os
from pathlib import Path

from research.files import find_cache

MOST = 2**32  # bytes; with any limit jax locks the folder, so that no run reads a half-written file of another


def find_compiled() -> Path | None:
    """The user's own folder of compiled programs; None if there can be none that nobody else writes to.

    A compiled program is code, so none is ever loaded from a study's folder, which may come from a stranger. The other paths that
    a folder names (`machine.cache`, sources, starts) are followed as if they were typed: `--dry` shows them, and what they hold is
    read as data.
    """
    try:
        folder = find_cache() / 'compiled'
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except (OSError, RuntimeError):  # no home, or one that cannot be written
        return None
    ours = found.st_uid == os.geteuid() and not found.st_mode & 0o022 and not folder.is_symlink()
    return folder if ours and os.access(folder, os.W_OK | os.X_OK) else None


def compiled_settings() -> dict[str, str]:
    """The environment variables by which a run's process finds compiled programs; {} if the user set them."""
    folder = None if 'JAX_COMPILATION_CACHE_DIR' in os.environ else find_compiled()
    if folder is None:
        return {}
    return {'JAX_COMPILATION_CACHE_DIR': str(folder), 'JAX_COMPILATION_CACHE_MAX_SIZE': str(MOST)}
