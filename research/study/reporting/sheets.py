"""A table of texts, written as Markdown, HTML or LaTeX."""

import dataclasses
import html
import re

ESCAPES = {  # letter -> LaTeX
    '\\': r'\textbackslash{}',
    '&': r'\&',
    '%': r'\%',
    '$': r'\$',
    '#': r'\#',
    '_': r'\_',
    '{': r'\{',
    '}': r'\}',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    '±': r'$\pm$',
    '↑': r'$\uparrow$',
    '↓': r'$\downarrow$',
    '†': r'$\dagger$',
    '—': '---',
    'Δ': r'$\Delta$',
    '−': '$-$',
    '×': r'$\times$',
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One cell: a text, set in bold if `bold`, and a remark that never is."""

    text: str
    remark: str = ''
    bold: bool = False


@dataclasses.dataclass(frozen=True)
class Sheet:
    """Titles, and lines of entries. The first `left` columns are texts; the others are numbers, aligned right."""

    titles: tuple[str, ...]
    lines: tuple[tuple[Entry, ...], ...]
    left: int


def to_markdown(sheet: Sheet) -> str:
    """A GitHub table."""
    marks = [':---'] * sheet.left + ['---:'] * (len(sheet.titles) - sheet.left)
    rows = [[(f'**{each.text}**' if each.bold else each.text) + each.remark for each in line] for line in sheet.lines]
    return '\n'.join('| ' + ' | '.join(text.replace('|', r'\|') for text in line) + ' |' for line in (sheet.titles, marks, *rows))


def to_html(sheet: Sheet) -> str:
    """An HTML table."""

    def cell(tag: str, place: int, inner: str) -> str:
        return f'<{tag}{"" if place < sheet.left else " class=n"}>{inner}</{tag}>'

    def entry(each: Entry) -> str:
        text = to_inline_html(each.text)
        return (f'<b>{text}</b>' if each.bold else text) + to_inline_html(each.remark)

    head = ''.join(cell('th', place, to_inline_html(title)) for place, title in enumerate(sheet.titles))
    body = ''.join(
        '<tr>' + ''.join(cell('td', place, entry(each)) for place, each in enumerate(line)) + '</tr>\n' for line in sheet.lines
    )
    return f'<div class=wide><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>'


def to_inline_html(text: str) -> str:
    """Markdown's `code` and **bold** as HTML, the rest escaped."""
    text = re.sub(r'`([^`]*)`', r'<code>\1</code>', html.escape(text, quote=False))
    return re.sub(r'\*\*(.+?)\*\*', r'<b>\1</b>', text)


def to_latex(sheet: Sheet, title: str, notes: list[str]) -> str:
    """A `table` of LaTeX for the package booktabs."""

    def entry(each: Entry) -> str:
        text = escape_latex(each.text)
        return (rf'\textbf{{{text}}}' if each.bold else text) + escape_latex(each.remark)

    lines = [
        r'% \usepackage{booktabs}',
        r'\begin{table}',
        r'  \centering',
        rf'  \caption{{{escape_latex(title)}. {" ".join(escape_latex(strip_marks(note)) for note in notes)}}}',
        rf'  \begin{{tabular}}{{{"l" * sheet.left}{"r" * (len(sheet.titles) - sheet.left)}}}',
        r'    \toprule',
        '    ' + ' & '.join(map(escape_latex, sheet.titles)) + r' \\',
        r'    \midrule',
        *('    ' + ' & '.join(map(entry, line)) + r' \\' for line in sheet.lines),
        r'    \bottomrule',
        r'  \end{tabular}',
        r'\end{table}',
    ]
    return '\n'.join(lines) + '\n'


def escape_latex(text: str) -> str:
    """A text with the letters that LaTeX reserves escaped."""
    return ''.join(ESCAPES[letter] if letter in ESCAPES else letter for letter in text)


def strip_marks(text: str) -> str:
    """A text without Markdown's marks."""
    return text.replace('**', '').replace('`', '')
