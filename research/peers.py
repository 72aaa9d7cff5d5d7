"""The processes of a run as its command line names them. Nothing here loads jax."""

import dataclasses
import re

from research.errors import UserError

FLAGS = ('--coordinator=HOST:PORT', '--processes=N', '--process=I')


@dataclasses.dataclass(frozen=True)
class Peers:
    """Where the processes of a run find each other, how many they are, and which of them this is."""

    coordinator: str  # HOST:PORT of process 0
    processes: int
    process: int  # from 0


def read_peers(coordinator: str | None, processes: int | None, process: int | None) -> Peers | None:
    """The Peers that three flags give; None if none of them is given.

    Raises UserError if only some are given, for a coordinator that is no HOST:PORT, and for numbers out of range.
    """
    given = (coordinator, processes, process)
    if coordinator is None or processes is None or process is None:
        if given != (None, None, None):
            missing = [flag for flag, value in zip(FLAGS, given, strict=True) if value is None]
            raise UserError(f'{" and ".join(missing)} missing: give {", ".join(FLAGS)} together, or none of them')
        return None
    found = re.fullmatch(r'(?:[\w.-]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})', coordinator)
    if found is None or not 0 < int(found['port']) < 2**16:
        raise UserError(f"--coordinator={coordinator!r}: give the HOST:PORT of process 0, such as 'node1:8476'")
    if processes < 1:
        raise UserError(f'--processes={processes}: it must be at least 1')
    if not 0 <= process < processes:
        raise UserError(f'--process={process}: the processes are numbered from 0 to {processes - 1} (--processes={processes})')
    return Peers(coordinator, processes, process)
