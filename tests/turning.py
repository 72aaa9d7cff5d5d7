"""Contenders for tests of benchmarks.harness.turns. Their processes import nothing but this file, so they start fast."""

import time

from benchmarks.harness.turns import Contender


def sleeping(seconds: float) -> Contender:
    """A contender whose steps take so long."""
    return Contender(lambda steps: time.sleep(steps * seconds), lambda: 5)


def breaking() -> Contender:
    """A contender that cannot be built."""
    raise RuntimeError('no device\nmore lines')
