"""Text that came from a file, made harmless for the place where it is shown: terminal, HTML, Markdown, LaTeX, a figure, a table."""

import html
import re
import unicodedata
from collections.abc import Sequence

SHOWN = 4000  # characters of a message; a path or a value may be as long as a stranger likes
DRAWN = 80  # characters of a title in a figure
# Control characters (ESC, newlines …), line and paragraph separators, directional marks and overrides, halves of surrogate pairs.
# Joiners (U+200C, U+200D) are none: words of many languages need them.
HARMFUL = re.compile('[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]')


def clean(text: str, size: int = SHOWN) -> str:
    """`text` on one line of at most `size` characters; each character that moves the cursor, or reorders text, as its number.

    These are those of HARMFUL. What lies in the middle of a long text is left out.
    """
    if len(text) > size:
        text = f'{text[: size * 2 // 3]} … {text[len(text) - size // 4 :]}'
    return HARMFUL.sub(lambda found: f'\\x{ord(found[0]):02x}', text)


def to_json(text: str) -> str:
    """The same JSON on one line, safe to print: characters of HARMFUL as their numbers."""
    return HARMFUL.sub(lambda found: f'\\u{ord(found[0]):04x}', text)


def flatten(text: str, size: int = SHOWN) -> str:
    """`text` as one line of a document: runs of spaces and newlines are one space, and the rest is clean."""
    return clean(' '.join(text.split()), size)


SECRET = re.compile(r'(?i)(^|[^a-z0-9])(tokens?|keys?|apikey|passwords?|passwd|secrets?|credentials?)$')
NAMED = re.compile(r'([\w.-]+)=([^,;\s&]+)')  # name=value, several of them in one argument
SHAPES = re.compile(r'(?<![A-Za-z0-9])(hf_|gh[a-z]_|github_pat_|glpat-|sk-|xox[a-z]-|AKIA)[\w-]{12,}')  # of services' tokens


def hide_secrets(arguments: Sequence[str]) -> list[str]:
    """A command line for the record: environment variables of jobs, tokens, keys and passwords are '…'."""
    found: list[str] = []
    for place, argument in enumerate(arguments):
        before = arguments[place - 1] if place else ''
        if before.startswith('--') and '=' not in before and SECRET.search(before) and not argument.startswith('--'):
            argument = '…'
        argument = re.sub(r'^((--sbatch=)?(--)?export=).*', r'\1…', argument, flags=re.DOTALL)
        argument = NAMED.sub(lambda pair: f'{pair[1]}=…' if SECRET.search(pair[1]) else pair[0], argument)
        argument = re.sub(r'://[^/@\s]+@', '://…@', argument)
        found.append(SHAPES.sub('…', argument))
    return found


def to_html(text: str) -> str:
    """Text of HTML, which may also stand in an attribute between quotes."""
    return html.escape(flatten(text), quote=True)


# ---- Markdown -------------------------------------------------------------------------------------------------------------------


def to_markdown(text: str, table: bool = False) -> str:
    """Text of GitHub's Markdown, without markup, links or tags of its own; `table`: for a cell."""
    text = re.sub(r'([\\`*\[\]~$])', r'\\\1', flatten(text))
    text = re.sub(r'(?<!\w)_|_(?!\w)', r'\\_', text)
    text = re.sub(r'&(?=[#\w])', '&amp;', text).replace('<', '&lt;')
    return text.replace('|', r'\|') if table else text


def to_markdown_code(text: str) -> str:
    """Text as code of GitHub's Markdown, in a cell too."""
    text = flatten(text)
    if not set(text) & set('`|\\'):
        return f'`{text}`' if text else ''
    spelt = re.sub(r'[^\w \-.,:;/=+()]', lambda found: f'&#{ord(found[0])};', text)
    return f'<code>{spelt}</code>'


def begin_markdown(line: str) -> str:
    """A line of Markdown that begins no heading, list, quotation or rule."""
    return re.sub(r'^(\d*)([#+\-=>]|(?<=\d)[.)])', r'\1\\\2', line)


# ---- LaTeX ----------------------------------------------------------------------------------------------------------------------

LATEX = {
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
    '<': r'\textless{}',
    '>': r'\textgreater{}',
    '|': r'\textbar{}',
    '±': r'$\pm$',
    '↑': r'$\uparrow$',
    '↓': r'$\downarrow$',
    '→': r'$\rightarrow$',
    '←': r'$\leftarrow$',
    '†': r'$\dagger$',
    '—': '---',
    '–': '--',
    '−': '$-$',
    '×': r'$\times$',
    '·': r'$\cdot$',
    '≤': r'$\leq$',
    '≥': r'$\geq$',
    '≈': r'$\approx$',
    '≠': r'$\neq$',
    '∞': r'$\infty$',
    '°': r'$^\circ$',
    '²': r'$^2$',
    '³': r'$^3$',
    '…': r'\ldots{}',
    '‘': '`',
    '’': "'",
    '“': '``',
    '”': "''",
    'ß': r'\ss{}',
    'æ': r'\ae{}',
    'Æ': r'\AE{}',
    'ø': r'\o{}',
    'Ø': r'\O{}',
    'œ': r'\oe{}',
    'Œ': r'\OE{}',
    'ł': r'\l{}',
    'Ł': r'\L{}',
    'ı': r'\i{}',
    '\u00a0': '~',
}
GREEK = 'alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi - pi rho - sigma tau upsilon phi chi psi omega'
LATEX |= {chr(0x3B1 + place): f'$\\{name}$' for place, name in enumerate(GREEK.split()) if name != '-'}
CAPITALS = {'Γ': 'Gamma', 'Δ': 'Delta', 'Θ': 'Theta', 'Λ': 'Lambda', 'Ξ': 'Xi', 'Π': 'Pi', 'Σ': 'Sigma', 'Φ': 'Phi', 'Ψ': 'Psi'}
LATEX |= {letter: f'$\\{name}$' for letter, name in (CAPITALS | {'Ω': 'Omega', 'Υ': 'Upsilon'}).items()}
# Combining marks -> LaTeX's accents.
ACCENTS = {
    '\u0300': '`',
    '\u0301': "'",
    '\u0302': '^',
    '\u0303': '~',
    '\u0304': '=',
    '\u0306': 'u',
    '\u0307': '.',
    '\u0308': '"',
    '\u030a': 'r',
    '\u030b': 'H',
    '\u030c': 'v',
    '\u0327': 'c',
}
# What `to_latex` writes for all other letters: themselves where the program knows all of Unicode, else their numbers.
OTHER = r'\providecommand{\otherletter}[2]{\ifdefined\Umathchar #1\else #2\fi}'


def to_latex(text: str) -> str:
    """Text of LaTeX, which may also begin a row of a table; letters that pdflatex lacks need the definition OTHER."""
    text = unicodedata.normalize('NFC', flatten(text)).replace('--', '-\u200b-')  # else a dash
    found = ''.join(_spell_latex(letter) for letter in text)
    return '{}' + found if found.startswith(('[', '*')) else found


def _spell_latex(letter: str) -> str:
    if letter in LATEX:
        return LATEX[letter]
    if letter == '\u200b':
        return '{}'
    if ' ' <= letter <= '~':
        return letter
    base, mark = (*unicodedata.normalize('NFD', letter), '', '')[:2]
    if base.isascii() and base.isalpha() and mark in ACCENTS and len(unicodedata.normalize('NFD', letter)) == 2:
        return f'\\{ACCENTS[mark]}{{{base}}}'
    return rf'\otherletter{{{letter}}}{{U+{ord(letter):04X}}}'


# ---- Figures and tables of numbers ----------------------------------------------------------------------------------------------


def to_figure(text: str) -> str:
    """Text of a figure of matplotlib: short, and without formulas of its own."""
    return flatten(text, DRAWN).replace('$', r'\$')


def to_csv(text: str) -> str:
    """A cell of a CSV file, which a spreadsheet never takes for a formula."""
    text = flatten(text)
    return f"'{text}" if text.startswith(('=', '+', '-', '@')) else text
