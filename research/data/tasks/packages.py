"""The embedded task: which package does a docstring come from?"""

import re
from pathlib import Path

from research.data.docstrings import digest, passages
from research.data.settings import Data
from research.data.tasks.example import Example, Printed, Task

# The classes of the task `packages`: those top-level packages with the most English, in the order of their names.
LABELS = ('flax', 'huggingface_hub', 'jax', 'matplotlib', 'numpy', 'pandas', 'scipy', 'sklearn', 'stdlib')
# Names that would reveal a class; they are taken out of every text.
NAMES = re.compile(
    r'\b(?:flax|linen|nnx|hugging ?face(?:_hub)?|the hub|hub|jax|jaxlib|jnp|lax|xla|matplotlib|mpl|pyplot|plt|numpy|np|pandas|pd|'
    r'scipy|sklearn|scikit[- ]learn|stdlib|python|cpython)\b[.]?',
    re.IGNORECASE,
)
CAPS = {'train': 600, 'dev': 120, 'test': 120}  # examples of a class, at most
SHORTEST, LONGEST = 8, 120  # words of an example


def examples(cache: str | Path) -> dict[str, list[tuple[str, str]]]:
    """(text, package) of each example, by split: train, dev, test.

    All docstrings of a module lie in one split (0.7, 0.15, 0.15 of the modules, by the hash of their name). No text
    occurs twice, NAMES are taken out, and CAPS limit each class, so that classes are nearly balanced.
    """
    splits: dict[str, list[tuple[str, str]]] = {split: [] for split in CAPS}
    room = {(split, label): cap for split, cap in CAPS.items() for label in LABELS}
    seen = set()
    # In the order of their hashes, so that CAPS keep a sample of a package, not its first modules.
    for passage in sorted(passages(cache), key=lambda passage: digest(passage.module, *passage.paragraphs)):
        if passage.package not in LABELS or ':' in passage.module:
            continue
        words = NAMES.sub('', ' '.join(passage.paragraphs)).split()[:LONGEST]
        text = ' '.join(words)
        draw = int(digest(passage.module), 16) / 16**64
        split = 'train' if draw < 0.7 else 'dev' if draw < 0.85 else 'test'
        if len(words) >= SHORTEST and text.lower() not in seen and room[split, passage.package]:
            seen.add(text.lower())
            room[split, passage.package] -= 1
            splits[split].append((text, passage.package))
    return splits


def splits(data: Data, cache: str) -> dict[str, list[Example]]:
    """The splits as Examples."""
    del data
    return {split: [Example(text, '', label) for text, label in members] for split, members in examples(cache).items()}


PACKAGES = Task(
    'label',
    labels=lambda data: LABELS,
    splits=splits,
    reported='test',
    printed=(Printed('packages', what='accuracy of naming the package that a docstring comes from, on the test split'),),
)
