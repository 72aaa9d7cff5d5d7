"""The arrays that a training step keeps for its backward pass, counted in its traced program: no device is opened.

Tracing follows the code: another activation function, another kind of attention or a policy of rematerialisation needs no formula
here. What XLA computes anew in the backward pass, because it costs no more than reading it would, is left out (CHEAP).
"""

import dataclasses
import functools
import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.extend.core

from research.models.architecture import Architecture
from research.models.heads import HEADS, Heads, Model, Sizes, initialise
from research.models.noise import make_noise
from research.objectives.losses import Losses, counts, needs_teacher, read_teacher, size_heads
from research.objectives.losses import heads as heads_of
from research.train import make_objective

# The primitives that XLA repeats in every loop that reads their result, rather than store it.
CHEAP = frozenset(
    (
        *('add', 'add_any', 'sub', 'mul', 'neg', 'abs', 'sign', 'max', 'min', 'square', 'integer_pow', 'and', 'or', 'not', 'xor'),
        *('eq', 'ne', 'lt', 'le', 'gt', 'ge', 'select_n', 'convert_element_type', 'bitcast_convert_type', 'copy', 'iota', 'pad'),
        *('broadcast_in_dim', 'reshape', 'squeeze', 'expand_dims', 'transpose', 'slice', 'rev', 'concatenate', 'stop_gradient'),
        *('shift_left', 'shift_right_logical'),
    )
)
LITERAL = 'literal'


class Kept(NamedTuple):
    """Bytes of the arrays that are kept outside of the layers and, over all layers, inside; of each, the largest single array."""

    outside: float
    inside: float
    largest_outside: float
    largest_inside: float


@functools.lru_cache(maxsize=256)
def count_kept(
    student: Architecture, teacher: Architecture | None, losses: Losses, length: int, masked: int, classes: int = 2
) -> tuple[Kept, Kept]:
    """(what each row of a batch adds to the Kept of a step, what does not depend on the number of rows).

    length: T. masked: the number of positions of a row that can be masked. classes: labels, or the candidates of a choice, each of
    which is a sequence of its own.
    """
    two, four = (trace_kept(student, teacher, losses, rows, length, masked, classes) for rows in (2, 4))
    row = Kept(*((b - a) / 2 for a, b in zip(two, four, strict=True)))
    return row, Kept(*(a - 2 * b for a, b in zip(two, row, strict=True)))


def trace_kept(
    student: Architecture, teacher: Architecture | None, losses: Losses, rows: int, length: int, masked: int, classes: int
) -> Kept:
    """The Kept of one forward and backward pass over `rows` rows."""
    student = dataclasses.replace(student, attention='plain')  # a kernel of another device cannot be traced here
    model = Model(student, size_heads(losses, Sizes(student, lambda: classes, teacher)))
    master, frozen = None, {}
    if teacher is not None and needs_teacher(losses):
        teacher = dataclasses.replace(teacher, attention='plain')
        master = Model(teacher, size_teacher_heads(losses, teacher, classes))
        frozen = {'teacher': jax.eval_shape(lambda: initialise(master, jax.random.key(0)))}
    objective = make_objective(model, master, losses)
    params = jax.eval_shape(lambda: initialise(model, jax.random.key(0)))

    def residuals(params: Any, frozen: Any, batch: Any, key: Any) -> Any:
        totals, batch = counts(losses, batch), {**batch, 'noise': make_noise(key, jax.numpy.arange(rows))}
        return jax.vjp(lambda params: objective(params, frozen, totals, batch), params, has_aux=True)[1]

    of_candidates = any(HEADS[head].of_candidates for head in heads_of(losses))
    batch = describe_batch(rows, length, masked, classes if of_candidates else 0)
    traced = jax.make_jaxpr(residuals)(params, frozen, batch, jax.eval_shape(lambda: jax.random.key(0)))
    return _count(traced.jaxpr, None, None)


def size_teacher_heads(losses: Losses, teacher: Architecture, classes: int) -> Heads:
    """The teacher's heads that the losses read, with their numbers of classes."""
    asked = dict.fromkeys(head for heads in read_teacher(losses).values() for head in heads)
    return tuple((head, HEADS[head].classes(Sizes(teacher, lambda: classes, teacher))) for head in asked)


def describe_batch(rows: int, length: int, masked: int, candidates: int = 0) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of every array that some loss reads of a batch."""
    tokens = (rows, candidates, length) if candidates else (rows, length)
    shapes = {
        **dict.fromkeys(('ids', 'types', 'mask'), (tokens, 'int32')),
        **dict.fromkeys(('masked_positions', 'masked_labels'), ((rows, masked), 'int32')),
        **dict.fromkeys(('label', 'pair', 'start', 'end'), ((rows,), 'int32')),
        **dict.fromkeys(('weight', 'score'), ((rows,), 'float32')),
        'masked_weights': ((rows, masked), 'float32'),
    }
    return {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in shapes.items()}


# ---- Counting -------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Program:
    """The equations of a jaxpr with those of inner programs in their place; a value is the number of its equation and its place."""

    made: Mapping[Any, tuple[Any, tuple[Any, ...]]]  # value -> (its equation, the values that this reads)
    results: tuple[Any, ...]
    operands: frozenset[Any]  # values that a matrix product reads: they are stored


def _flatten(jaxpr: Any) -> Program:
    made: dict[Any, tuple[Any, tuple[Any, ...]]] = {}
    number = iter(range(10**9))

    def walk(jaxpr: Any, names: dict[Any, Any]) -> list[Any]:
        def name(variable: Any) -> Any:
            return LITERAL if isinstance(variable, jax.extend.core.Literal) else names[variable]

        for equation in jaxpr.eqns:
            reads = tuple(name(variable) for variable in equation.invars)
            inner = [equation.params[key] for key in ('jaxpr', 'call_jaxpr', 'fun_jaxpr') if key in equation.params]
            if inner and equation.primitive.name not in ('scan', 'while', 'cond', 'pallas_call'):
                body = _open(inner[0])
                found = walk(body, {**dict.fromkeys(body.constvars, LITERAL), **dict(zip(body.invars, reads, strict=True))})
            else:
                found = [(next(number), place) for place in range(len(equation.outvars))]
                made.update(dict.fromkeys(found, (equation, reads)))
            names.update(zip(equation.outvars, found, strict=True))
        return [name(variable) for variable in jaxpr.outvars]

    inputs = {variable: ('input', place) for place, variable in enumerate(jaxpr.invars)}
    results = walk(jaxpr, {**dict.fromkeys(jaxpr.constvars, LITERAL), **inputs})
    read = [reads for equation, reads in made.values() if equation.primitive.name == 'dot_general']
    return Program(made, tuple(results), frozenset(value for reads in read for value in reads))


def _open(jaxpr: Any) -> Any:
    """The program of a parameter of an equation: some are closed over their constants, which ones depends on jax's version."""
    return jaxpr.jaxpr if isinstance(jaxpr, jax.extend.core.ClosedJaxpr) else jaxpr


def _split_scan(equation: Any) -> tuple[int, int]:
    """(number of constants, number of values handed from turn to turn) of a scan: inputs are these, then what has a row a turn.

    They follow from the shapes: what has a row a turn has one axis less inside. Before jax 0.12 they were parameters, num_consts
    and num_carry.
    """
    body = _open(equation.params['jaxpr'])
    handed = sum(a.aval.ndim == b.aval.ndim for a, b in zip(equation.outvars, body.outvars, strict=True))
    fixed = sum(a.aval.ndim == b.aval.ndim for a, b in zip(equation.invars, body.invars, strict=True))
    return fixed - handed, handed


def _count(jaxpr: Any, asked: Collection[int] | None, carried: range | None, rolled: bool = False) -> Kept:
    """The Kept of the results `asked` (None: all) of a program.

    Of a layer: `carried` are the places of what the layer before hands on; `rolled` says that the layers are a loop, of which XLA
    stores every result.
    """
    program = _flatten(jaxpr)
    wanted, scans = dict[Any, float](), dict[int, tuple[Any, set[int]]]()
    for place, (value, variable) in enumerate(zip(program.results, jaxpr.outvars, strict=True)):
        if value == LITERAL or (asked is not None and place not in asked):
            continue
        if value[0] == 'input':  # parameters and the batch are there anyway
            if carried is not None and value[1] in carried:
                wanted[value] = _size(variable)
        elif program.made[value][0].primitive.name == 'scan' and value[1] >= _split_scan(program.made[value][0])[1]:
            equation = program.made[value][0]
            scans.setdefault(id(equation), (equation, set()))[1].add(value[1])
        else:
            wanted[value] = _size(variable)
    sizes = [wanted[value] for value in (wanted if rolled else _store(program, wanted, carried))]
    outside, inside, largest_inside = float(sum(sizes)), 0.0, 0.0
    for equation, places in scans.values():
        (first, carried_on), layers = _split_scan(equation), equation.params['length']
        layer = range(first, first + carried_on)
        found = _count(_open(equation.params['jaxpr']), places, layer, rolled=equation.params['unroll'] < layers)
        inside += layers * (found.outside + found.inside)
        largest_inside = max(largest_inside, found.largest_outside, found.largest_inside)
    return Kept(outside, inside, float(max(sizes, default=0)), largest_inside)


def _store(program: Program, wanted: Mapping[Any, float], carried: range | None) -> list[Any]:
    """Those of the values `wanted` that must be stored: the others follow from them and from the inputs by CHEAP steps."""

    def is_dear(value: Any) -> bool:
        return value in program.operands or value[0] == 'input' or program.made[value][0].primitive.name not in CHEAP

    stored = {value for value in wanted if is_dear(value)}
    for value in wanted:
        known: dict[Any, bool] = {}

        def follows(value: Any, known: dict[Any, bool] = known) -> bool:
            if value == LITERAL or value in stored:
                return True
            if value[0] == 'input':
                return carried is None or value[1] not in carried
            if value not in known:
                equation, reads = program.made[value]
                known[value] = equation.primitive.name in CHEAP and all(follows(each) for each in reads)
            return known[value]

        if not follows(value):
            stored.add(value)
    return list(stored)


def _size(variable: Any) -> float:
    kind = variable.aval.dtype
    return math.prod(variable.aval.shape) * (8 if jax.numpy.issubdtype(kind, jax.dtypes.prng_key) else kind.itemsize)
