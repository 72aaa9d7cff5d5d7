"""Text of strangers on a terminal, in a document, in a figure and in a record."""

import json

import pytest

from research import escape
from research.escape import clean


@pytest.mark.parametrize(
    ('text', 'shown'),
    [
        ('naïve 名前 😀', 'naïve 名前 😀'),
        ('a\x1b[31mb', r'a\x1b[31mb'),
        ('a\nb\r\tc', r'a\x0ab\x0d\x09c'),
        ('a\u202eb\u2028', r'a\x202eb\x2028'),
        ('a\ud800', r'a\xd800'),
        ('a\u061cb\u200ec\u200f', r'a\x61cb\x200ec\x200f'),
        ('می\u200cخواهم 👩\u200d🔬', 'می\u200cخواهم 👩\u200d🔬'),  # joiners
    ],
)
def test_control_characters_become_numbers(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_json_keeps_its_value_and_loses_its_control_characters() -> None:
    value = {'label\x9b31m': 'a\u202e\x7f"\\ é'}
    shown = escape.to_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(shown) == value and not escape.HARMFUL.search(shown) and 'é' in shown


def test_a_long_text_keeps_its_ends() -> None:
    shown = clean('a' * 5000 + 'b' * 5000, 100)
    assert shown.startswith('aaa') and shown.endswith('bbb') and len(shown) <= 100


@pytest.mark.parametrize(
    ('text', 'html', 'markdown', 'latex', 'csv'),
    [
        ('plain (%)', 'plain (%)', 'plain (%)', r'plain (\%)', 'plain (%)'),
        ('" onload="x', '&quot; onload=&quot;x', '" onload="x', '" onload="x', '" onload="x'),
        ('<b>&amp;', '&lt;b&gt;&amp;amp;', '&lt;b>&amp;amp;', r'\textless{}b\textgreater{}\&amp;', '<b>&amp;'),
        ('a\n\nb\t c', 'a b c', 'a b c', 'a b c', 'a b c'),
        ('[x](y) *z* _w_ a_b', '[x](y) *z* _w_ a_b', r'\[x\](y) \*z\* \_w\_ a_b', r'{}[x](y) *z* \_w\_ a\_b', '[x](y) *z* _w_ a_b'),
        ('=1+1', '=1+1', '=1+1', '=1+1', "'=1+1"),
        ('-x', '-x', '-x', '-x', "'-x"),
        ('@x', '@x', '@x', '@x', "'@x"),
        ('+x', '+x', '+x', '+x', "'+x"),
        ('*', '*', r'\*', '{}*', '*'),
        (
            'é ç ő → 中 α Ω',
            'é ç ő → 中 α Ω',
            'é ç ő → 中 α Ω',
            r'\'{e} \c{c} \H{o} $\rightarrow$ \otherletter{中}{U+4E2D} $\alpha$ $\Omega$',
            'é ç ő → 中 α Ω',
        ),
        ('--x — y', '--x — y', '--x — y', '-{}-x --- y', "'--x — y"),
        ('\x1b[1m', r'\x1b[1m', r'\\x1b\[1m', r'\textbackslash{}x1b[1m', r'\x1b[1m'),
        ('~$^`', '~$^`', r'\~\$^\`', r'\textasciitilde{}\$\textasciicircum{}`', '~$^`'),
    ],
)
def test_each_place_has_its_own_letters(text: str, html: str, markdown: str, latex: str, csv: str) -> None:
    assert escape.to_html(text) == html
    assert escape.to_markdown(text) == markdown
    assert escape.to_latex(text) == latex
    assert escape.to_csv(text) == csv


def test_a_cell_of_markdown_has_no_bars_and_code_no_backticks_of_its_own() -> None:
    assert escape.to_markdown('a|b', table=True) == r'a\|b' and escape.to_markdown('a|b') == 'a|b'
    assert escape.to_markdown_code('x_y=1') == '`x_y=1`' and escape.to_markdown_code('') == ''
    assert escape.to_markdown_code('a`|<') == '<code>a&#96;&#124;&#60;</code>'


@pytest.mark.parametrize(
    ('line', 'begun'),
    [
        ('# a', r'\# a'),
        ('- a', r'\- a'),
        ('1. a', r'1\. a'),
        ('12) a', r'12\) a'),
        ('> a', r'\> a'),
        ('1.5 a', r'1\.5 a'),
        ('a # b', 'a # b'),
    ],
)
def test_a_line_of_markdown_begins_nothing(line: str, begun: str) -> None:
    assert escape.begin_markdown(line) == begun


def test_a_figure_has_no_formulas() -> None:
    assert escape.to_figure('cost $x_{$') == r'cost \$x_{\$'
    assert len(escape.to_figure('x' * 500)) <= escape.DRAWN


@pytest.mark.parametrize(
    ('given', 'kept'),
    [
        ('--sbatch=export=ALL,TOKEN=x', '--sbatch=export=…'),
        ('--export=A=b', '--export=…'),
        ('export=A=b', 'export=…'),
        ('--sbatch=comment=run,WANDB_API_KEY=abc,x=1', '--sbatch=comment=run,WANDB_API_KEY=…,x=1'),
        ('HF_TOKEN=abc', 'HF_TOKEN=…'),
        ('--hf-token=abc', '--hf-token=…'),
        ('DB_PASSWORD=a b', 'DB_PASSWORD=… b'),
        ('https://me:secret@host/x', 'https://…@host/x'),
        ('--x=hf_abcdefghijklmnopqrst', '--x=…'),
        ('--config.data.tokenizer=wordpiece', '--config.data.tokenizer=wordpiece'),
        ('--config.data.source=text:/a,b=c', '--config.data.source=text:/a,b=c'),
        ('--sweep=model.layers=1,2', '--sweep=model.layers=1,2'),
        ('--config.start=org/keys-and-tokens', '--config.start=org/keys-and-tokens'),
    ],
)
def test_secrets_of_a_command_line_are_left_out(given: str, kept: str) -> None:
    assert escape.hide_secrets([given]) == [kept]


def test_the_value_after_the_name_of_a_secret_is_left_out() -> None:
    assert escape.hide_secrets(['x.py', '--api-key', 'abc', '--password', '--dry']) == [
        'x.py',
        '--api-key',
        '…',
        '--password',
        '--dry',
    ]
