"""A report as Markdown and as HTML."""

import base64
from typing import NamedTuple

from research.study.reporting.drawing import Drawn
from research.study.reporting.sheets import Sheet, to_html, to_inline_html, to_markdown

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


Block = Heading | str | list[str] | Sheet | Drawn  # of a report, in reading order; a list is a list of items


def write_markdown(title: str, blocks: list[Block]) -> str:
    """report.md."""

    def write(block: Block) -> str:
        match block:
            case Heading(text):
                return f'## {text}'
            case Sheet():
                return to_markdown(block)
            case Drawn():
                return f'![{block.title}](figures/{block.name}.png)'
            case str():
                return block
        return '\n'.join(f'- {line}' for line in block)

    return '\n\n'.join(text for text in (f'# {title}', *map(write, blocks)) if text) + '\n'


def write_html(title: str, blocks: list[Block]) -> str:
    """report.html: one file, with its figures inside."""

    def write(block: Block) -> str:
        match block:
            case Heading(text):
                return f'<h2>{to_inline_html(text)}</h2>'
            case Sheet():
                return to_html(block)
            case Drawn():
                image, name = base64.b64encode(block.png).decode(), to_inline_html(block.title)
                return f'<h3>{name}</h3>\n<img alt="{name}" src="data:image/png;base64,{image}">'
            case str():
                return f'<p>{to_inline_html(block)}</p>' if block else ''
        return '<ul>\n' + ''.join(f'<li>{to_inline_html(line)}</li>\n' for line in block) + '</ul>' if block else ''

    body = '\n'.join(text for text in (f'<h1>{to_inline_html(title)}</h1>', *map(write, blocks)) if text)
    head = f'<meta charset="utf-8">\n<title>{to_inline_html(title)}</title>\n<style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'
