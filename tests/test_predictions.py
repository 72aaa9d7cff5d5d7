"""Predicted steps: their memory beside XLA's own count, and how time, memory and communication follow from the work."""

import dataclasses
from typing import Any

import jax
import pytest

from research import chips, costs, predictions, train
from research.activations import count_kept, describe_batch, size_teacher_heads
from research.data.masking import Masking
from research.data.settings import Data
from research.experiment import Experiment, Run
from research.models.architecture import Architecture
from research.models.heads import Model, Sizes
from research.objectives.losses import Losses, Match, Mlm, Plain, Soft, size_heads
from research.optim import Optimizer
from research.predictions import Work

PRETRAINING = Losses(mlm=Mlm(1.0), nsp=Plain(1.0))
DISTIL = Losses(mlm=Mlm(1.0), soft=Soft(1.0), cosine=Match(1.0))
CHIP = chips.Chip(1e12, 5e11, 8e9, 1e11, 1e10, 8, 1e9, 1.0)


def bert(**changes: Any) -> Architecture:
    small = {'vocabulary': 4096, 'layers': 2, 'width': 128, 'heads': 2, 'inner': 512, 'embedding': 128, 'positions': 128}
    return Architecture(**{**small, **changes})


def work(student: Architecture, losses: Losses = PRETRAINING, batch: int = 64, **changes: Any) -> Work:
    given = {'teacher': None, 'optimizer': Optimizer(), 'length': 128, 'masked': 20, **changes}
    return Work(student=student, losses=losses, batch=batch, **given)


def compile_step(work: Work) -> Any:
    """The compiled step: nothing is run."""
    heads = size_heads(work.losses, Sizes(work.student, lambda: work.classes))
    student, teacher, frozen = Model(work.student, heads), None, {}
    if work.teacher is not None:
        teacher = Model(work.teacher, size_teacher_heads(work.losses, work.teacher, work.classes))
        frozen = {'teacher': jax.eval_shape(lambda: train.initial_state(teacher, Optimizer(), 0)).params}
    state = jax.eval_shape(lambda: train.initial_state(student, work.optimizer, 0))
    step = train.make_step(student, teacher, work.losses, work.optimizer, 10, work.accumulate)
    whole = jax.jit(lambda state, frozen, batch: step(state, frozen, batch, None), donate_argnums=(0,))
    return whole.lower(state, frozen, describe_batch(work.batch, work.length, work.masked)).compile()


@pytest.mark.slow
@pytest.mark.parametrize(
    'work',
    [
        pytest.param(work(bert(layers=4)), id='BERT'),
        pytest.param(work(bert(dropout=0.0, attention_dropout=0.0, sharing='all', layers=3)), id='shared layers'),
        pytest.param(work(bert(width=512, inner=2048, heads=8, embedding=512), batch=8, length=64, masked=10), id='mostly state'),
        pytest.param(work(bert(pooler=False, types=0), DISTIL, teacher=bert(layers=4)), id='distillation'),
        pytest.param(work(bert(unroll=1)), id='a loop over the layers'),
        pytest.param(work(bert(heads=8, activation='gelu')), id='many heads'),
        pytest.param(work(bert(), accumulate=4), id='accumulation'),
        pytest.param(work(bert(dtype='bfloat16')), id='bfloat16, which a CPU computes in float32'),
    ],
)
def test_predicted_memory_is_what_xla_needs(work: Work) -> None:
    found = compile_step(work).memory_analysis()
    needed = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes + found.temp_size_in_bytes
    predicted = predictions.predict_memory(predictions.compile_for_cpu(work), 1)
    assert sum(predicted.values()) == pytest.approx(needed, rel=0.15)


def test_predicted_memory_of_a_small_step_is_what_xla_needs() -> None:
    test_predicted_memory_is_what_xla_needs(work(bert(layers=1, dropout=0.0, attention_dropout=0.0, vocabulary=512), batch=32))


def test_no_device_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, 'devices', lambda *_: pytest.fail('opened'))
    count_kept.cache_clear()
    step = predictions.predict_step(bert(), None, PRETRAINING, 8, 128, 20, Optimizer(), 'bfloat16', 'h100', 8)
    assert step.seconds > 0


def test_what_is_kept_grows_with_rows_length_and_layers_as_the_arrays_do() -> None:
    row, fixed = count_kept(bert(dropout=0.0, attention_dropout=0.0), None, PRETRAINING, 128, 20)
    assert fixed.inside == pytest.approx(0, abs=1e-3 * row.inside)
    deeper, _ = count_kept(bert(layers=6, dropout=0.0, attention_dropout=0.0), None, PRETRAINING, 128, 20)
    assert deeper.inside == 3 * row.inside and deeper.outside == row.outside
    half, _ = count_kept(bert(dropout=0.0, attention_dropout=0.0), None, PRETRAINING, 64, 20)
    quadratic = 2 * 2 * 2 * 4 * 128**2  # exponentials and probabilities [N, T, T] of two layers
    assert row.inside - quadratic == pytest.approx(2 * (half.inside - quadratic / 4), rel=0.01)
    # What the layers hand on, the three results of their products with the input, and so on: more than a few, fewer than twenty.
    assert 8 < (row.inside - quadratic) / (2 * 4 * 128 * 128) < 30


def test_what_is_cheap_to_compute_anew_is_not_kept() -> None:
    inside = {}
    for kind in ('relu', 'gelu_tanh'):
        inside[kind] = count_kept(bert(activation=kind, dropout=0.0, attention_dropout=0.0), None, PRETRAINING, 128, 20)[0].inside
    inner = 2 * 4 * 128 * 512  # one array [T, F] of each of the two layers
    # ReLU: its result and where it is not zero, a byte each. GELU: its argument and its result, and not jax's six arrays.
    assert 0.5 * inner < inside['gelu_tanh'] - inside['relu'] < 1 * inner
    loop, _ = count_kept(bert(unroll=1, dropout=0.0, attention_dropout=0.0), None, PRETRAINING, 128, 20)
    assert loop.inside > inside['gelu_tanh']  # a loop stores every array


def test_recomputed_layers_are_not_kept() -> None:
    student = bert(layers=6, unroll=1)
    plain = predictions.predict_memory(work(student), 1)
    less = predictions.predict_memory(work(dataclasses.replace(student, remat='block')), 1)
    assert less['state'] == plain['state'] and less['activations'] < 0.5 * plain['activations']


def test_the_time_is_that_of_products_and_passes_or_of_communication() -> None:
    one = predictions.predict(work(bert()), CHIP, 1)
    flops = costs.count_step_flops(bert(), None, PRETRAINING, 64, 128, 20)
    assert one.parts['products'] == flops / 5e11 and one.parts['communication'] == one.sent == 0
    assert one.seconds == one.parts['products'] + one.parts['memory'] and one.bound == 'products'
    eight = predictions.predict(work(bert(), batch=512), CHIP, 8)
    assert eight.parts['products'] == pytest.approx(one.parts['products']) and eight.bytes == pytest.approx(one.bytes, rel=1e-3)
    parameters = predictions.state_bytes(work(bert()))['parameters']
    assert eight.sent == pytest.approx(2 * 7 / 8 * parameters, rel=1e-6)
    assert eight.parts['communication'] == pytest.approx(eight.sent / CHIP.link, rel=1e-6)
    slow = predictions.predict(work(bert(), batch=512), CHIP._replace(link=1e7), 8)
    assert slow.bound == 'communication' and slow.seconds == slow.parts['communication'] > eight.seconds
    half = predictions.predict(work(bert(dtype='bfloat16')), CHIP, 1)
    assert half.parts['products'] == one.parts['products'] / 2 and half.parts['memory'] < 0.8 * one.parts['memory']


def test_devices_beyond_a_server_exchange_over_the_network() -> None:
    size = 8e8
    near = predictions.time_exchange(2 * size * 7 / 8, CHIP, 8)
    assert near == pytest.approx(2 * size * 7 / 8 / CHIP.link)
    # Each of 16 devices in two servers sends its eighth of the sum to its partner and back.
    far = predictions.time_exchange(2 * size * 15 / 16, CHIP, 16)
    assert far == pytest.approx(near + 2 * size / 8 / 2 / CHIP.network)


def test_fsdp_divides_the_state_and_sends_half_as_much_again() -> None:
    whole, divided = (work(bert(), batch=512, parallel=parallel) for parallel in ('jit', 'fsdp'))
    one, eight = predictions.predict_memory(whole, 8), predictions.predict_memory(divided, 8)
    # Short biases and LayerNorms are whole on each device.
    assert one['state'] / 8 < eight['state'] < 1.1 * one['state'] / 8 and eight['activations'] == one['activations']
    assert predictions.count_sent(divided, 8) == 1.5 * predictions.count_sent(whole, 8)


def test_the_largest_batch_fits_and_a_larger_one_does_not() -> None:
    asked = work(bert(), batch=4096)
    found = predictions.find_largest_batch(asked, CHIP.memory, 2)
    assert 0 < found < 4096 and found % 2 == 0
    for batch, fits in ((found, True), (found + 2, False)):
        step = predictions.predict(dataclasses.replace(asked, batch=batch), CHIP, 2)
        assert (step.bytes <= predictions.ROOM * CHIP.memory) == fits
    assert predictions.find_largest_batch(asked, 1e6, 1) == 0
    parts = predictions.find_accumulation(asked, CHIP.memory, 2)
    assert parts > 1 and 2048 % parts == 0
    assert predictions.find_accumulation(asked, 1e6, 2) == 0


def test_two_lengths_are_a_mean_step_with_the_memory_of_the_longer() -> None:
    data = Data(length=64, first_length=16, first_share=0.75, masking=Masking())
    x = Experiment(model=bert(), data=data, run=Run(batch=16))
    planned = predictions.plan_work(x, (('mlm', 4096),), None)
    assert [(share, each.length) for share, each in planned] == [(0.75, 16), (0.25, 64)]
    short, long = (predictions.predict(each, CHIP, 1) for _, each in planned)
    mean = predictions.predict_run(planned, CHIP, 1)
    assert mean.seconds == pytest.approx(0.75 * short.seconds + 0.25 * long.seconds) and mean.bytes == long.bytes


def test_a_choice_counts_its_candidates() -> None:
    losses = Losses(mlm=Mlm(), choice=Plain(1.0))
    step = {n: predictions.predict(work(bert(), losses, masked=0, classes=n), CHIP, 1) for n in (2, 4)}
    assert step[4].parts['products'] == 2 * step[2].parts['products']
    assert step[4].memory['activations'] > 1.9 * step[2].memory['activations']
    assert predictions.count_classes(Experiment(losses=losses, data=Data(task='race')), ()) == 4
    assert predictions.count_classes(Experiment(losses=losses, data=Data(task='custom')), ()) == 2  # not there
    assert predictions.count_classes(Experiment(), (('label', 3),)) == 3
