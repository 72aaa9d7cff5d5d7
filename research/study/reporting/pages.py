"""A report as Markdown and as HTML."""

import base64
from typing import NamedTuple

from research import escape
from research.study.reporting import marks
from research.study.reporting.drawing import Drawn
from research.study.reporting.sheets import Sheet, to_html, to_markdown

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #e4e4e4; text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid #1a1a1a; } .n { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } code { background: #f4f4f4; padding: 0 .2em; white-space: normal; }
"""


class Heading(NamedTuple):
    """The heading of a section of a report."""

    text: str


# Of a report, in reading order: a string is a paragraph, a list one of items; all of their lines have marks (see marks.py).
Block = Heading | str | list[str] | Sheet | Drawn


def write_markdown(title: str, blocks: list[Block]) -> str:
    """report.md."""

    def write(block: Block) -> str:
        match block:
            case Heading(text):
                return f'## {marks.to_markdown(text)}'
            case Sheet():
                return to_markdown(block)
            case Drawn():
                return f'![{marks.to_markdown(block.title)}](figures/{block.name}.png)'
            case str():
                return escape.begin_markdown(marks.to_markdown(block))
        return '\n'.join(f'- {escape.begin_markdown(marks.to_markdown(line))}' for line in block)

    return '\n\n'.join(text for text in (f'# {marks.to_markdown(title)}', *map(write, blocks)) if text) + '\n'


def write_html(title: str, blocks: list[Block]) -> str:
    """report.html: one file, with its figures inside."""

    def write(block: Block) -> str:
        match block:
            case Heading(text):
                return f'<h2>{marks.to_html(text)}</h2>'
            case Sheet():
                return to_html(block)
            case Drawn():
                image, name = base64.b64encode(block.png).decode(), escape.to_html(marks.to_text(block.title))
                return f'<h3>{name}</h3>\n<img alt="{name}" src="data:image/png;base64,{image}">'
            case str():
                return f'<p>{marks.to_html(block)}</p>' if block else ''
        return '<ul>\n' + ''.join(f'<li>{marks.to_html(line)}</li>\n' for line in block) + '</ul>' if block else ''

    body = '\n'.join(text for text in (f'<h1>{marks.to_html(title)}</h1>', *map(write, blocks)) if text)
    head = f'<meta charset="utf-8">\n<title>{escape.to_html(marks.to_text(title))}</title>\n<style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'
