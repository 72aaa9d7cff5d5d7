"""The time and the memory of a training step, predicted for a chip and a number of devices from an experiment alone.

A roofline (Williams et al. 2009): products at the chip's speed, then passes over arrays at its bandwidth, and beside both the sum
of the devices' gradients. Nothing here was fitted to an accelerator.
"""

import dataclasses
import math
from typing import NamedTuple

from research import costs
from research.activations import Kept, count_kept, size_teacher_heads
from research.chips import Chip, find_chips
from research.data import tasks
from research.data.settings import shapes
from research.errors import UserError
from research.experiment import Experiment
from research.models.architecture import Architecture
from research.models.heads import Heads, Sizes
from research.objectives.losses import Losses, needs_teacher, size_heads
from research.optim import Optimizer
from research.parallel import PARALLEL, make_grid

# Passes over what is kept for the backward pass: written and read in the forward pass, read in the backward pass, and as much
# again for gradients of the same size.
PASSES = 6
# What is in use when the backward pass begins, beside what is kept: so many arrays of the size of the largest outside of the
# layers (logits and their gradients) and inside of one. Found by comparison with XLA's own count (tests/test_predictions.py).
OUTSIDE, INSIDE = 3, 2
ROOM = 0.92  # share of a chip's memory that a step may fill; the rest is the runtime's and lost between arrays


@dataclasses.dataclass(frozen=True)
class Work:
    """What a step does on all devices together."""

    student: Architecture
    teacher: Architecture | None
    losses: Losses
    optimizer: Optimizer
    batch: int  # rows
    length: int
    masked: int  # positions of a row that can be masked
    classes: int = 2  # labels, or candidates of a choice
    accumulate: int = 1
    parallel: str = 'jit'  # a row of PARALLEL
    model_devices: int = 1  # devices that share a row's matrices

    def rows(self, devices: int) -> int:
        """The rows of a micro-batch on one of the devices."""
        return math.ceil(self.batch * self.model_devices / devices / self.accumulate)


class Prediction(NamedTuple):
    """One step on each of the devices."""

    seconds: float
    bytes: int  # of a device's memory, at the peak
    bound: str  # what takes longest: 'products', 'memory' or 'communication'
    parts: dict[str, float]  # seconds of each of the three
    memory: dict[str, int]  # bytes of the state and of the activations
    sent: int  # bytes that each device sends


def predict_step(
    student: Architecture,
    teacher: Architecture | None,
    losses: Losses,
    batch: int,
    length: int,
    masked: int,
    optimizer: Optimizer,
    dtype: str,
    chip: str | Chip,
    devices: int = 1,
    accumulate: int = 1,
    parallel: str = 'jit',
    classes: int = 2,
) -> Prediction:
    """The Prediction of a step of `batch` rows of `length` pieces, `masked` of which can be masked, on `devices` chips.

    chip: a row of CHIPS, 'here' (this machine is measured) or a Chip.
    """
    student = dataclasses.replace(student, dtype=dtype)
    teacher = None if teacher is None else dataclasses.replace(teacher, dtype=dtype)
    work = Work(student, teacher, losses, optimizer, batch, length, masked, classes, accumulate, parallel)
    return predict(work, find_chips(chip)[chip] if isinstance(chip, str) else chip, devices)


def plan_work(x: Experiment, heads: Heads, teacher: Architecture | None) -> list[tuple[float, Work]]:
    """(share of the steps, Work of a step) of each stage of a run, with the student's `heads`."""
    run, classes = x.run, count_classes(x, heads)
    return [
        (
            shape.share,
            Work(
                *(x.model, teacher, x.losses, x.optimizer, run.batch, shape.length),
                *(shape.predictions, classes, run.accumulate, run.parallel, run.model_devices),
            ),
        )
        for shape in shapes(x.data)
    ]


def count_classes(x: Experiment, heads: Heads) -> int:
    """The labels, or the candidates of a choice, of a run's task; two if they are not known."""
    if not x.losses.choice.weight:
        return dict(heads)['label'] if 'label' in dict(heads) else 2
    try:
        return len(tasks.classes(x.data))
    except (UserError, OSError):
        return 2


def predict_run(planned: list[tuple[float, Work]], chip: Chip, devices: int) -> Prediction:
    """The mean step of a run with several stages, and the most memory that one of them takes."""
    found = [(share, predict(work, chip, devices)) for share, work in planned]
    parts = {name: sum(share * each.parts[name] for share, each in found) for name in found[0][1].parts}
    seconds = sum(share * each.seconds for share, each in found)
    largest = max((each for _, each in found), key=lambda each: each.bytes)
    return largest._replace(seconds=seconds, parts=parts, bound=max(parts, key=lambda name: parts[name]))


def predict(work: Work, chip: Chip, devices: int) -> Prediction:
    """The Prediction of `work`. Communication runs beside the backward pass: it counts where it takes longer than the rest."""
    dtype = work.student.dtype
    work = compile_for_cpu(work) if chip.is_cpu else work
    of_candidates = work.classes if work.losses.choice.weight else 1
    flops = costs.count_step_flops(work.student, work.teacher, work.losses, work.batch * of_candidates, work.length, work.masked)
    sent = count_sent(work, devices)
    parts = {
        'products': flops / devices / (chip.reach * (chip.bfloat16 if dtype == 'bfloat16' else chip.float32)),
        'memory': count_moved(work, devices) / (chip.reach * chip.bandwidth),
        'communication': time_exchange(sent, chip, devices),
    }
    memory = predict_memory(work, devices)
    seconds = max(parts['products'] + parts['memory'], parts['communication'])
    return Prediction(seconds, sum(memory.values()), max(parts, key=lambda name: parts[name]), parts, memory, round(sent))


def compile_for_cpu(work: Work) -> Work:
    """`work` as XLA compiles it for a CPU: all arrays are float32, and what unrolled layers compute anew it keeps all the same."""
    student = dataclasses.replace(work.student, dtype='float32')
    return dataclasses.replace(work, student=student if student.unroll else dataclasses.replace(student, remat=Architecture.remat))


# ---- Memory ---------------------------------------------------------------------------------------------------------------------


def predict_memory(work: Work, devices: int) -> dict[str, int]:
    """Bytes of a device: the 'state' (parameters, optimizer, average, teacher), its 'gradients', and what 'activations' take."""
    return count_memory(work, devices, work.rows(devices))


def count_memory(work: Work, devices: int, rows: int) -> dict[str, int]:
    """`predict_memory` for micro-batches of so many rows a device."""
    sizes = state_bytes(work, devices)
    kept = _kept(work, work.student, rows)
    begin = kept.outside + kept.inside + OUTSIDE * kept.largest_outside + INSIDE * kept.largest_inside
    if work.student.remat != Architecture.remat:
        full = _kept(work, dataclasses.replace(work.student, remat=Architecture.remat, unroll=0), rows)
        begin = kept.outside + kept.inside + OUTSIDE * kept.largest_outside
        begin = max(begin, kept.inside + full.inside / work.student.layers + INSIDE * full.largest_inside)
    return {'state': sizes['total'] - sizes['gradients'], 'gradients': sizes['gradients'], 'activations': round(begin)}


def _kept(work: Work, student: Architecture, rows: int) -> Kept:
    row, fixed = count_kept(student, work.teacher, work.losses, work.length, work.masked, work.classes)
    return Kept(*(rows * a + b for a, b in zip(row, fixed, strict=True)))


def state_bytes(work: Work, devices: int = 1) -> dict[str, int]:
    """`costs.estimate_state` on one of the devices, of the student and of a teacher that a loss reads."""
    heads = size_heads(work.losses, Sizes(work.student, lambda: work.classes, work.teacher))
    teacher = None
    if work.teacher is not None and needs_teacher(work.losses):
        teacher = work.teacher, size_teacher_heads(work.losses, work.teacher, work.classes)
    grid = make_grid(work.parallel, max(devices, work.model_devices), work.model_devices)
    return costs.estimate_state(work.student, heads, work.optimizer, grid, teacher)


def find_largest_batch(work: Work, memory: float, devices: int) -> int:
    """The largest batch whose step fits `memory` bytes a device with the same `accumulate`; 0 if not even one row does."""
    low, high = 0, 1
    while _fits(work, memory, devices, high) and high < 2**24:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _fits(work, memory, devices, middle) else (low, middle)
    return low * (devices // work.model_devices) * work.accumulate


def find_accumulation(work: Work, memory: float, devices: int) -> int:
    """The smallest `accumulate` with which the same batch fits `memory` bytes a device; 0 if none does."""
    rows = work.batch * work.model_devices // devices
    for parts in range(work.accumulate, rows + 1):
        if rows % parts == 0 and _fits(dataclasses.replace(work, accumulate=parts), memory, devices, rows // parts):
            return parts
    return 0


def _fits(work: Work, memory: float, devices: int, rows: int) -> bool:
    return sum(count_memory(work, devices, rows).values()) <= ROOM * memory


# ---- Bytes that move ------------------------------------------------------------------------------------------------------------


def count_moved(work: Work, devices: int) -> float:
    """Bytes that a device reads and writes around its products: passes over activations, and the optimizer's over the state."""
    plain = dataclasses.replace(work.student, remat=Architecture.remat, unroll=0)
    kept = _kept(work, plain, work.rows(devices))
    passes = PASSES + (2 if work.student.remat != Architecture.remat else 0)
    sizes = state_bytes(work, devices)
    # The state is read and written; gradients are written, read for their norm and read again, and added up in each micro-batch.
    state = 2 * (sizes['parameters'] + sizes['optimizer'] + sizes['average'])
    gradients = (3 + 3 * (work.accumulate - 1)) * sizes['gradients']
    moved = passes * (kept.outside + kept.inside)
    if work.teacher is not None and needs_teacher(work.losses):  # its layers' arrays are written and read once
        row, _ = count_kept(dataclasses.replace(work.teacher, unroll=0), None, Losses(), work.length, max(work.masked, 1))
        moved += 2 * row.inside * work.rows(devices)
    return work.accumulate * moved + state + gradients


def count_sent(work: Work, devices: int) -> float:
    """Bytes that each device sends in a step, on a ring.

    The sum of the gradients is scattered and gathered again. With 'fsdp' it is only scattered, but the parameters are gathered for
    the forward pass and once more for the backward pass, of every micro-batch.
    """
    size = state_bytes(work)['parameters'] * (devices - 1) / devices
    return size * (3 * work.accumulate if PARALLEL[work.parallel].states else 2)


def time_exchange(sent: float, chip: Chip, devices: int) -> float:
    """Seconds to exchange `sent` bytes a device: over links inside a server or pod, then each its share over the network."""
    inside = min(devices, chip.linked)
    beyond = math.ceil(devices / inside)
    if devices == 1:
        return 0.0
    near = sent * (inside - 1) / inside / (1 - 1 / devices)
    far = sent / inside * (beyond - 1) / beyond / (1 - 1 / devices)
    return (near / chip.link + far / chip.network) / chip.reach
