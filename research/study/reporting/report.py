"""The report of a study, written from its folder alone."""

from pathlib import Path

import rich.box
import rich.table
import rich.text

from research.files import write_whole
from research.study.ledger import read_study
from research.study.reporting.cells import gather, read_row_cell
from research.study.reporting.claims import judge, order_of_published
from research.study.reporting.drawing import Drawn
from research.study.reporting.figures import FIGURES, draw
from research.study.reporting.pages import Block, Heading, write_html, write_markdown
from research.study.reporting.remarks import describe_provenance, find_problems
from research.study.reporting.sheets import Sheet, strip_marks, to_latex
from research.study.reporting.table import main_sheet, make_frame, write_caption
from research.study.terminal import make_console


def show_table(title: str, sheet: Sheet, lines: list[str]) -> None:
    """Prints the table: without colours, and as wide as it needs, if the output is no terminal."""
    out = make_console()
    shown = rich.table.Table(title=rich.text.Text(title), title_justify='left', box=rich.box.SIMPLE_HEAD)
    for place, column in enumerate(sheet.titles):
        shown.add_column(rich.text.Text(column), justify='left' if place < sheet.left else 'right', no_wrap=place == 0)
    for line in sheet.lines:
        shown.add_row(*(rich.text.Text.assemble((each.text, 'bold' if each.bold else ''), each.remark) for each in line))
    if sheet.titles:
        out.print(shown)
    for line in lines:
        out.print(strip_marks(line), markup=False, soft_wrap=True)


def report(folder: Path) -> Path:
    """Writes report.md, report.html, table.tex, table.csv and figures/ into the folder of a study. Returns the path of report.md.

    It reads the folder alone, whatever the states of its runs, and prints the table, its problems and the claims. Raises UserError
    if `folder` holds no study.
    """
    study = read_study(folder)
    evidence = gather(study, folder)
    cells = [[read_row_cell(study, row, column, evidence) for column in study.table.columns] for row in study.table.rows]
    sheet = main_sheet(study, cells)
    notes, problems = write_caption(study, cells, evidence), find_problems(study, cells, evidence)
    sections = {
        'The order of the published numbers': order_of_published(study, evidence),
        'Claims': [judge(claim, study, evidence) for claim in study.claims],
    }
    figures = draw(study, evidence, folder)
    write_figures(folder / 'figures', figures)
    runs, facts = describe_provenance(study, evidence)
    blocks: list[Block] = [study.note.strip(), sheet, ' '.join(notes), problems]
    for title, lines in sections.items():
        blocks += [Heading(title), lines] if lines else []
    blocks += [Heading('Figures'), *figures] if figures else []
    blocks += [Heading('How these numbers came about'), runs, facts]
    write_whole(folder / 'table.csv', make_frame(study, cells).to_csv(index=False).encode())
    write_whole(folder / 'table.tex', to_latex(sheet, study.table.title, notes).encode())
    write_whole(folder / 'report.html', write_html(study.table.title, blocks).encode())
    write_whole(folder / 'report.md', write_markdown(study.table.title, blocks).encode())
    show_table(
        study.table.title,
        sheet,
        [*problems, *(line for lines in sections.values() for line in lines), f'report: {folder / "report.md"}'],
    )
    return folder / 'report.md'


def write_figures(folder: Path, figures: list[Drawn]) -> None:
    """Writes each figure as NAME.png and NAME.pdf, and removes those of an earlier report that are not drawn any more."""
    for name in FIGURES:
        for kind in ('png', 'pdf'):
            (folder / f'{name}.{kind}').unlink(missing_ok=True)
    for each in figures:
        write_whole(folder / f'{each.name}.png', each.png)
        write_whole(folder / f'{each.name}.pdf', each.pdf)
