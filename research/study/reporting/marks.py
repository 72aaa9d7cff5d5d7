r"""Lines of a report: text with `code` and **bold**. What came from a file is quoted in them, so that it is neither.

A backslash quotes the character after it. Each place where a line is shown has a writer here, which cleans what lies between marks.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from research import escape


class Span(NamedTuple):
    """A part of a line."""

    text: str
    code: bool = False
    bold: bool = False


def quote(text: str) -> str:
    """`text` as a part of a line, without marks of its own."""
    return re.sub(r'([\\`*])', r'\\\1', escape.flatten(text))


def parse_marks(line: str) -> list[Span]:
    """The spans of a line, none of them empty. A mark without its partner reaches to the end."""
    found: list[Span] = []
    code = bold = False
    text = ''
    for part in re.findall(r'\\.|\*\*|`|[^\\*`]+|.', re.sub(r'\s+', ' ', line)):
        if part != '`' and (part != '**' or code):
            text += part[1:] if part[0] == '\\' and len(part) > 1 else part
            continue
        found += [Span(text, code, bold)] if text else []
        text = ''
        code, bold = (not code, bold) if part == '`' else (code, not bold)
    return found + ([Span(text, code, bold)] if text else [])


def _join(spans: list[Span], plain: Callable[[str], str], code: tuple[str, str], bold: tuple[str, str]) -> str:
    """The spans written by `plain`, those of code and in bold between the given marks."""
    texts = []
    for span in spans:
        text = _keep_ends(span.text, plain)
        text = f'{code[0]}{text}{code[1]}' if span.code else text
        texts.append(f'{bold[0]}{text}{bold[1]}' if span.bold else text)
    return ''.join(texts)


def _keep_ends(text: str, write: Callable[[str], str]) -> str:
    """`write(text)`, which drops spaces at the ends, with these."""
    return ' ' * text.startswith(' ') + write(text) + ' ' * (text.endswith(' ') and len(text) > 1)


def to_html(line: str) -> str:
    """A line as HTML."""
    return _join(parse_marks(line), escape.to_html, ('<code>', '</code>'), ('<b>', '</b>'))


def to_markdown(line: str, table: bool = False) -> str:
    """A line as GitHub's Markdown; `table`: as a cell."""

    def write(span: Span) -> str:
        text = escape.to_markdown_code(span.text) if span.code else _keep_ends(span.text, lambda x: escape.to_markdown(x, table))
        return f'**{text}**' if span.bold else text

    return ''.join(map(write, parse_marks(line)))


def to_latex(line: str) -> str:
    """A line as LaTeX, without code and bold."""
    return _join([Span(''.join(span.text for span in parse_marks(line)))], escape.to_latex, ('', ''), ('', ''))


def to_text(line: str) -> str:
    """A line for the terminal, without code and bold."""
    return escape.clean(''.join(span.text for span in parse_marks(line)))
