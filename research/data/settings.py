"""What a run learns from: the part of an experiment that `research.data` reads."""

from dataclasses import dataclass

from research.data.masking import Masking


@dataclass(frozen=True)
class Data:
    """Text, tokenizer, and how sequences are made of them; with `task`, the examples of a supervised task instead."""

    source: str = 'docstrings'  # row of SOURCES, with its argument after a colon: 'text:GLOB', 'jsonl:GLOB'
    field: str = 'text'  # the field of a JSON line that holds a document
    tokenizer: str = 'wordpiece'  # row of KINDS, trained on the source; else the path of a vocab.txt, tokenizer.json or run folder
    lowercase: bool = True  # for a trained tokenizer or a vocab.txt; a tokenizer.json has its own rules
    length: int = 128  # T, pieces of a sequence, special ones included
    pairs: str = 'none'  # none; nsp: is B what follows A? (Devlin et al. 2019); sop: are A and B in order? (Lan et al. 2020)
    short: float = 0.1  # with pairs, the share of sequences whose length is drawn anew between 2 and T (Devlin et al. 2019, §A.2)
    held_out: float = 0.05  # share of the documents that are evaluated on and never trained on, by the hash of their text
    masking: Masking = Masking()
    task: str = ''  # '' is pretraining; else row of TASKS
    train: str = ''  # task `custom`: a .tsv (with a header) or .jsonl file, plain, .gz or .xz
    dev: str = ''  # task `custom`: '' carves it out of train
    test: str = ''  # task `custom`: '' for none
    text: str = 'sentence'  # task `custom`: the column of the text
    pair: str = ''  # task `custom`: the column of a second text, or '' for single texts
    label: str = 'label'  # task `custom`: the column of the label
    labels: tuple[str, ...] = ()  # task `custom`: the labels in their order; () is those of train, sorted
    dev_share: float = 0.1  # task `custom`: share of train's texts that become dev when there is no dev file
    cache: str = 'runs/cache'  # folder of prepared corpora and trained tokenizers; safe to delete
    prefetch: int = 8  # batches made ahead by threads while the model computes; 0 makes each when asked
