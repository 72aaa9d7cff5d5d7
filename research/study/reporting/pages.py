"""A report as Markdown and as HTML."""

import base64
from typing import NamedTuple

from research.study.reporting.drawing import Drawn
from research.study.reporting.sheets import Sheet, inline, markdown, web

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #e4e4e4; text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid #1a1a1a; } .n { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } code { background: #f4f4f4; padding: 0 .2em; white-space: normal; }
"""


class Heading(NamedTuple):
    """What begins a section of a report."""

    text: str


Part = Heading | str | list[str] | Sheet | Drawn  # of a report, as it is read: a list is one of items


def as_markdown(title: str, parts: list[Part]) -> str:
    """report.md."""

    def block(part: Part) -> str:
        match part:
            case Heading(text):
                return f'## {text}'
            case Sheet():
                return markdown(part)
            case Drawn():
                return f'![{part.title}](figures/{part.name}.png)'
            case str():
                return part
        return '\n'.join(f'- {line}' for line in part)

    return '\n\n'.join(text for text in (f'# {title}', *map(block, parts)) if text) + '\n'


def as_html(title: str, parts: list[Part]) -> str:
    """report.html: one file, with its figures inside."""

    def block(part: Part) -> str:
        match part:
            case Heading(text):
                return f'<h2>{inline(text)}</h2>'
            case Sheet():
                return web(part)
            case Drawn():
                image, name = base64.b64encode(part.png).decode(), inline(part.title)
                return f'<h3>{name}</h3>\n<img alt="{name}" src="data:image/png;base64,{image}">'
            case str():
                return f'<p>{inline(part)}</p>' if part else ''
        return '<ul>\n' + ''.join(f'<li>{inline(line)}</li>\n' for line in part) + '</ul>' if part else ''

    body = '\n'.join(text for text in (f'<h1>{inline(title)}</h1>', *map(block, parts)) if text)
    head = f'<meta charset="utf-8">\n<title>{inline(title)}</title>\n<style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'
