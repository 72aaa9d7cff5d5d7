"""Several sources in shares."""

import math
import re

from research.errors import UserError


def mixture(source: str) -> tuple[tuple[float, str], ...]:
    """(share, source) of each source of `data.source`; the shares are positive and sum to 1.

    Sources are separated by ' + '; each has a weight and a space before it, or none has. Raises UserError for bad weights.
    """
    terms = [WEIGHTED.fullmatch(term.strip()) for term in re.split(r'\s\+\s', source)]
    found = [(term['weight'], term['source']) for term in terms if term]
    weighted = [weight for weight, _ in found if weight is not None]
    if weighted and len(weighted) < len(found):
        raise UserError(
            f"data.source='{source}' gives only some of its sources a weight; write a number before each, or before none"
        )
    weights = [1.0 if weight is None else float(weight) for weight, _ in found]
    if min(weights) <= 0 or not math.isfinite(sum(weights)):
        raise UserError(f"data.source='{source}': each weight must be above 0, and finite")
    return tuple((weight / sum(weights), each) for weight, (_, each) in zip(weights, found, strict=True))


WEIGHTED = re.compile(r'(?:(?P<weight>\d+(?:\.\d*)?|\.\d+)\s+)?(?P<source>.*)', re.DOTALL)
