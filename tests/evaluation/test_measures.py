"""Measures: means over whole splits, independent of the batches, without dropout."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from research import parallel
from research.evaluation.measures import ACCURACIES, evaluate, make_measure, select_losses
from research.models.architecture import Architecture
from research.models.heads import Model, encode, initialise, score
from research.objectives.losses import LOSSES

HEADS = (('mlm', 64), ('pair', 2))
OFFERED = frozenset({'masked', 'sop'})


def test_the_measured_losses_are_those_that_heads_and_data_allow() -> None:
    assert select_losses(['mlm', 'pair'], OFFERED) == ('mlm', 'sop')
    assert select_losses(['mlm'], OFFERED) == ('mlm',)
    assert select_losses(['mlm', 'label'], frozenset({'label'})) == ('label',)
    assert select_losses([], OFFERED) == ()
    assert set(ACCURACIES) <= set(LOSSES)


@pytest.mark.parametrize('kind', parallel.PARALLEL)
def test_a_measure_is_the_mean_over_all_counted_items(small: Architecture, make_batch: Callable, kind: str) -> None:
    model = Model(dataclasses.replace(small, dropout=0.5), HEADS)
    params = initialise(model, jax.random.key(0))
    batches = [make_batch(rows=16, seed=seed) for seed in (1, 2)]
    plan = parallel.make_plan(kind, 16, 1)
    numbers = np.random.default_rng(5)
    for batch in batches:
        shape = batch['masked_labels'].shape
        batch['masked_kinds'] = numbers.integers(0, 3, shape).astype(np.int32)
        batch['masked_frequencies'] = numbers.random(shape).astype(np.float32)
        batch['document'] = numbers.integers(0, 7, len(batch['ids'])).astype(np.int32)
    measure = plan.compile(make_measure(model, OFFERED))
    found, logits, held_out = evaluate(measure, plan.put_batch, plan.put_state(params), batches)
    assert logits == []

    hits: dict[str, list[Any]] = {'mlm': [], 'sop': []}
    table: list[tuple[float, ...]] = []  # (kind, document, loss, loss of the frequencies) of each predicted piece
    for batch in batches:
        outputs = encode(model, params, batch)
        logits, counted = score(model, params, 'mlm', outputs, batch['masked_positions']), batch['masked_weights'] > 0
        hits['mlm'] += np.asarray(logits.argmax(-1) == batch['masked_labels'])[counted].tolist()
        nats = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), batch['masked_labels'][..., None], axis=-1)[..., 0]
        document = np.broadcast_to(batch['document'][:, None], counted.shape)
        columns = (batch['masked_kinds'], document, nats, batch['masked_frequencies'])
        table += zip(*(each[counted].tolist() for each in columns), strict=True)
        hits['sop'] += np.asarray(score(model, params, 'pair', outputs).argmax(-1) == batch['pair'])[batch['weight'] > 0].tolist()
    assert set(found) == {'mlm', 'mlm_accuracy', 'mlm_kept', 'mlm_random', 'sop', 'sop_accuracy'}
    pieces = np.array(table)
    assert found['mlm'] == pytest.approx(pieces[:, 2].mean(), abs=1e-5)
    for kind, name in ((1, 'mlm_kept'), (2, 'mlm_random')):
        assert found[name] == pytest.approx(pieces[pieces[:, 0] == kind, 2].mean(), abs=1e-5)
    masked = pieces[pieces[:, 0] == 0]
    assert held_out is not None and held_out.document.tolist() == sorted(set(masked[:, 1]))
    for number, *sums in zip(held_out.document, held_out.count, held_out.loss, held_out.frequencies, strict=True):
        mine = masked[masked[:, 1] == number]
        np.testing.assert_allclose(sums, [len(mine), mine[:, 2].sum(), mine[:, 3].sum()], rtol=1e-5)
    assert found['mlm_accuracy'] == pytest.approx(np.mean(hits['mlm']), abs=1e-6)
    assert found['sop_accuracy'] == pytest.approx(np.mean(hits['sop']), abs=1e-6)


@pytest.mark.parametrize('kind', parallel.PARALLEL)
def test_the_logits_of_each_row_come_back_in_order(small: Architecture, make_batch: Callable, kind: str) -> None:
    model = Model(small, (('label', 3),))
    params = initialise(model, jax.random.key(0))
    batches = [make_batch(rows=16, seed=seed) for seed in (1, 2)]
    order = np.random.default_rng(0).permutation(30)
    rows = [order[:16], np.concatenate([order[16:], [-1, -1]])]
    plan = parallel.make_plan(kind, 16, 1)
    numbered = [batch | {'row': row.astype(np.int32)} for batch, row in zip(batches, rows, strict=True)]
    measure = plan.compile(make_measure(model, frozenset({'label'})))
    found = evaluate(measure, plan.put_batch, plan.put_state(params), numbered)
    assert len(found.logits) == 30 and set(found.means) == {'label'}
    for batch, row in zip(batches, rows, strict=True):
        expected = score(model, params, 'label', encode(model, params, batch))
        for number, each in zip(row, np.asarray(expected), strict=True):
            if number >= 0:
                np.testing.assert_allclose(found.logits[number], each, atol=1e-5)
