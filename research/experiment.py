"""An experiment is a value: what is trained, on what, by which losses, from where, and how long.

The dataclasses beside their consumers are the schema.
"""

import dataclasses

from research.data import tasks
from research.data.settings import Data
from research.machine import Machine
from research.models.architecture import Architecture
from research.models.heads import Heads, Sizes
from research.objectives import losses
from research.objectives.losses import Losses
from research.optim import Optimizer
from research.surgery import Surgery


@dataclasses.dataclass(frozen=True)
class Run:
    """How long a run trains, how often it evaluates and saves, and what it keeps."""

    steps: int = 1000  # 0 evaluates the start and trains nothing
    epochs: float = 0.0  # passes over the training examples; above 0 it decides the number of steps, unless that is 0
    batch: int = 32  # sequences a step, over all devices
    accumulate: int = 1  # micro-batches a step
    parallel: str = 'jit'  # a row of PARALLEL
    # Devices that share a row's matrices, each with a part of the heads, inner units and vocabulary; the groups divide the batch.
    model_devices: int = dataclasses.field(default=1, compare=False)
    deterministic: bool = False  # on a GPU, only kernels that give the same bits in every process; slower there
    log_every: int = 20  # steps
    evaluate_every: int = 0  # steps; 0 = at the end only
    evaluate_batches: int = 32  # of pretraining, batches of the dev split, at most; 0 = all. A task's splits are read whole
    patience: int = 0  # evaluations without a better score after which a task's run stops; 0 = never
    checkpoint_every: int = 500  # steps; 0 = at the end only
    keep: int = 2  # of the newest checkpoints, beside the best
    max_skipped: int = 3  # broken steps in a row whose updates are left out; one more goes back to the last good checkpoint
    spike: float = 0.0  # standard deviations above the median of the last 128 losses from which a step is broken; 0 = never
    profile: int = dataclasses.field(default=0, compare=False)  # the first of a few steps whose trace is written; 0 = none
    gradient_norms: bool = False  # logs the gradient's norm in each part of the model beside that of all
    time_pass: bool = False  # of a task, measures a pass over the reported split, one example at a time on one core of the CPU


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that a run needs to know. `start` and `teacher` are run folders; '@NAME' is a sibling of the run's own."""

    name: str = 'experiment'
    seed: int = 0
    model: Architecture = Architecture()
    data: Data = Data()
    losses: Losses = Losses()
    start: str = ''  # the source of the first weights; '' = random, 'teacher' = the teacher's
    surgery: Surgery = Surgery()  # how the weights of `start` become this model's
    teacher: str = ''  # the source of the teacher; '' = none
    optimizer: Optimizer = Optimizer()
    run: Run = Run()
    machine: Machine = dataclasses.field(default=Machine(), compare=False)


def offered(x: Experiment) -> frozenset[str]:
    """What the experiment's data offer to losses: rows of objectives.losses.REMEDIES."""
    return frozenset({tasks.task(x.data).kind} if x.data.task else {'masked', x.data.pairs})


def is_scored(x: Experiment) -> bool:
    """Whether a score that selects checkpoints is measured while the run trains."""
    return bool(x.data.task and x.data.select != 'last' and x.run.evaluate_every)


def student_heads(x: Experiment, teacher: Architecture | None = None) -> Heads:
    """The student's heads, with their numbers of classes; `teacher` is its teacher's architecture, if known.

    Raises UserError if a number follows from data that are not there.
    """
    return losses.size_heads(x.losses, Sizes(x.model, lambda: len(tasks.classes(x.data)), teacher))
