"""From a docstring to English: its paragraphs of sentences."""

import re
from collections.abc import Iterator

RULE = re.compile(r'^\s*([-=~^*"#+._])\1{2,}\s*$')  # the line under (or over) a heading
SKIPPED = re.compile(r'^(see also|references|methods|bibliography)\b', re.IGNORECASE)  # sections of names, not of sentences
HEADING = re.compile(
    r'^\s*(args|arguments|attributes|examples?|notes?|parameters|raises|returns?|yields|usage|kwargs|warnings?):{1,2}$',
    re.I,
)
CODE_DIRECTIVE = re.compile(
    r'^\s*\.\. *(code|code-block|sourcecode|ipython|math|plot|doctest|testcode|testsetup|testoutput|table|list-table|'
    r'csv-table|image|figure|toctree|autosummary|currentmodule|\[|_)'
)
DIRECTIVE = re.compile(r'^\s*\.\. *[\w-]+::?.*$')
# `name : type` of a numpy table, `name: type` of another, or a field list
ENTRY = re.compile(r'^\s*[*\w.`\'",() \[\]-]+ : |^\s*[*\w.]+: [\w.|\[\]]+(?: [\w.|\[\]]+){0,2}(?<!\.)$|^\s*:\w+:')
GOOGLE = re.compile(r'^\s*\*{0,2}[\w.]+\*{0,2}(?: \([^)]*\))?: +(?=[A-Z`"])')  # `name (type): Description`
FIELD = re.compile(r'^\s*:(?:param|parameter|arg|raises?|returns?|return|keyword|type|rtype|var|ivar)[^:]*: *')
BULLET = re.compile(r'^\s*(?:[-*+•o]|\(?\d{1,2}[.)]|\[\d+\]_?)\s+')
MARKUP = (
    (re.compile(r':[\w:+-]+:`~?([^`<]*?)(?:\s*<[^`>]*>)?`'), r'\1'),  # :func:`~a.b` and :doc:`text <target>`
    (re.compile(r'`([^`<]*?)\s*<[^`>]*>`__?'), r'\1'),  # `text <link>`_
    (re.compile(r'!?\[([^\]]*)\]\([^)]*\)'), r'\1'),  # [text](link)
    (re.compile(r'\s*\[[\w., +-]{1,24}\]_'), ''),  # [1]_
    (re.compile(r'`{1,3}([^`]*)`{1,3}_{0,2}'), r'\1'),
    (re.compile(r'\*{1,2}([^*\s](?:[^*]*[^*\s])?)\*{1,2}'), r'\1'),
    (re.compile(r'\|(\w[\w ]*)\|'), r'\1'),
    (re.compile(r'\\s\b|(?<!\S)~(?=[.\w])'), ''),  # `.Axes`\s and ~.axes.Axes
    (re.compile(r'<?https?://\S+'), ''),
    (re.compile(r'::(?=\s|$)'), ':'),
    (re.compile(r'\s+'), ' '),
    (re.compile(r' +([,.;:!?)])(?=\s|$)'), r'\1'),
)
LETTERS = re.compile(r'[A-Za-z]')
WORD = re.compile(r"(?<![\w.])[A-Za-z][a-z]*(?:[-'’][a-z]+)*(?![\w(=/])")
STRANGE = re.compile(r'>>>|::=|%\(|\{\w*\}|\\[a-z]+\{|[=<>|]{2,}|\w\[\w*:|[│─═╔╗█▔\x00-\x08]|----|\.{4,}|\$\{|</|/>|#!|\b\w+\(\w+=')
SENTENCES = re.compile(r'^["\'“‘(]?[A-Z0-9].*[.!?:]["\'”’)]*$', re.DOTALL)


def english(text: str) -> Iterator[str]:
    """The paragraphs of sentences in a docstring, markup taken out and white space made single."""
    for paragraph in paragraphs(text):
        for pattern, replacement in MARKUP:
            paragraph = pattern.sub(replacement, paragraph)
        paragraph = paragraph.strip()
        if is_english(paragraph):
            yield paragraph


def is_english(paragraph: str) -> bool:
    """Whether a paragraph begins and ends as a sentence does, and is mostly plain words."""
    tokens = paragraph.split()
    return (
        len(tokens) >= 5
        and SENTENCES.match(paragraph) is not None
        and STRANGE.search(paragraph) is None
        and len(LETTERS.findall(paragraph)) >= 0.7 * len(paragraph)
        and len(WORD.findall(paragraph)) >= 0.75 * len(tokens)
    )


def paragraphs(text: str) -> Iterator[str]:
    """Blocks of lines that may be prose: without headings, tables, doctests, literal blocks, signatures and skipped sections."""
    lines = text.expandtabs().splitlines()
    block: list[str] = []
    literal = -1  # the indentation that a literal block is deeper than, or -1 outside
    doctest = fenced = skipped = False
    for number, line in enumerate([*lines, '']):
        bare = line.strip()
        indent = len(line) - len(line.lstrip())
        below = lines[number + 1] if number + 1 < len(lines) else ''
        if bare.startswith('```'):
            fenced = not fenced
        heading = bool(bare) and RULE.match(below) is not None and not RULE.match(line)
        if heading:
            skipped = SKIPPED.match(bare) is not None
        if bare and literal >= 0 and indent <= literal:
            literal = -1
        doctest = bool(bare) and (doctest or bare.startswith(('>>>', 'In [')))
        code = fenced or doctest or skipped or literal >= 0
        markup = heading or RULE.match(line) or HEADING.match(line) or DIRECTIVE.match(line) or bare.startswith(('```', '|', '+-'))
        entry = FIELD.match(line) or GOOGLE.match(line) or BULLET.match(line)
        if not bare or code or markup or entry or ENTRY.match(line):
            if block:
                yield ' '.join(block)
            block = []
        if not bare or code:
            continue
        if CODE_DIRECTIVE.match(line) or bare.endswith('::'):
            literal = indent
        if entry:
            block = [line[entry.end() :].strip()]
        elif not markup and not ENTRY.match(line):
            block.append(bare)
