"""What a run learns from: the part of an experiment that `research.data` reads."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from research.data.masking import Masking, at, predictions


@dataclass(frozen=True)
class Answers:
    """How answers are found in long contexts. The defaults are those of the code released by Devlin et al."""

    stride: int = 128  # pieces from the start of one window over a long context to the start of the next
    question: int = 64  # pieces of a question, or half of those of a question with a choice, at most
    longest: int = 30  # pieces of an answer, at most
    best: int = 20  # answers that are kept of each question
    starts: int = 5  # first pieces that are tried in a window by the head whose end depends on the start (ALBERT's start_n_top)
    ends: int = 5  # last pieces that it tries for each of them (ALBERT's end_n_top)
    threshold: float = 0.0  # predict 'no answer' if it leads by more; tuned on the selecting part of train, where there is one


@dataclass(frozen=True)
class Causal:
    """Batches of next-piece prediction among those of masked pieces, through one model (Charpentier and Samuel 2024, GPT-BERT).

    In a causal batch a position attends to itself and to those before it, and predicts the piece that follows. Every piece is
    predicted, so that a model learns from it several times faster at first. A batch is causal or masked as a whole, since a masked
    one needs the logits of a few positions alone. `share=1, until=0.4` is causal first, then masked.
    """

    share: float = 0.0  # of the batches, evenly spread
    until: float = 1.0  # the part of the run's steps after which all batches are masked


@dataclass(frozen=True)
class Data:
    """Text, tokenizer, and how sequences are made of them; with `task`, the examples of a supervised task instead."""

    # Row of SOURCES, with its argument after a colon: 'jsonl:books/*.jsonl.xz'; or several: '0.7 jsonl:a.jsonl + 0.3 text:b.txt'
    source: str = 'docstrings'
    field: str = 'text'  # the field of jsonl, parquet and tfds that holds a document
    documents: str = 'blank_lines'  # row of DOCUMENTS: what separates the documents of text files, blank lines or nothing but files
    folder: str = ''  # where datasets lie: the data_dir of tfds, or the folder of a task's official files; '' is tfds' own
    cleaners: tuple[str, ...] = ()  # rows of CLEANERS, applied in this order: wikitext, ascii_punctuation
    deduplicate: bool = False  # whether to leave out a document that a source held before, word for word
    changed: str = 'prepare'  # row of CHANGED: prepare anew, or refuse, when files changed since they were prepared
    tokenizer: str = 'wordpiece'  # row of KINDS, trained on the source; else the path of a vocab.txt, tokenizer.json or run folder
    lowercase: bool = True  # for a trained tokenizer, or a vocab.txt without do_lower_case beside it
    length: int = 128  # T, pieces of a sequence, special ones included
    pairs: str = 'none'  # none; nsp: is B what follows A? (Devlin et al. 2019); sop: are A and B in order? (Lan et al. 2020)
    fill: str = 'pieces'  # row of FILLS: single segments of pieces, of whole sentences, or of sentences across documents
    pack: bool = False  # several short runs, or examples of a task, in one row, with no attention between them; for single segments
    first_length: int = 0  # T of the first stage of training; 0 is one stage, all of it at `length`
    first_share: float = 0.9  # share of the steps in the first stage (Devlin et al. 2019, §A.2)
    short: float = 0.1  # with pairs, the share of documents whose sequences aim at a length drawn between 2 and T (BERT's code)
    held_out: float = 0.05  # share of the documents that are evaluated on and never trained on, by the hash of their text
    held_out_masks: str = 'bert'  # row of HELD_OUT_MASKS: how held-out rows are masked, for all runs alike or as in training
    masking: Masking = Masking()
    causal: Causal = Causal()
    task: str = ''  # '' is pretraining; else row of TASKS
    # What selects checkpoints where dev is reported: a part of train, 'dev' itself (Lan et al. 2020, §4.2.2), or nothing: 'last'.
    select: str = 'train'
    buckets: tuple[int, ...] = (16, 32, 64, 128, 256)  # a task's batches hold sequences of similar length, padded to one of these
    answers: Answers = Answers()
    train: str = ''  # task `custom`: a .tsv or .csv (with a header) or .jsonl file, plain, .gz, .xz or .zst
    dev: str = ''  # task `custom`: '' carves it out of train
    test: str = ''  # task `custom`: '' for none
    text: str = 'sentence'  # task `custom`: the column of the text
    pair: str = ''  # task `custom`: the column of a second text, or '' for single texts
    label: str = 'label'  # task `custom`: the column of the label
    score: str = ''  # task `custom`: the column of a number to predict in place of a label
    unlabelled: str = 'refuse'  # task `custom`, a row whose label or score is blank, '-', nan or null: refuse it, or skip it
    labels: tuple[str, ...] = ()  # the labels in their order; () is the task's own order, of `custom` those of train, sorted
    dev_share: float = 0.1  # share of train's texts, by their hash, that is carved out where selection or dev needs it


@dataclass(frozen=True)
class Stage:
    """A part of the steps, whose sequences have one length."""

    length: int  # T
    share: float  # of the steps
    masking: Masking


def stages(data: Data) -> tuple[Stage, ...]:
    """The stages of training: one, or two (Devlin et al. 2019, §A.2: 90 % of the steps at 128)."""
    last = Stage(data.length, 1.0, data.masking)
    if data.task or not data.first_length:
        return (last,)
    first = Stage(data.first_length, data.first_share, data.masking)
    return first, replace(last, share=1 - data.first_share)


@dataclass(frozen=True)
class Shape:
    """The batches of a run that have one shape, and so one compiled program."""

    length: int  # T
    predictions: int  # P; 0 of a task
    share: float  # of the steps


def shapes(data: Data) -> tuple[Shape, ...]:
    """The shapes of a run's batches: of each stage the masked ones and the causal ones, if there are such."""
    found, begin = [], 0.0
    for stage in stages(data):
        causal = 0.0 if data.task else data.causal.share * min(max(data.causal.until - begin, 0), stage.share)
        room = 0 if data.task else predictions(stage.masking, stage.length)
        found += [Shape(stage.length, room, stage.share - causal), Shape(stage.length, stage.length - 1, causal)]
        begin += stage.share
    return tuple(shape for shape in found if shape.share > 1e-9)


def has_causal(data: Data) -> bool:
    """Whether some batches are causal."""
    return not data.task and data.causal.share > 0 and data.causal.until > 0


def is_causal(causal: Causal, step: int, steps: int) -> bool:
    """Whether the batch of a step is causal: a share of them, evenly spread over the first part of the run."""
    if step >= round(causal.until * steps):
        return False
    return math.floor((step + 1) * causal.share + 1e-9) > math.floor(step * causal.share + 1e-9)


# How held-out rows are masked: always 15 % of single pieces, 80/10/10 (Devlin et al. 2019, §3.1), or as the run masks at its end.
HELD_OUT_MASKS: dict[str, Callable[[Data], Masking]] = {
    'bert': lambda data: Masking(),
    'training': lambda data: at(data.masking, 1.0),
}
