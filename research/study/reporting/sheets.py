"""A table of lines, written as Markdown, HTML or LaTeX."""

import dataclasses

from research import escape
from research.study.reporting import marks


@dataclasses.dataclass(frozen=True)
class Entry:
    """One cell: a line (see marks.py), set in bold if `bold`, and a remark that never is."""

    text: str
    remark: str = ''
    bold: bool = False


@dataclasses.dataclass(frozen=True)
class Sheet:
    """Titles, which are lines too, and rows of entries. The first `left` columns are texts, the others numbers, aligned right."""

    titles: tuple[str, ...]
    lines: tuple[tuple[Entry, ...], ...]
    left: int


def to_markdown(sheet: Sheet) -> str:
    """A GitHub table."""

    def entry(each: Entry) -> str:
        text = marks.to_markdown(each.text, table=True)
        return (f'**{text}**' if each.bold else text) + marks.to_markdown(each.remark, table=True)

    head = [marks.to_markdown(title, table=True) for title in sheet.titles]
    rule = [':---'] * sheet.left + ['---:'] * (len(sheet.titles) - sheet.left)
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in (head, rule, *(map(entry, line) for line in sheet.lines)))


def to_html(sheet: Sheet) -> str:
    """An HTML table."""

    def cell(tag: str, place: int, inner: str) -> str:
        return f'<{tag}{"" if place < sheet.left else " class=n"}>{inner}</{tag}>'

    def entry(each: Entry) -> str:
        text = marks.to_html(each.text)
        return (f'<b>{text}</b>' if each.bold else text) + marks.to_html(each.remark)

    head = ''.join(cell('th', place, marks.to_html(title)) for place, title in enumerate(sheet.titles))
    body = ''.join(
        '<tr>' + ''.join(cell('td', place, entry(each)) for place, each in enumerate(line)) + '</tr>\n' for line in sheet.lines
    )
    return f'<div class=wide><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>'


def to_latex(sheet: Sheet, title: str, notes: list[str]) -> str:
    """A `table` of LaTeX for the package booktabs."""

    def entry(each: Entry) -> str:
        text = marks.to_latex(each.text)
        return (rf'\textbf{{{text}}}' if each.bold else text) + marks.to_latex(each.remark)

    lines = [
        r'% \usepackage{booktabs}',
        escape.OTHER,
        r'\begin{table}',
        r'  \centering',
        rf'  \caption{{{marks.to_latex(title)}. {" ".join(map(marks.to_latex, notes))}}}',
        rf'  \begin{{tabular}}{{{"l" * sheet.left}{"r" * (len(sheet.titles) - sheet.left)}}}',
        r'    \toprule',
        '    ' + ' & '.join(map(marks.to_latex, sheet.titles)) + r' \\',
        r'    \midrule',
        *('    ' + ' & '.join(map(entry, line)) + r' \\' for line in sheet.lines),
        r'    \bottomrule',
        r'  \end{tabular}',
        r'\end{table}',
    ]
    return '\n'.join(lines) + '\n'
