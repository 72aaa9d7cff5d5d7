"""Losses: their formulas, their minima, and what they must not see."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data.feed import load
from research.data.settings import Data
from research.errors import UserError
from research.experiment import Experiment
from research.models.architecture import Architecture
from research.models.heads import Model, encode, initialise, score
from research.objectives.losses import (
    AT,
    LOSSES,
    REMEDIES,
    WEIGHTS,
    Losses,
    Match,
    Mlm,
    Plain,
    Soft,
    active,
    counts,
    heads,
    needs_teacher,
    terms,
    wants,
)
from research.objectives.validation import validate
from research.objectives.view import View
from research.train import make_objective
from research.wire import override

ALL = (('mlm', 64), ('pair', 2), ('label', 3), ('span', 2), ('choice', 1))
NONE = Losses(mlm=Mlm(0.0))
MATCHING = [(name, at) for name, row in LOSSES.items() if row.teacher for at in row.places]


def only(name: str, **options: Any) -> Losses:
    """The Losses in which one row alone has weight."""
    return dataclasses.replace(NONE, **{name: dataclasses.replace(getattr(NONE, name), weight=1.0, **options)})


@pytest.fixture(scope='module')
def model(small: Architecture) -> Model:
    return Model(small, ALL)


@pytest.fixture(scope='module')
def params(model: Model) -> Any:
    return initialise(model, jax.random.key(0))


@pytest.fixture(scope='module')
def other(model: Model) -> Any:
    return initialise(model, jax.random.key(1))


@pytest.fixture(scope='module')
def batch(make_batch: Callable) -> dict[str, jax.Array]:
    return jax.tree.map(jnp.asarray, make_batch(rows=8))


def matching(at: str) -> Losses:
    """The Losses in which every row that may match at `at` has weight 1."""
    rows = {name: dataclasses.replace(getattr(NONE, name), weight=1.0, at=at) for name, place in MATCHING if place == at}
    return dataclasses.replace(NONE, **rows)


def arranged(at: str, batch: Any) -> Any:
    """The batch as losses at `at` see it: for a choice two sequences are the candidates of one example."""
    if at != 'choice':
        return batch
    sequences = {name: batch[name].reshape(-1, 2, batch[name].shape[-1]) for name in ('ids', 'types', 'mask')}
    return {**batch, **sequences, 'weight': batch['weight'][::2], 'label': batch['label'][::2] % 2}


@pytest.fixture(scope='module')
def totals(model: Model) -> Callable[..., tuple[dict[str, float], dict[str, Any]]]:
    """totals(at, student parameters, teacher parameters, batch) -> the total of each loss that matches there, and its gradient."""

    def program(losses: Losses) -> Callable:
        names = list(active(losses))

        def each(params: Any, teacher: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
            found = terms(losses, View(model, params, batch), View(model, teacher, batch), batch)
            stacked = jnp.stack([found[name].total for name in names])
            return stacked, stacked

        compiled = jax.jit(jax.jacrev(each, has_aux=True))

        def named(*arguments: Any) -> tuple[dict[str, float], dict[str, Any]]:
            slopes, values = jax.device_get(compiled(*arguments))
            each = {name: jax.tree.map(lambda g, i=i: g[i], slopes) for i, name in enumerate(names)}
            return dict(zip(names, values.tolist(), strict=True)), each

        return named

    programs = {at: program(matching(at)) for at in dict.fromkeys(at for _, at in MATCHING)}
    return lambda at, *arguments: programs[at](*arguments[:-1], arranged(at, arguments[-1]))


@pytest.fixture(scope='module')
def logits(model: Model) -> Callable[[Any, Any], dict[str, np.ndarray]]:
    """logits(parameters, batch) -> what the losses should have seen, everywhere: the logits of each head, and 'hidden'."""

    @jax.jit
    def forward(params: Any, batch: Any) -> dict[str, jax.Array]:
        outputs = encode(model, params, batch)
        return {'hidden': outputs.hidden, **{name: score(model, params, name, outputs) for name, _ in ALL}}

    return lambda params, batch: {name: np.asarray(x, np.float64) for name, x in forward(params, batch).items()}


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def at_masked(x: np.ndarray, batch: Any) -> np.ndarray:
    return np.take_along_axis(x, np.asarray(batch['masked_positions'])[:, :, None], axis=1)


def nats(x: np.ndarray, labels: Any) -> np.ndarray:
    return -np.take_along_axis(log_softmax(x), np.asarray(labels)[..., None], axis=-1)[..., 0]


# ---- Supervised losses ---------------------------------------------------------------------------------------------------------


SUPERVISED = ('mlm', 'nsp', 'sop', 'label', 'regression', 'span')


def test_a_supervised_loss_is_its_cross_entropy(model: Model, logits: Callable, params: Any, batch: Any) -> None:
    batch = {**batch, 'score': jnp.linspace(0, 5, len(batch['ids']))}
    losses = dataclasses.replace(NONE, **{name: Plain(1.0) for name in SUPERVISED})
    found = jax.jit(lambda params, batch: terms(losses, View(model, params, batch), None, batch))(params, batch)
    seen = logits(params, batch)
    attended = np.where(np.asarray(batch['mask'])[:, :, None] > 0, seen['span'], -1e9)
    values = {
        'mlm': nats(at_masked(seen['mlm'], batch), batch['masked_labels']),
        'nsp': nats(seen['pair'], batch['pair']),
        'sop': nats(seen['pair'], batch['pair']),
        'label': nats(seen['label'], batch['label']),
        'regression': (seen['label'][:, 0] - np.asarray(batch['score'])) ** 2,
        'span': (nats(attended[:, :, 0], batch['start']) + nats(attended[:, :, 1], batch['end'])) / 2,
    }
    for name in SUPERVISED:
        weights = np.asarray(batch['masked_weights' if name == 'mlm' else 'weight'])
        assert 0 < weights.sum() < weights.size
        assert found[name].total == pytest.approx((values[name] * weights).sum(), rel=1e-4)
        assert found[name].count == weights.sum()


def test_a_choice_is_among_the_candidates_of_one_example(model: Model, logits: Callable, params: Any, batch: Any) -> None:
    given = arranged('choice', batch)
    losses = dataclasses.replace(NONE, choice=Plain(1.0))
    found = jax.jit(lambda params, batch: terms(losses, View(model, params, batch), None, batch))(params, given)['choice']
    values = nats(logits(params, batch)['choice'].reshape(-1, 2), given['label'])
    assert found.total == pytest.approx((values * np.asarray(given['weight'])).sum(), rel=1e-4)
    assert found.count == given['weight'].sum()


def test_hidden_states_of_candidates_are_matched_position_by_position(model: Model, params: Any, other: Any, batch: Any) -> None:
    losses = dataclasses.replace(NONE, cosine=Match(1.0))

    @jax.jit
    def match(batch: Any) -> Any:
        return terms(losses, View(model, params, batch), View(model, other, batch), batch)['cosine']

    sequences, candidates = match(batch), match(arranged('choice', batch))
    assert float(candidates.total) == pytest.approx(float(sequences.total), rel=1e-5)
    assert candidates.count == sequences.count == counts(losses, arranged('choice', batch))['cosine']


def test_every_row_is_tested_in_this_file() -> None:
    assert set(LOSSES) == {'choice'} | set(SUPERVISED) | {name for name, _ in MATCHING}
    assert {field.name for field in dataclasses.fields(Losses)} == set(LOSSES)
    assert {row.needs(getattr(Losses(), name)) for name, row in LOSSES.items()} <= {'', *REMEDIES}
    assert set(AT) <= set(WEIGHTS)


# ---- Distillation losses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('name', 'at'), MATCHING)
def test_a_distillation_loss_is_its_formula(
    totals: Callable, logits: Callable, params: Any, other: Any, batch: Any, name: str, at: str
) -> None:
    head = 'hidden' if name == 'cosine' else AT[at]
    student, teacher = logits(params, batch)[head], logits(other, batch)[head]
    weights = np.asarray(arranged(at, batch)[WEIGHTS[at]])
    if at == 'masked':
        student, teacher = at_masked(student, batch), at_masked(teacher, batch)
    elif at == 'choice':
        student, teacher = student.reshape(-1, 2), teacher.reshape(-1, 2)
    elif at == 'span':  # distributions over the positions that are there, of starts and of ends
        there = np.asarray(batch['mask'])[:, None, :] > 0
        student, teacher = (np.where(there, each.swapaxes(1, 2), -1e9) for each in (student, teacher))
    if name == 'soft' and at == 'span':
        one, two = log_softmax(student / 2), log_softmax(teacher / 2)
        values = 4 * (np.exp(two) * (two - one)).sum(-1).mean(-1)
    elif name == 'mse' and at == 'span':
        values = ((student - teacher) ** 2).sum((1, 2))
    elif name == 'soft':
        one, two = log_softmax(student / 2), log_softmax(teacher / 2)
        values = 4 * (np.exp(two) * (two - one)).sum(-1)
    elif name == 'mse':
        values = ((student - teacher) ** 2).sum(-1)
    else:
        norms = np.linalg.norm(student, axis=-1) * np.linalg.norm(teacher, axis=-1)
        values = 1 - (student * teacher).sum(-1) / norms
    found, _ = totals(at, params, other, batch)
    assert found[name] == pytest.approx(float((values * weights).sum()), rel=1e-3)
    assert found[name] > 0.01


@pytest.mark.parametrize(('name', 'at'), MATCHING)
def test_a_distillation_loss_is_minimal_where_student_equals_teacher(
    totals: Callable, params: Any, other: Any, batch: Any, name: str, at: str
) -> None:
    same, gradients = totals(at, params, params, batch)
    apart, slopes = totals(at, params, other, batch)
    assert abs(same[name]) < 1e-3 < apart[name]
    assert max(np.abs(g).max() for g in jax.tree.leaves(gradients[name])) < 1e-3
    assert max(np.abs(g).max() for g in jax.tree.leaves(slopes[name])) > 1e-2


@pytest.mark.parametrize(('name', 'at'), MATCHING)
def test_a_distillation_loss_is_blind_to_padding(totals: Callable, params: Any, other: Any, batch: Any, name: str, at: str) -> None:
    """Ids under the padding, and predictions that do not count, change neither the loss nor its gradient."""
    attended = batch['mask'] > 0
    counted = batch['masked_weights'] > 0
    assert not attended.all() and not counted.all()
    noisy = {
        **batch,
        'ids': jnp.where(attended, batch['ids'], 7),
        'types': jnp.where(attended, batch['types'], 1),
        'masked_labels': jnp.where(counted, batch['masked_labels'], 9),
        'masked_positions': jnp.where(counted, batch['masked_positions'], 0),
    }
    one, slopes = totals(at, params, other, batch)
    two, other_slopes = totals(at, params, other, noisy)
    assert one[name] == pytest.approx(two[name], rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), slopes[name], other_slopes[name])
    seen = {**batch, 'ids': jnp.where(attended, 7, batch['ids'])}
    assert abs(totals(at, params, other, seen)[0][name] - one[name]) > 1e-3


@pytest.mark.parametrize('name', [name for name, at in MATCHING if at == 'masked'])
def test_matching_at_masked_positions_has_another_gradient(
    totals: Callable, params: Any, other: Any, batch: Any, name: str
) -> None:
    everywhere, masked = (totals(at, params, other, batch)[1][name] for at in ('attended', 'masked'))
    apart = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), everywhere['encoder'], masked['encoder'])
    assert min(jax.tree.leaves(apart['feed_forward'])) > 1e-3


def test_the_gradient_of_soft_targets_keeps_its_size_at_any_temperature() -> None:
    """T² makes up for the tempered logits (Hinton et al. 2015, §2.1); without it the second would be a quarter of the first."""

    class Seen(View):
        def __init__(self, logits: jax.Array) -> None:
            self.seen = logits

        def logits(self, head: str, at: str = 'attended') -> jax.Array:
            return self.seen

    student, teacher = jax.random.normal(jax.random.key(0), (2, 5, 7))

    def slope(temperature: float) -> jax.Array:
        return jax.grad(lambda x: LOSSES['soft'].values(Soft(1.0, 'label', temperature), Seen(x), Seen(teacher), {}).sum())(student)

    np.testing.assert_allclose(slope(100.0), slope(200.0), rtol=0.1, atol=0.002)
    assert np.abs(slope(100.0)).max() > 0.1


def test_the_penalty_of_z_is_added_to_what_is_minimised_only(model: Model, params: Any, batch: Any, logits: Callable) -> None:
    """The loss that is reported stays the cross entropy; the gradient is that of the sum, weighed together."""
    found = {}
    for z in (0.0, 0.01):
        losses = Losses(mlm=Mlm(2.0, z=z))
        objective = make_objective(model, None, losses)
        totals, noisy = counts(losses, batch), {**batch, 'noise': None}
        found[z] = objective(params, {}, totals, noisy)
    (plain, one), (total, two) = found.values()
    assert set(one) == {'mlm'} and set(two) == {'mlm', 'mlm_z'}
    assert float(one['mlm'].total) == float(two['mlm'].total) and float(two['mlm_z'].count) == float(two['mlm'].count)
    at = at_masked(logits(params, batch)['mlm'], batch)
    squared = np.log(np.exp(at).sum(-1)) ** 2
    mean = float((squared * batch['masked_weights']).sum() / batch['masked_weights'].sum())
    assert float(two['mlm_z'].mean()) == pytest.approx(mean, rel=1e-4)
    assert float(total) == pytest.approx(float(plain) + 2.0 * 0.01 * mean, rel=1e-5)


# ---- What is active --------------------------------------------------------------------------------------------------------------


def test_a_weight_of_zero_leaves_a_loss_out(batch: Any) -> None:
    losses = Losses(mlm=Mlm(1.0), label=Plain(0.0), soft=Soft(0.5, at='label'))
    assert list(active(losses)) == ['mlm', 'soft']
    assert heads(losses) == ('mlm', 'label')
    assert needs_teacher(losses) and not needs_teacher(Losses())
    counted = counts(losses, batch)
    assert {name: float(n) for name, n in counted.items()} == {
        'mlm': float(batch['masked_weights'].sum()),
        'soft': float(batch['weight'].sum()),
    }


def test_two_losses_that_read_one_head_compute_it_once(
    model: Model, params: Any, other: Any, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []

    def counted(model: Model, params: Any, head: str, *rest: Any) -> jax.Array:
        computed.append(head)
        return score(model, params, head, *rest)

    monkeypatch.setattr('research.objectives.view.score', counted)
    losses = dataclasses.replace(NONE, label=Plain(1.0), soft=Soft(1.0, at='label'), mse=Match(1.0, at='label'))
    terms(losses, View(model, params, batch), View(model, other, batch), batch)
    assert computed == ['label', 'label']  # the student's and the teacher's


@pytest.mark.parametrize('want', [(), ('layers',), ('attention',), ('relations',)])
def test_what_no_loss_wants_of_the_forward_pass_is_not_in_the_program(
    model: Model, params: Any, batch: Any, monkeypatch: pytest.MonkeyPatch, want: tuple[str, ...]
) -> None:
    def values(x: Plain, student: View, teacher: View | None, batch: Any) -> jax.Array:
        for name in want:
            found = getattr(student, name)()
            assert (found[0] if isinstance(found, tuple) else found).shape[0] >= 2
        return student.logits('mlm', 'masked')[:, :, 0]

    row = LOSSES['mlm']._replace(values=values, wants=lambda x: frozenset(want))
    monkeypatch.setitem(LOSSES, 'mlm', row)
    assert wants(Losses()) == frozenset(want)

    def outputs(params: Any) -> Any:
        view = View(model, params, batch, want=wants(Losses()))
        terms(Losses(), view, None, batch)
        return view.outputs

    kept = jax.eval_shape(outputs, params)
    assert {name for name in ('layers', 'attention', 'relations') if getattr(kept, name) is not None} == set(want)


@pytest.mark.parametrize(
    ('losses', 'offered', 'teacher', 'changes', 'message'),
    [
        (NONE, {'masked'}, '', {}, 'every loss has weight 0: give one, such as --config.losses.mlm.weight=1'),
        (Losses(mlm=Mlm(-1.0)), {'masked'}, '', {}, 'losses.mlm.weight=-1.0 must not be negative'),
        (Losses(mlm=Mlm(1.0, z=-1e-4)), {'masked'}, '', {}, 'losses.mlm.z=-0.0001 must not be negative'),
        (only('soft', at='maskd'), {'masked'}, 'run', {}, "no losses.soft.at named 'maskd'; did you mean 'masked'?"),
        (only('cosine', at='label'), {'label'}, 'run', {}, "no losses.cosine.at named 'label' (there are: attended, masked)"),
        (only('soft', temperature=0.0), {'masked'}, 'run', {}, 'losses.soft.temperature=0.0 must be above 0'),
        (
            only('soft'),
            {'masked'},
            '',
            {},
            "loss 'soft' needs a teacher: give --config.teacher=RUN, or --config.losses.soft.weight=0",
        ),
        (only('nsp'), {'masked'}, '', {}, "loss 'nsp' cannot be computed from these data: it needs --config.data.pairs=nsp"),
        (only('sop'), {'masked', 'nsp'}, '', {}, "loss 'sop' cannot be computed from these data: it needs --config.data.pairs=sop"),
        (only('label'), {'masked'}, '', {}, "loss 'label' cannot be computed from these data: it needs a task with labels"),
        (only('span'), {'label'}, '', {}, "loss 'span' cannot be computed from these data: it needs a task with answers"),
        (only('mlm'), {'label'}, '', {}, "loss 'mlm' cannot be computed from these data: it needs masks"),
        (only('mse', at='masked'), {'label'}, 'run', {}, "loss 'mse' cannot be computed from these data: it needs masks"),
        (only('sop'), {'sop'}, '', {'pooler': False}, "loss 'sop' reads the pooled position: give --config.model.pooler=true"),
    ],
)
def test_losses_that_cannot_be_computed_are_refused(
    losses: Losses, offered: set[str], teacher: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        validate(losses, dataclasses.replace(Architecture(), **changes), frozenset(offered), teacher)


def test_losses_that_can_be_computed_pass() -> None:
    validate(Losses(soft=Soft(1.0), cosine=Match(1.0)), Architecture(), frozenset({'masked', 'none'}), 'run')


def test_packed_sequences_have_the_loss_of_their_runs_apart(small: Architecture, text: dict[str, Any]) -> None:
    """The very batch that a run is fed, and the same pieces and masks unpacked."""
    x = override(Experiment(data=Data(length=64, pack=True, fill='sentences')), text)
    packed = load(x.data, x.machine, batch=32, seed=0, vocabulary=200).train[0]
    model = Model(dataclasses.replace(small, vocabulary=200, positions=64), (('mlm', 200),))
    params = initialise(model, jax.random.key(0))

    runs = [(row, run) for row in range(32) for run in range(1, packed['segments'][row].max() + 1)]
    apart = {name: np.zeros((len(runs), *array.shape[1:]), array.dtype) for name, array in packed.items()}
    for number, (row, run) in enumerate(runs):
        inside = np.flatnonzero(packed['segments'][row] == run)
        for name in ('ids', 'mask'):
            apart[name][number, : len(inside)] = packed[name][row, inside]
        slots = np.flatnonzero(np.isin(packed['masked_positions'][row], inside) & (packed['masked_weights'][row] > 0))
        apart['masked_positions'][number, : len(slots)] = packed['masked_positions'][row, slots] - inside[0]
        for name in ('masked_labels', 'masked_weights'):
            apart[name][number, : len(slots)] = packed[name][row, slots]
    del apart['segments'], apart['positions']
    apart['weight'][:] = 1

    def loss(batch: dict[str, Any]) -> Any:
        return terms(only('mlm'), View(model, params, batch), None, batch)['mlm']

    one, other = loss(packed), loss(apart)
    assert len(runs) > 32 and one.count == other.count > 32
    np.testing.assert_allclose(one.total, other.total, rtol=1e-5)
    blind = loss({name: packed[name] for name in packed if name != 'segments'})
    assert abs(float(blind.total - one.total)) > 1e-3
