"""Changes to a text before it is cut: named cleaners, each a function of one paragraph."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

# Replaces a word that the text itself leaves out. No trained vocabulary has it, so that it becomes the unknown piece.
MISSING = '\ufffc'


@dataclass(frozen=True)
class Cleaner:
    """How one kind of text becomes plain paragraphs."""

    paragraph: Callable[[str], str]  # a paragraph -> the cleaned one; '' leaves it out
    # Whether a line is the title of a document: then only titles separate documents, and blank lines do not.
    title: Callable[[str], bool] | None = None


TITLE = re.compile(r'= (?!=)(.*[^=\s])? =')
HEADING = re.compile(r'(= )+.*( =)+')
NUMERIC = re.compile(r' @([-,.])@ ')
JOINED = re.compile(r"(?<=[(\[]) | (?=[)\],.;:!?%])| (?='(?:s|re|ve|ll|d|m)\b)")


def is_title(line: str) -> bool:
    """Whether a line of WikiText is ` = Title = `; sections have two equals signs or more."""
    return TITLE.fullmatch(line.strip()) is not None


def wikitext(paragraph: str) -> str:
    """A paragraph of WikiText (Merity et al. 2017) as plain text; headings are left out (Devlin et al. 2019, §3.1).

    `@-@`, `@,@` and `@.@` are joined again, punctuation marks are joined to the words beside them, and `<unk>` becomes
    MISSING.
    """
    paragraph = paragraph.strip()
    if HEADING.fullmatch(paragraph):
        return ''
    return JOINED.sub('', NUMERIC.sub(r'\1', paragraph)).replace('<unk>', MISSING)


# Characters that ALBERT's 30,000 pieces, learned from text in ASCII, do not have -> the ASCII for them.
ASCII = {
    **dict.fromkeys('‘’‚‛′ʼ', "'"),
    **dict.fromkeys('“”„‟″«»', '"'),
    **dict.fromkeys('‐‑‒–−', '-'),
    **dict.fromkeys('—―⸺⸻', ' - '),
    '…': '...',
    '•': '-',
    '⁄': '/',
    **dict.fromkeys('\u200b\u200c\u200d\u2060\ufeff\u00ad', ''),
}
MAPPED = re.compile(f'[{"".join(ASCII)}]')


def ascii_punctuation(paragraph: str) -> str:
    """A paragraph with the quotes, dashes and ellipses of ASCII; invisible joiners and soft hyphens are left out."""
    return paragraph if paragraph.isascii() else MAPPED.sub(lambda match: ASCII[match.group()], paragraph)


CLEANERS = {
    'wikitext': Cleaner(wikitext, is_title),
    'ascii_punctuation': Cleaner(ascii_punctuation),
}


def clean(paragraphs: Iterable[str], names: Iterable[str]) -> list[str]:
    """The cleaned paragraphs of a document, with single white space and without empty ones."""
    for name in names:
        paragraphs = map(CLEANERS[name].paragraph, paragraphs)
    return [text for text in (' '.join(paragraph.split()) for paragraph in paragraphs) if text]
