"""What is known of pieces without any context: their frequencies in the training part, and the loss of a model that knows no more.

A piece that never occurs there counts as one that occurs once. Special pieces are never predicted: their share is 0.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from research.data.masking import Masking

Numbers = NDArray[np.float64]


def find_shares(counts: NDArray[Any], special: NDArray[np.bool_]) -> Numbers:
    """The share [V] of each ordinary piece among all of them, by its count in training [V]."""
    kept = np.where(special, 0.0, np.maximum(counts, 1.0))
    return kept / max(kept.sum(), 1.0)


def find_nats(shares: Numbers) -> Numbers:
    """The loss [V] of these shares on each piece, nats; 0 on special pieces."""
    return -np.log(np.where(shares > 0, shares, 1.0))


def contextless(masking: Masking, shares: Numbers) -> float:
    """The mean MLM loss, nats, of the best model that ignores the context: it knows the `shares` [V] and sees the piece shown.

    A piece w is shown because it was kept, with probability k·p(w), or drawn at random among V ordinary ones, with r/V: Bayes'
    rule gives the probability of each piece behind it. At [MASK] the loss is the entropy of the shares. It is exact for policies
    that choose pieces whatever they are.
    """
    p = shares[shares > 0]
    kept, drawn = max(0.0, 1 - masking.mask - masking.random), masking.random / len(p)
    entropy = -(p * np.log(p)).sum()
    shown = kept * p + drawn  # how often each piece is seen where it was not masked
    itself = -rel_entr(p * (kept + drawn), shown).sum()  # and is the right one
    others = drawn * (entropy + p * np.log(p)).sum() - ((1 - p) * rel_entr(drawn, shown)).sum()  # and any other one is
    return float(masking.mask * entropy + itself + others)
