"""The cases of train_step.py: models, losses, shapes, and random batches for them."""

import dataclasses
import math

import numpy as np

from research.models.architecture import Architecture
from research.models.heads import Heads, Sizes
from research.objectives.losses import Losses, Match, Mlm, Plain, Soft, size_heads
from research.optim import Optimizer

Batch = dict[str, np.ndarray]
CLASSES = 2  # of a label
MASKED = 0.15  # share of the positions that are masked
OPTIMIZER = Optimizer(lr=1e-4, warmup=0.01)
STEPS = 100_000  # of the schedule


@dataclasses.dataclass(frozen=True)
class Case:
    """A model and its training step."""

    model: Architecture
    losses: Losses
    batch: int  # on a CPU
    large: int  # the batch on an accelerator
    length: int
    peer: str  # a row of peers.OBJECTIVES
    teacher: Architecture | None = None
    shortest: float = 1.0  # the length of the shortest sequence as a share of the longest; 1 = no padding

    @property
    def room(self) -> int:
        """The number of masked positions of a sequence; 0 for a task."""
        return 0 if self.losses.label.weight else math.ceil(MASKED * self.length)

    @property
    def heads(self) -> Heads:
        """The student's heads."""
        return size_heads(self.losses, Sizes(self.model, lambda: CLASSES))


BERT = Architecture()
BERT_LARGE = dataclasses.replace(BERT, layers=24, width=1024, heads=16, inner=4096, embedding=1024)
DISTILBERT = Architecture(layers=6, types=0, pooler=False, activation='gelu')
ALBERT = Architecture(vocabulary=30_000, embedding=128, sharing='all', dropout=0.0, attention_dropout=0.0, head_dropout=0.0)
SMALL = Architecture(vocabulary=4096, layers=4, width=128, heads=2, inner=512, embedding=128)
EQUAL = dataclasses.replace(SMALL, dropout=0.0, attention_dropout=0.0, head_dropout=0.0)
MINILM = Architecture(layers=6, width=384, inner=1536, embedding=384, activation='gelu')
NSP = Losses(nsp=Plain(1.0))
SOP = Losses(sop=Plain(1.0))
DISTILLED = Losses(mlm=Mlm(2.0), soft=Soft(5.0, temperature=2.0), cosine=Match(1.0))
LABEL = Losses(mlm=Mlm(0.0), label=Plain(1.0))

CASES: dict[str, Case] = {
    'bert-base-128': Case(BERT, NSP, 8, 256, 128, 'pretraining'),
    'bert-base-512': Case(BERT, NSP, 2, 64, 512, 'pretraining'),
    'bert-large-512': Case(BERT_LARGE, NSP, 1, 16, 512, 'pretraining'),
    'distilbert-128': Case(DISTILBERT, Losses(), 8, 256, 128, 'mlm'),
    'distilbert-512': Case(DISTILBERT, Losses(), 2, 64, 512, 'mlm'),
    'distilbert-teacher-128': Case(DISTILBERT, DISTILLED, 8, 128, 128, 'distillation', teacher=BERT),
    'distilbert-teacher-512': Case(DISTILBERT, DISTILLED, 2, 32, 512, 'distillation', teacher=BERT),
    'albert-base-128': Case(ALBERT, SOP, 8, 256, 128, 'pretraining'),
    'albert-base-512': Case(ALBERT, SOP, 2, 64, 512, 'pretraining'),
    'small-128': Case(SMALL, Losses(), 8, 1024, 128, 'mlm'),
    'small-512': Case(SMALL, Losses(), 2, 256, 512, 'mlm'),
    'equal-64': Case(EQUAL, Losses(), 16, 2048, 64, 'masked'),
    'label-32': Case(MINILM, LABEL, 32, 1024, 32, 'label', shortest=0.25),
    'label-128': Case(MINILM, LABEL, 32, 256, 128, 'label', shortest=0.25),
}


def shrink(case: Case) -> Case:
    """The same case at a size that takes seconds, to try a benchmark out."""

    def less(a: Architecture) -> Architecture:
        embedding = 32 if a.embedding == a.width else 16
        return dataclasses.replace(a, vocabulary=512, layers=2, width=32, heads=2, inner=64, embedding=embedding)

    teacher = less(case.teacher) if case.teacher else None
    return dataclasses.replace(case, model=less(case.model), teacher=teacher, batch=4, large=4, length=case.length // 4)


def make_batch(case: Case, seed: int) -> Batch:
    """A random batch of a case, as the feeds of research make it: int32 arrays [B, T] and [B, P], float32 weights."""
    draw = np.random.default_rng(seed)
    b, t = case.batch, case.length
    lengths = draw.integers(round(case.shortest * t), t + 1, b)
    lengths[0] = t  # a batch is as long as its longest sequence
    mask = (np.arange(t)[None] < lengths[:, None]).astype(np.int32)
    ids = draw.integers(5, case.model.vocabulary, (b, t), dtype=np.int32) * mask
    types = (np.arange(t)[None] >= lengths[:, None] // 2).astype(np.int32) * mask * (case.model.types > 1)
    batch = {'ids': ids, 'types': types.astype(np.int32), 'mask': mask, 'weight': np.ones(b, np.float32)}
    if not case.room:
        return batch | {'label': draw.integers(0, CLASSES, b, dtype=np.int32)}
    positions = np.sort(np.argsort(draw.random((b, t)))[:, : case.room]).astype(np.int32)
    return batch | {
        'masked_positions': positions,
        'masked_labels': draw.integers(5, case.model.vocabulary, positions.shape, dtype=np.int32),
        'masked_weights': np.ones(positions.shape, np.float32),
        'pair': draw.integers(0, 2, b, dtype=np.int32),
    }
