"""The columns of tables: which number of a Result, and how it is printed."""

import dataclasses

from research.errors import UserError, choose
from research.study.keys import validate_key

BETTER = ('max', 'min', '')


@dataclasses.dataclass(frozen=True)
class Format:
    """How a number is printed: multiplied by `scale`, with `digits` decimals.

    `exact` numbers (a size, a count of operations) follow from the architecture: equal seeds are printed without a spread.
    """

    scale: float
    digits: int
    exact: bool = False


FORMATS = {
    'plain': Format(1, 3),
    'count': Format(1, 0),
    'percent': Format(100, 1),
    'millions': Format(1e-6, 2, exact=True),
    'megabytes': Format(1e-6, 1, exact=True),
    'memory': Format(1e-6, 0),
    'minutes': Format(1 / 60, 1),
    'milliseconds': Format(1e3, 2),
    'seconds': Format(1, 2),
    'times': Format(1, 2),
}


@dataclasses.dataclass(frozen=True)
class Column:
    """One number of each row: `key` in the results of the row's runs in `role`, or the mean of other columns.

    A key is a path into result.json with ':' between its levels: 'parameters:total', 'metrics:test/accuracy'. If `better` is
    'max' or 'min', the best number is set in bold. `note` goes to the caption. A column with `of`, titles of other columns, has
    neither role nor key: it is their mean, seed by seed. With `relative`, the title of a row, it is divided by that row's mean;
    with `change` too, that row's numbers are subtracted instead, seed by seed. `error` is
    the key of the number's standard error within a run. `published`: the 'SPLIT/METRIC' that papers print in this column, such as
    'dev/f1'; '' is what the key says.
    """

    title: str
    role: str
    key: str
    format: str = 'plain'
    better: str = ''
    note: str = ''
    of: tuple[str, ...] = ()
    relative: str = ''
    change: bool = False
    error: str = ''
    published: str = ''

    def __post_init__(self) -> None:
        choose(f"format of column '{self.title}'", self.format, FORMATS)
        choose(f"direction of column '{self.title}'", self.better, BETTER)
        if self.error:
            validate_key(self.error, f"standard error of column '{self.title}'")
        if not self.of:
            validate_key(self.key, f"column '{self.title}'")
        elif self.role or self.key:
            raise UserError(f"column '{self.title}' is the mean of others (of=…): leave out its role and its key")
        if self.change and not self.relative:
            raise UserError(f"column '{self.title}' is a change (change=True): name the row that it is measured from (relative=…)")


COLUMNS = {
    'parameters': Column(
        'Parameters (M)',
        'pretrain',
        'parameters:encoder',
        'millions',
        'min',
        'of the encoder with its pooler, without heads, as papers count',
    ),
    'checkpoint': Column(
        'Checkpoint (MB)',
        'pretrain',
        'checkpoint_bytes',
        'megabytes',
        'min',
        'parameters only, heads included; 1 MB is 1e6 bytes',
    ),
    'flops': Column(
        'FLOPs a token (M)',
        'pretrain',
        'flops_per_token',
        'millions',
        'min',
        'forward pass of the encoder with its pooler, without heads, at the length of pretraining; a multiply-add counts as 2',
    ),
    'gain': Column(
        'Gain over frequencies (nats)',
        'pretrain',
        'metrics:dev/gain',
        'plain',
        'max',
        'at the [MASK] of held-out documents: the loss of the frequencies of pieces less that of the model',
        error='metrics:dev/gain_error',
    ),
    'mlm': Column('MLM loss (nats)', 'pretrain', 'metrics:dev/mlm', 'plain', 'min', 'on held-out documents'),
    'mlm_accuracy': Column('MLM accuracy (%)', 'pretrain', 'metrics:dev/mlm_accuracy', 'percent', 'max', 'on held-out documents'),
    'task': Column('Task accuracy (%)', 'task', 'metrics:test/accuracy', 'percent', 'max', 'on the test split'),
    'time': Column(
        'Time (min)',
        'pretrain',
        'train_seconds',
        'minutes',
        'min',
        'of the training steps, compilation included; data, evaluation and saving are not',
    ),
    'memory': Column(
        'Memory (MB)', 'pretrain', 'peak_memory_bytes', 'memory', note='the peak in training; on a CPU that of the whole process'
    ),
    'speed': Column('Training (tokens/s)', 'pretrain', 'tokens_per_second', 'count', 'max', 'a teacher included'),
    'latency': Column(
        'Latency (ms)',
        'pretrain',
        'latency_seconds',
        'milliseconds',
        'min',
        'median of one sequence of full length at batch 1',
    ),
}
# Of runs with run.time_pass alone.
PASS = Column(
    'A pass (s)',
    'task',
    'pass_seconds',
    'seconds',
    'min',
    'over the reported split, one example at a time, on one core of the CPU (run.time_pass)',
)
SCORE = Column('score', 'run', 'score', 'percent', 'max', 'on the reported split, in percent; the mean of two metrics')
COLLAPSED = Column(
    'collapsed', 'run', 'collapsed:reported', 'percent', note='share of the runs whose predictions are (nearly) all the same'
)
