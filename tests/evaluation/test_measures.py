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
    found, logits = evaluate(plan.compile(make_measure(model, OFFERED)), plan.put_batch, plan.put_state(params), batches)
    assert logits == []

    hits: dict[str, list[Any]] = {'mlm': [], 'sop': []}
    for batch in batches:
        outputs = encode(model, params, batch)
        there = score(model, params, 'mlm', outputs, batch['masked_positions']).argmax(-1) == batch['masked_labels']
        hits['mlm'] += np.asarray(there)[batch['masked_weights'] > 0].tolist()
        hits['sop'] += np.asarray(score(model, params, 'pair', outputs).argmax(-1) == batch['pair'])[batch['weight'] > 0].tolist()
    assert set(found) == {'mlm', 'mlm_accuracy', 'sop', 'sop_accuracy'}
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


def test_predictions_of_the_answer_head_are_read_from_what_it_tries(small: Architecture, make_batch: Callable) -> None:
    """Its loss is given the right starts; its logits are not: (K starts) · (M ends), and 'no answer' in front."""
    model = Model(small, (('answer', 1),))
    params = jax.eval_shape(lambda: initialise(model, jax.random.key(0)))
    batch = {**make_batch(rows=4), 'row': np.arange(4)}
    measure = make_measure(model, frozenset({'span'}), tried=(3, 2))
    means, rows = jax.eval_shape(lambda params, batch: measure(params, {}, batch, None), params, batch)
    assert set(means) == {'answer'} and rows['logits'].shape == (4, 1 + 3 * 2, 4)
