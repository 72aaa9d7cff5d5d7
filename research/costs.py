"""The costs of an experiment, computed from its definition alone: parameters, FLOPs, memory."""

import functools
from typing import Any

import jax

from research.data import tasks
from research.data.settings import Data, shapes
from research.models import paths
from research.models.architecture import NORMS, Architecture
from research.models.encoder import has_projection
from research.models.heads import HEADS, Heads, Model, initialise
from research.models.remat import group_size
from research.models.sharing import count_groups
from research.objectives.losses import LOSSES, Losses, active, heads, needs_teacher, read_teacher
from research.optim import Optimizer, build
from research.sharding import Grid, count_bytes


def count_parameters(a: Architecture, heads: Heads = ()) -> dict[str, int]:
    """The exact number of parameters of each module, in the order of the forward pass."""
    d, e, f = a.width, a.embedding, a.inner
    attention, feed_forward = count_groups(a)
    positions = a.positions if a.position_kind == 'learned' else 0
    before = NORMS[a.norm].before
    found = {
        'embeddings': (a.vocabulary + positions + a.types) * e + (0 if before else 2 * e),
        'projection': (e + 1) * d if has_projection(a) else 0,
        'attention': attention * (4 * (d * d + d) + 2 * d),
        'feed_forward': feed_forward * (2 * d * f + f + d + 2 * d),
        **({'final_norm': 2 * d} if before else {}),
        'pooler': d * d + d if a.pooler else 0,
    }
    return found | {name: HEADS[name].parameters(a, classes) for name, classes in heads}


def summarize_parameters(a: Architecture, heads: Heads = ()) -> dict[str, Any]:
    """The number of parameters: in total, of the encoder with and without its pooler, and of each module."""
    modules = count_parameters(a, heads)
    encoder = sum(count_parameters(a).values())
    return {
        'total': sum(modules.values()),
        'encoder': encoder,
        'encoder_without_pooler': encoder - modules['pooler'],
        'modules': modules,
    }


def count_forward_flops(a: Architecture, length: int, logits: int = 0) -> int:
    """FLOPs of the forward pass of one sequence: 2 for each multiply-add of its matrix products. Sharing weights saves none.

    logits: the number of positions at which vocabulary logits are computed.
    """
    d, e = a.width, a.embedding
    return (
        a.layers * sum(_count_layer_flops(a, length))
        + (2 * length * e * d if has_projection(a) else 0)
        + (2 * d * d if a.pooler else 0)
        + 2 * logits * (d * e + e * a.vocabulary)
    )


def _count_layer_flops(a: Architecture, length: int) -> tuple[int, int]:
    """FLOPs of one layer's forward pass of one sequence: of the products with weights, and of those of attention."""
    d = a.width
    return 2 * length * (4 * d * d + 2 * d * a.inner), 4 * length * length * d


def count_recomputed_flops(a: Architecture, length: int) -> int:
    """FLOPs of what the backward pass of one sequence computes anew: as `model.remat` says."""
    weights, attention = _count_layer_flops(a, length)
    groups = a.layers // group_size(a.layers)
    return {
        'none': 0,
        'products': a.layers * attention,
        'block': a.layers * (weights + attention),
        'everything': (2 * a.layers - groups) * (weights + attention),  # a group's last layer is computed anew once
    }[a.remat]


def count_vocabulary_positions(losses: Losses, length: int, room: int, teacher: bool = False) -> int:
    """The number of positions of a sequence whose vocabulary logits the losses need, of the student or of the teacher.

    room: the number of positions of a sequence that can be masked.
    """
    read = read_teacher(losses) if teacher else {name: LOSSES[name].heads(options) for name, options in active(losses).items()}
    options = active(losses)
    at = {LOSSES[name].over(options[name]) for name, heads in read.items() if any(HEADS[head].at_positions for head in heads)}
    return (length if 'attended' in at else 0) + (room if 'masked' in at else 0)


def count_step_flops(
    student: Architecture, teacher: Architecture | None, losses: Losses, batch: int, length: int, room: int
) -> int:
    """FLOPs of one training step: three forward passes of the student, one of a teacher that a loss reads, and what remat adds."""
    cost = 3 * count_forward_flops(student, length, count_vocabulary_positions(losses, length, room))
    cost += count_recomputed_flops(student, length)
    if teacher is not None and needs_teacher(losses):
        cost += count_forward_flops(teacher, length, count_vocabulary_positions(losses, length, room, teacher=True))
    return batch * cost


def count_flops(student: Architecture, teacher: Architecture | None, losses: Losses, data: Data, batch: int) -> dict[str, float]:
    """FLOPs `per_token` of the encoder's forward pass and `per_step` of training: means over all steps, also of two lengths.

    Heads count only in the step, because the number of positions that they score depends on the losses, not on the model.
    """
    tokens, forward, step = 0.0, 0.0, 0.0
    of_candidates = any(HEADS[head].of_candidates for head in heads(losses))
    sequences = batch * (len(tasks.classes(data)) if of_candidates else 1)
    for shape in shapes(data):
        tokens += shape.share * shape.length
        forward += shape.share * count_forward_flops(student, shape.length)
        step += shape.share * count_step_flops(student, teacher, losses, sequences, shape.length, shape.predictions)
    return {'per_token': forward / tokens, 'per_step': round(step)}


def estimate_state(
    a: Architecture, heads: Heads, optimizer: Optimizer, grid: Grid, teacher: tuple[Architecture, Heads] | None = None
) -> dict[str, int]:
    """Bytes of the float32 parameters, gradients, optimizer state, moving average and teacher on one device of a mesh.

    Activations are not included. teacher: of a loss that reads one. `Grid()` is a single device.
    """
    parameters, state = _count_bytes(a, heads, grid, optimizer.name)
    found = {'parameters': parameters, 'gradients': parameters, 'optimizer': state}
    found['average'] = parameters if optimizer.ema else 0
    found['teacher'] = _count_bytes(*teacher, grid)[0] if teacher else 0
    return {**found, 'total': sum(found.values())}


@functools.lru_cache(maxsize=64)
def _count_bytes(a: Architecture, heads: Heads, grid: Grid, optimizer: str = Optimizer.name) -> tuple[int, int]:
    """The bytes on one device of a model's parameters, and of the state of an optimizer of this name."""
    params = jax.eval_shape(lambda: initialise(Model(a, heads), jax.random.key(0)))
    state = jax.eval_shape(build(Optimizer(name=optimizer)).init, params)
    one, other = (
        sum(count_bytes(paths.join(keys), leaf.shape, grid) for keys, leaf in jax.tree_util.tree_leaves_with_path(tree))
        for tree in (params, state)
    )
    return one, other
