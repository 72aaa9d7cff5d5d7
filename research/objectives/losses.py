"""Losses: a row of LOSSES computes one number an item, and names the items that count.

A loss never divides. `terms` sums its values over the items of a batch and keeps the count, so that devices and micro-batches add
up to the same update however the masks fall. Where shapes say an example [B], packed examples are [B, P]: P places in each row.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from research.models.architecture import Architecture
from research.models.heads import HEADS, Heads, Sizes
from research.objectives.supervised import Answer, answer, choice, cross_entropy, label, regression, span
from research.objectives.view import Batch, View
from research.terms import Term, weigh


@dataclasses.dataclass(frozen=True)
class Plain:
    """The options of a loss that has none but its weight."""

    weight: float = 0.0  # 0 leaves the loss, and everything that only it needs, out of the compiled program


@dataclasses.dataclass(frozen=True)
class Mlm:
    """The options of masked language modelling."""

    weight: float = 0.0
    z: float = 0.0  # of log² Z, beside the cross entropy's 1 (Chowdhery et al. 2022, §5: 1e-4): logits stay small; 0 leaves it out


@dataclasses.dataclass(frozen=True)
class Match:
    """The options of a loss that compares the student with the teacher."""

    weight: float = 0.0
    at: str = 'attended'  # a row of AT: which positions are matched


@dataclasses.dataclass(frozen=True)
class Soft:
    """The options of soft targets (Hinton et al. 2015)."""

    weight: float = 0.0
    at: str = 'attended'
    temperature: float = 2.0


@dataclasses.dataclass(frozen=True)
class Losses:
    """The weight and the options of each row of LOSSES. The defaults are masked language modelling alone."""

    mlm: Mlm = Mlm(1.0)
    nsp: Plain = Plain()
    sop: Plain = Plain()
    label: Plain = Plain()
    regression: Plain = Plain()
    choice: Plain = Plain()
    span: Plain = Plain()
    answer: Answer = Answer()
    soft: Soft = Soft()
    cosine: Match = Match()
    mse: Match = Match()


# Kind of a supervised task -> the heads whose logits answer it.
ANSWERED_BY = {'label': ('label',), 'score': ('label',), 'choice': ('choice',), 'span': ('span', 'answer')}
# The first of them: the one that is distilled.
TASK_HEADS = {kind: heads[0] for kind, heads in ANSWERED_BY.items()}
# Where the student is compared with the teacher -> the head whose logits are compared there. 'attended' is DistilBERT's default
# (its authors' code calls 'masked' restrict_ce_to_mask); the kinds of tasks are for distilling a fine-tuned model.
AT = {'attended': 'mlm', 'masked': 'mlm', **TASK_HEADS}
# Which items of a batch count -> the array of their weights.
WEIGHTS = {'attended': 'mask', 'masked': 'masked_weights', 'examples': 'weight', **dict.fromkeys(TASK_HEADS, 'weight')}


def mlm(x: Mlm, student: View, teacher: View | None, batch: Batch) -> jax.Array:
    """Masked language modelling, nats for each masked position [B, P] (Devlin et al. 2019, §3.1)."""
    return cross_entropy(student.logits('mlm', 'masked'), batch['masked_labels'])


def log_squared(x: Mlm, student: View) -> jax.Array:
    """The squared logarithm of the softmax's denominator Z, for each masked position [B, P] (Chowdhery et al. 2022, §5)."""
    return jnp.square(jax.nn.logsumexp(student.logits('mlm', 'masked'), -1))


def pair(x: Plain, student: View, teacher: View | None, batch: Batch) -> jax.Array:
    """The relation of two segments, nats an example [B]: NSP (Devlin et al. 2019, §3.1) or SOP (Lan et al. 2020, §3.1)."""
    return cross_entropy(student.logits('pair'), batch['pair'])


def soft(x: Soft, student: View, teacher: View | None, batch: Batch) -> jax.Array:
    """T² · KL(teacher ‖ student) of the tempered distributions, nats an item (Sanh et al. 2019, §2; Hinton et al. 2015, §2).

    Of a span, whose distributions are over positions, it is the mean of its start's and its end's (Sanh et al. 2019, §3).
    """
    axis = -2 if x.at == 'span' else -1
    log_student = jax.nn.log_softmax(student.logits(AT[x.at], x.at) / x.temperature, axis)
    log_teacher = jax.nn.log_softmax(_of(teacher).logits(AT[x.at], x.at) / x.temperature, axis)
    divergence = x.temperature**2 * (jnp.exp(log_teacher) * (log_teacher - log_student)).sum(axis)
    return divergence.mean(-1) if x.at == 'span' else divergence


def mse(x: Match, student: View, teacher: View | None, batch: Batch) -> jax.Array:
    """The squared distance of the logits, summed over classes, an item (the `alpha_mse` of DistilBERT's authors).

    Of a span it is summed over positions; of a score it is that of the two numbers.
    """
    found = jnp.square(student.logits(AT[x.at], x.at) - _of(teacher).logits(AT[x.at], x.at)).sum(-1)
    return found.sum(-1) if x.at == 'span' else found


def cosine(x: Match, student: View, teacher: View | None, batch: Batch) -> jax.Array:
    """1 − cosine of the last hidden states, a position (Sanh et al. 2019, §2)."""
    return 1 - optax.cosine_similarity(student.hidden(x.at), _of(teacher).hidden(x.at), epsilon=1e-6)


def _of(teacher: View | None) -> View:
    assert teacher is not None, 'validate asks for a teacher'
    return teacher


def _no_wants(x: Any) -> frozenset[str]:
    return frozenset()


def _always_fits(x: Any, student: Architecture, teacher: Architecture) -> str:
    return ''


def _same_width(x: Any, student: Architecture, teacher: Architecture) -> str:
    if student.width == teacher.width:
        return ''
    return f"it compares hidden states, but the teacher's are {teacher.width} wide and the student's {student.width}"


class Penalty(NamedTuple):
    """What training adds to a loss, over the same items. The reported loss does not include it."""

    name: str  # its Term is LOSS_name
    weight: Callable[[Any], float]  # of the loss's options -> its weight beside the loss's 1; 0 leaves it out
    values: Callable[[Any, View], jax.Array]  # (options, student) -> one number an item


class Loss(NamedTuple):
    """A row of LOSSES. Its functions take the loss's options: the field of its name in Losses."""

    values: Callable[[Any, View, View | None, Batch], jax.Array]  # (options, student, teacher, batch) -> one number an item
    over: Callable[[Any], str]  # which items count: a row of WEIGHTS
    heads: Callable[[Any], tuple[str, ...]]  # the student's heads that it reads
    needs: Callable[[Any], str]  # what the data must offer: a row of REMEDIES, or '' for any text
    teacher: bool = False  # whether it reads the teacher
    places: tuple[str, ...] = ()  # the rows of AT that `at` may name
    wants: Callable[[Any], frozenset[str]] = _no_wants  # rows of WANTS: what it reads of a forward pass besides hidden states
    # (options, student, teacher) -> why they do not fit, or ''
    fits: Callable[[Any, Architecture, Architecture], str] = _always_fits
    teacher_heads: Callable[[Any], tuple[str, ...]] | None = None  # of the teacher; None: the same as the student's
    penalty: Penalty | None = None


def _find_head(x: Any) -> tuple[str, ...]:
    """The head whose logits are compared; none at a place that there is not, which `validate` refuses by its name."""
    return (AT[x.at],) if x.at in AT else ()


def _matched(x: Any) -> str:
    return '' if x.at == 'attended' else x.at


LOSSES: dict[str, Loss] = {
    'mlm': Loss(mlm, lambda x: 'masked', lambda x: ('mlm',), lambda x: 'masked', penalty=Penalty('z', lambda x: x.z, log_squared)),
    'nsp': Loss(pair, lambda x: 'examples', lambda x: ('pair',), lambda x: 'nsp'),
    'sop': Loss(pair, lambda x: 'examples', lambda x: ('pair',), lambda x: 'sop'),
    'label': Loss(label, lambda x: 'examples', lambda x: ('label',), lambda x: 'label'),
    'regression': Loss(regression, lambda x: 'examples', lambda x: ('label',), lambda x: 'score'),
    'choice': Loss(choice, lambda x: 'examples', lambda x: ('choice',), lambda x: 'choice'),
    'span': Loss(span, lambda x: 'examples', lambda x: ('span',), lambda x: 'span'),
    'answer': Loss(answer, lambda x: 'examples', lambda x: ('answer',), lambda x: 'span'),
    'soft': Loss(soft, lambda x: x.at, _find_head, _matched, True, ('attended', 'masked', 'label', 'choice', 'span')),
    'cosine': Loss(cosine, lambda x: x.at, lambda x: (), _matched, True, ('attended', 'masked'), fits=_same_width),
    'mse': Loss(mse, lambda x: x.at, _find_head, _matched, True, tuple(AT)),
}

# What a loss needs of the data -> how to get it.
REMEDIES = {
    'masked': "masks, which come with data.task=''",
    'nsp': '--config.data.pairs=nsp',
    'sop': '--config.data.pairs=sop',
    'label': 'a task with labels: --config.data.task=NAME',
    'score': 'a task with scores: --config.data.task=stsb, or custom with --config.data.score=COLUMN',
    'choice': 'a task with candidates: --config.data.task=race',
    'span': 'a task with answers: --config.data.task=squad',
}


def active(losses: Losses) -> dict[str, Any]:
    """The options of the losses whose weight is not zero, by name."""
    return {name: getattr(losses, name) for name in LOSSES if getattr(losses, name).weight}


def heads(losses: Losses) -> tuple[str, ...]:
    """The student's heads that the active losses read, in the order of LOSSES."""
    found = [head for name, options in active(losses).items() for head in LOSSES[name].heads(options)]
    return tuple(dict.fromkeys(found))


def size_heads(losses: Losses, sizes: Sizes) -> Heads:
    """The heads that the active losses read, with their numbers of classes. Raises UserError if the labels are not known."""
    return tuple((name, HEADS[name].classes(sizes)) for name in heads(losses))


def wants(losses: Losses) -> frozenset[str]:
    """Rows of WANTS: what the active losses together read of a forward pass besides the last hidden states."""
    return frozenset(want for name, options in active(losses).items() for want in LOSSES[name].wants(options))


def needs_teacher(losses: Losses) -> bool:
    """Whether an active loss reads the teacher."""
    return any(LOSSES[name].teacher for name in active(losses))


def read_teacher(losses: Losses) -> dict[str, tuple[str, ...]]:
    """Each active loss that reads the teacher -> the teacher's heads that it reads."""
    rows = {name: (LOSSES[name], options) for name, options in active(losses).items() if LOSSES[name].teacher}
    return {name: (row.teacher_heads or row.heads)(options) for name, (row, options) in rows.items()}


def list_penalties(losses: Losses) -> dict[str, tuple[str, Penalty]]:
    """The name of each penalty that has weight -> (its loss, itself)."""
    rows = {name: (LOSSES[name].penalty, options) for name, options in active(losses).items()}
    return {f'{name}_{row.name}': (name, row) for name, (row, options) in rows.items() if row and row.weight(options)}


def weights(losses: Losses) -> dict[str, float]:
    """The weight in the objective of each active loss, and of each penalty."""
    found = {name: options.weight for name, options in active(losses).items()}
    return found | {name: found[of] * row.weight(getattr(losses, of)) for name, (of, row) in list_penalties(losses).items()}


def counts(losses: Losses, batch: Batch) -> dict[str, jax.Array]:
    """How many items of `batch` each active loss counts, and each penalty: known before any parameter is."""
    over = {name: LOSSES[name].over(options) for name, options in active(losses).items()}
    found = {name: batch[WEIGHTS[each]].astype(jnp.float32).sum() for name, each in over.items()}
    return found | {name: found[of] for name, (of, _) in list_penalties(losses).items()}


def terms(losses: Losses, student: View, teacher: View | None, batch: Batch) -> dict[str, Term]:
    """The Term of each active loss on one batch, and of each penalty."""
    found = {}

    def add(name: str, of: str, values: jax.Array) -> None:
        over = batch[WEIGHTS[LOSSES[of].over(getattr(losses, of))]]
        found[name] = weigh(values, over.reshape(values.shape))  # [B, C, T] of choices is [B·C, T]

    for name, options in active(losses).items():
        add(name, name, LOSSES[name].values(options, student, teacher, batch))
    for name, (of, row) in list_penalties(losses).items():
        add(name, of, row.values(getattr(losses, of), student))
    return found
