"""The report of a study, written from its folder alone."""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

import rich.box
import rich.table
import rich.text

from research.errors import UserError
from research.files import open_part, refuse_link
from research.study.ledger import read_study
from research.study.reporting.cells import gather, read_row_cell
from research.study.reporting.claims import judge_all
from research.study.reporting.figures import FIGURES, draw
from research.study.reporting.marks import quote, to_text
from research.study.reporting.pages import Block, Heading, write_html, write_markdown
from research.study.reporting.published import describe_orders
from research.study.reporting.remarks import describe_provenance, find_problems
from research.study.reporting.sheets import Sheet, to_latex
from research.study.reporting.table import add_interval, main_sheet, make_frame, write_caption
from research.study.terminal import make_console


def show_table(title: str, sheet: Sheet, lines: list[str]) -> None:
    """Prints the table: without colours, and as wide as it needs, if the output is no terminal."""
    out = make_console()
    shown = rich.table.Table(title=rich.text.Text(to_text(title)), title_justify='left', box=rich.box.SIMPLE_HEAD)
    for place, column in enumerate(sheet.titles):
        shown.add_column(rich.text.Text(to_text(column)), justify='left' if place < sheet.left else 'right', no_wrap=place == 0)
    for line in sheet.lines:
        shown.add_row(
            *(rich.text.Text.assemble((to_text(each.text), 'bold' if each.bold else ''), to_text(each.remark)) for each in line)
        )
    if sheet.titles:
        out.print(shown)
    for line in lines:
        out.print(to_text(line), markup=False, soft_wrap=True)


def report(folder: Path) -> Path:
    """Writes report.md, report.html, table.tex, table.csv and figures/ into the folder of a study. Returns the path of report.md.

    It reads the folder alone, whatever the states of its runs, and prints the table, its problems and the claims. Raises UserError
    if `folder` holds no study.
    """
    study = read_study(folder)
    evidence = gather(study, folder)
    cells = [
        [add_interval(study, row, column, read_row_cell(study, row, column, evidence), evidence) for column in study.table.columns]
        for row in study.table.rows
    ]
    title, sheet = quote(study.table.title), main_sheet(study, cells, evidence)
    notes, problems = write_caption(study, cells, evidence), find_problems(study, cells, evidence)
    sections = {
        'The order of the published numbers': describe_orders(study, evidence),
        'Claims': judge_all(study, evidence),
    }
    figures = draw(study, evidence, folder)
    runs, facts = describe_provenance(study, evidence)
    notes_of_study = [part for part in re.split(r'\n\s*\n', study.note.strip()) if part]
    blocks: list[Block] = [*notes_of_study, sheet, ' '.join(notes), problems]
    for heading, lines in sections.items():
        blocks += [Heading(heading), lines] if lines else []
    blocks += [Heading('Figures'), *figures] if figures else []
    blocks += [Heading('How these numbers came about'), runs, facts]
    files = {
        'table.csv': make_frame(study, cells).to_csv(index=False).encode(),
        'table.tex': to_latex(sheet, title, notes).encode(),
        'report.html': write_html(title, blocks).encode(),
        'report.md': write_markdown(title, blocks).encode(),
    }
    for each in figures:
        files |= {f'figures/{each.name}.png': each.png, f'figures/{each.name}.pdf': each.pdf}
    write_files(folder, files)
    show_table(
        title,
        sheet,
        [*problems, *(line for lines in sections.values() for line in lines), f'report: {quote(str(folder / "report.md"))}'],
    )
    return folder / 'report.md'


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files of a report, all or none, and removes figures of an earlier report that are not drawn any more.

    Raises UserError if the disk is full or read-only, and for a symbolic link in the place of `figures`.
    """
    refuse_link(folder / 'figures')
    try:
        with contextlib.ExitStack() as parts:
            for name, content in files.items():
                (folder / name).parent.mkdir(exist_ok=True)
                parts.enter_context(open_part(folder / name)).write_bytes(content)
        for name in [f'figures/{name}.{kind}' for name in FIGURES for kind in ('png', 'pdf')]:
            if name not in files:
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f'{folder}: no report could be written, and what was there is as it was: {why}') from None
