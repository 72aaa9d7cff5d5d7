"""What the rows of an evaluation hold besides those of training: what replaces a piece, its frequency, its document."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What stands in place of a predicted piece, by its number in `masked_kinds`: [MASK], the piece itself, or another at random. A
# random piece that happens to be the right one counts as kept: nothing tells them apart.
KINDS = ('masked', 'kept', 'random')


def describe_rows(
    batch: Mapping[str, NDArray[Any]], mask: int, nats: NDArray[np.float64], documents: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """The Batch with `masked_kinds` [B, P], `masked_frequencies` [B, P] and `document` [B].

    mask: the id of [MASK]. nats [V]: the loss of the training frequencies on each piece. documents [B]: the number of each row's
    document among the held-out ones of all sources; of a row that holds several, that of its first.
    """
    labels = batch['masked_labels']
    shown = np.take_along_axis(batch['ids'], batch['masked_positions'], axis=1)
    kinds = np.where(shown == mask, 0, np.where(shown == labels, 1, 2))
    return {
        **batch,
        'masked_kinds': kinds.astype(np.int32),
        'masked_frequencies': nats[labels].astype(np.float32),
        'document': documents.astype(np.int32),
    }
