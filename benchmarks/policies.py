"""The loss of a model under each masking policy, compared with a baseline on the same pieces.

    python benchmarks/policies.py RUN [RUN …] [--batches=400]

Losses under two policies are not comparable, because each policy masks other pieces: a policy for whole words skips words that do
not fit, so it masks more short and frequent words, which are easier. Therefore the table also shows, for the same pieces, the loss
of a model that knows only the frequencies of pieces. It separates whole words from pieces of split words, where token masking
leaves a part of the word visible. Only pieces replaced by [MASK] count, because the others could be copied. Prints a table in nats,
and a JSON line for each run.
"""

import argparse
import dataclasses
import itertools
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
import numpy as np
import optax

from research.data import feed as feeds
from research.data.held_out import KINDS
from research.data.masking import MASKING, Masking
from research.models.heads import Model, encode, score
from research.runs import sources

WORDS = ('split', 'whole')


def main() -> None:
    """Measures each run under each policy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('runs', nargs='+')
    parser.add_argument('--batches', type=int, default=400, help='of 32 sequences')
    given = parser.parse_args()
    print(f'{"trained as":>12} {"masks":>12} ' + ''.join(f'{f"{word}: loss":>12}{"frequencies":>12}{"gain":>7}' for word in WORDS))
    for run in given.runs:
        found = {policy: measure(run, policy, given.batches) for policy in MASKING}
        for policy, row in found.items():
            shown = [(row[word]['loss'], row[word]['frequencies']) for word in WORDS]
            cells = ''.join(f'{loss:12.3f}{frequencies:12.3f}{frequencies - loss:7.3f}' for loss, frequencies in shown)
            print(f'{Path(run).name:>12} {policy:>12} {cells}', flush=True)
        print(json.dumps({'run': run, **found}))


def measure(run: str, policy: str, batches: int) -> dict[str, dict[str, float]]:
    """The mean loss at [MASK] of pieces of split and of whole words, and the loss of the frequencies on the same pieces."""
    donor = sources.open_donor(run, Path(run).parent / 'none', 'start')
    x = sources.read_experiment(run, Path(run).parent / 'none', 'start')
    data = dataclasses.replace(x.data, masking=Masking(policy), held_out_masks='training', tokenizer=str(donor.tokenizer))
    feed = feeds.load(data, x.machine, batch=32, seed=0, vocabulary=donor.architecture.vocabulary)
    model, starts = Model(donor.architecture, donor.heads), feed.pieces.word_start

    @jax.jit
    def losses(params: Any, batch: Any) -> Any:
        logits = score(model, params, 'mlm', encode(model, params, batch), batch['masked_positions'])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch['masked_labels'])

    found = {word: np.zeros(3) for word in WORDS}  # pieces, nats of the model, nats of the frequencies
    for batch in itertools.islice(feed.evaluation['dev'], batches):
        predicted = batch['masked_weights'] > 0
        ids = batch['ids'].copy()
        ids[np.nonzero(predicted)[0], batch['masked_positions'][predicted]] = batch['masked_labels'][predicted]
        counted = predicted & (batch['masked_kinds'] == KINDS.index('masked'))
        after = ids[np.nonzero(counted)[0], np.minimum(batch['masked_positions'][counted] + 1, ids.shape[1] - 1)]
        split = ~starts[batch['masked_labels'][counted]] | ~starts[after]
        nats = np.stack([counted[counted], np.asarray(losses(donor.params, batch))[counted], batch['masked_frequencies'][counted]])
        for word, chosen in zip(WORDS, (split, ~split), strict=True):
            found[word] += nats[:, chosen].sum(axis=1)
    total = sum(pieces for pieces, _, _ in found.values())
    return {
        word: {'share': float(pieces / total), 'loss': float(loss / pieces), 'frequencies': float(frequencies / pieces)}
        for word, (pieces, loss, frequencies) in found.items()
    }


if __name__ == '__main__':
    main()
