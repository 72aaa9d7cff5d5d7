"""What is known of data once they are read: a record of each kind, as run folders and the cache keep it in JSON."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CorpusFacts:
    """What is known of one corpus: its facts.json."""

    fingerprint: str  # of the documents, the pieces and the share that is held out
    source: str
    dtype: str  # of the ids on disk
    documents: int  # of train, as are tokens and sentences
    tokens: int
    sentences: int
    held_out_documents: int
    held_out_tokens: int
    duplicates: int  # documents left out
    unknown_rate: float  # share of all pieces that are unknown
    unigram_entropy: float  # nats
    lengths: dict[str, list[int]]  # how many documents and sentences have how many pieces, by powers of two
    records: dict[str, list[int]]  # sections in each shard, by part
    sizes: dict[str, int]  # bytes of each file
    checksums: dict[str, int]  # CRC-32 of each file but the shards, which have their own


@dataclass(frozen=True)
class MaskedFacts:
    """What is known of the corpora that a run pretrains on. Of several, what cannot be added up is None; see `sources`."""

    fingerprint: str
    source: str
    documents: int
    tokens: int
    sentences: int
    held_out_documents: int
    held_out_tokens: int
    duplicates: int
    unknown_rate: float
    unigram_entropy: float  # nats: the loss of a model that knows only how frequent pieces are
    tokenizer_fingerprint: str
    pieces: int  # of the tokenizer
    examples: int  # sequences of an epoch; of the steps' mean epoch where there are two stages
    dtype: str | None = None
    lengths: dict[str, list[int]] | None = None
    records: dict[str, list[int]] | None = None
    sizes: dict[str, int] | None = None
    checksums: dict[str, int] | None = None
    sources: list[dict[str, Any]] | None = None  # of several corpora, the CorpusFacts of each with its weight
    # Nats: the held-out loss of a model that knows the frequencies and sees the piece shown; None where rare pieces are favoured.
    contextless: float | None = None
    labels: None = None


@dataclass(frozen=True)
class SupervisedFacts:
    """What is known of a task's examples."""

    fingerprint: str  # of the examples of all splits
    source: str  # the name of the task
    documents: int  # examples of all splits
    tokens: int
    unknown_rate: float
    labels: list[str] | None  # in the order of their numbers
    selects: str  # the split that selects checkpoints; '' is none
    selection: str  # the same in words
    reported: str  # the split whose score is reported; '' is none
    notices: list[str]  # what a reader of the scores should know: missing splits, other sizes, examples left out
    tokenizer_fingerprint: str
    pieces: int  # of the tokenizer
    examples: int  # rows of train
    unigram_entropy: None = None
    contextless: None = None
