"""What replaces the pieces to predict in the input, and where the predictions are."""

import numpy as np
from numpy.typing import NDArray

from research.data.masking import MASKING, Ids, Masking, Text, count_predictions, predictions
from research.data.tokenizers import Vocabulary


def corrupt(
    masking: Masking,
    pieces: Vocabulary,
    ids: Ids,
    generator: np.random.Generator,
    weights: NDArray[np.float64] | None = None,
    mine: NDArray[np.int64] | None = None,
    room: int = 0,
) -> tuple[Ids, Ids, Ids, NDArray[np.float32]]:
    """The sequences with some pieces replaced, and the pieces to predict.

    weights: of each piece [V], for a policy that weighs pieces; None weighs all the same. mine: the rows that are returned,
    increasing; None: all. room: P; 0: what the masking needs. Draws are for all rows, so that a row does not depend on it.
    ids [B, T] -> of `mine`: corrupted ids [B, T], positions [B, P], labels [B, P], weights [B, P]. Special pieces, padding and
    unknown pieces are neither predicted nor drawn as replacements. A sequence has max(1, round(rate * candidates))
    predictions, by increasing position; the rest of the P axis has position 0, the padding piece as its label,
    and weight 0.
    """
    candidates = ~pieces.special[ids]
    each = np.ones((1, 1)) if weights is None else weights[ids]
    text = Text(pieces.word_start[ids], candidates, count_predictions(masking, candidates.sum(axis=1)), each)
    chosen = MASKING[masking.policy].choose(masking, text, generator)
    sizes = chosen.sum(axis=1)
    total, before = int(sizes.sum()), np.cumsum(sizes) - sizes  # chosen pieces: of all rows, and of those before each row
    if mine is not None:
        ids, chosen, sizes, before = ids[mine], chosen[mine], sizes[mine], before[mine]
    rows, columns = np.divmod(np.flatnonzero(chosen), ids.shape[1])
    slot = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    shape = (len(ids), room or predictions(masking, ids.shape[1]))
    positions = np.zeros(shape, np.int32)
    labels = np.full(shape, pieces.pad, np.int32)
    presence = np.zeros(shape, np.float32)
    hidden = ids[rows, columns]
    positions[rows, slot], labels[rows, slot], presence[rows, slot] = columns, hidden, 1

    corrupted = ids.copy()
    corrupted[rows, columns] = replacements(masking, pieces, hidden, generator, slot + np.repeat(before, sizes), total)
    return corrupted, positions, labels, presence


def follow(ids: Ids, pieces: Vocabulary) -> tuple[Ids, Ids, NDArray[np.float32]]:
    """The pieces that follow each position: positions, labels and weights, each [B, T − 1]; special pieces have weight 0."""
    labels = ids[:, 1:]
    positions = np.broadcast_to(np.arange(labels.shape[1], dtype=np.int32), labels.shape).copy()
    return positions, labels.copy(), (~pieces.special[labels]).astype(np.float32)


def replacements(
    masking: Masking, pieces: Vocabulary, hidden: Ids, generator: np.random.Generator, numbers: NDArray[np.int64], total: int
) -> Ids:
    """What replaces each of the predicted pieces: [MASK], a random piece, or itself.

    numbers: of each among the `total` predicted pieces of the whole batch.
    """
    ordinary = np.flatnonzero(~pieces.special).astype(np.int32)
    draw = generator.random(total)[numbers]
    substitute = ordinary[generator.integers(len(ordinary), size=total)[numbers]]
    kept_or_random = np.where(draw < masking.mask + masking.random, substitute, hidden)
    return np.where(draw < masking.mask, np.int32(pieces.mask), kept_or_random)
