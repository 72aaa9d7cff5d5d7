"""The embedded corpus: the English in the docstrings of Python's standard library and of this project's own dependencies.

Every machine that can run the project has this text, so that nothing is downloaded. No package is imported: the
sources are read with `ast`. Code, tables, signatures, markup and headings are taken out; paragraphs of sentences
remain, each once, in a fixed order. They change with the packages' versions, which are part of `stamp`.
"""

import ast
import hashlib
import importlib.metadata
import inspect
import itertools
import json
import platform
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

from research.data import english, json_lines
from research.data.cache import prepare_folder
from research.errors import UserError
from research.files import fingerprint
from research.records import parse_record

# The distributions of requirements.txt that are read.
DISTRIBUTIONS = (
    'absl-py',
    'array_record',
    'flax',
    'grain',
    'huggingface_hub',
    'jax',
    'matplotlib',
    'ml_collections',
    'numpy',
    'optax',
    'orbax-checkpoint',
    'pandas',
    'rich',
    'safetensors',
    'scikit-learn',
    'scipy',
    'tensorboardX',
    'tensorflow-datasets',
    'tokenizers',
)
# Parts of the standard library that are tests, demonstrations, vendored or generated.
LEFT_OUT = {
    '__pycache__',
    'ensurepip',
    'idlelib',
    'lib2to3',
    'pydoc_data',
    'site-packages',
    'dist-packages',
    'turtledemo',
}
TESTS = re.compile(r'(?:^|_)tests?(?:_|$)|^testing$|^conftest$|^_?vendor')


@dataclass(frozen=True)
class Passage:
    """The English of one docstring, or of one topic of Python's manual."""

    package: str  # top-level package, or 'stdlib'
    module: str  # dotted; a topic of the manual is a module of its own
    paragraphs: tuple[str, ...]


def stamp() -> dict[str, str]:
    """What the corpus depends on: the versions of Python and of the packages that are read, and the code that reads them."""
    code = [Path(file).read_bytes() for file in (__file__, english.__file__)]
    versions = {'python': platform.python_version(), 'rules': hashlib.sha256(b''.join(code)).hexdigest()[:16]}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise UserError(
                f"the embedded corpus reads the docstrings of '{name}', which is not installed; "
                'run: pip install -r requirements.txt'
            ) from error
    return versions


def passages(cache: str | Path) -> Iterator[Passage]:
    """Every passage of the corpus in its fixed order; extracted once (half a minute on two cores) into a folder of `cache`."""
    folder = prepare_folder(Path(cache) / f'docstrings-{fingerprint(stamp())}', write)
    for number, record in json_lines.records(folder / 'passages.jsonl'):
        try:
            yield parse_record(Passage, record)
        except (TypeError, ValueError):
            raise UserError(
                f"'{folder / 'passages.jsonl'}' line {number} is damaged; remove the folder '{folder}', and it is prepared anew"
            ) from None


def documents(cache: str | Path) -> Iterator[list[str]]:
    """The paragraphs of each module: its docstrings in the order of its source."""
    module, paragraphs = '', []
    for passage in passages(cache):
        if passage.module != module:
            if paragraphs:
                yield paragraphs
            module, paragraphs = passage.module, []
        paragraphs.extend(passage.paragraphs)
    if paragraphs:
        yield paragraphs


def digest(*texts: str) -> str:
    """The SHA-256 of texts, 64 hexadecimal digits."""
    return hashlib.sha256('\n'.join(texts).encode()).hexdigest()


def write(folder: Path) -> None:
    """Extracts the corpus into `folder`/passages.jsonl on all cores, leaving out repeated paragraphs."""
    seen = set()
    together: Any = 64  # files a process gets at once; joblib's own guess is many times slower, and it annotates a str
    read: Any = Parallel(n_jobs=-1, batch_size=together, return_as='generator')(delayed(module)(*each) for each in sources())
    with open(folder / 'passages.jsonl', 'w', encoding='utf-8') as file:
        for found in itertools.chain([topics()], read):
            for passage in found:
                fresh = []
                for paragraph in passage.paragraphs:
                    if paragraph.lower() not in seen:
                        seen.add(paragraph.lower())
                        fresh.append(paragraph)
                if fresh:
                    file.write(json.dumps(asdict(replace(passage, paragraphs=fresh)), ensure_ascii=False) + '\n')
    if not seen:
        raise UserError(
            "no docstrings found: Python's standard library and packages are installed without sources; set data.source"
        )


def sources() -> Iterator[tuple[str, Path, Path]]:
    """(package, root, path below it) of every source file: the standard library first, then the packages by name."""
    library = Path(sysconfig.get_path('stdlib'))
    for path in sorted(path.relative_to(library) for path in library.rglob('*.py')):
        yield 'stdlib', library, path
    for name in DISTRIBUTIONS:
        distribution = importlib.metadata.distribution(name)
        root = Path(str(distribution.locate_file('')))
        for path in sorted(Path(str(path)) for path in distribution.files or () if path.suffix == '.py' and '..' not in path.parts):
            yield path.parts[0], root, path


def topics() -> list[Passage]:
    """The topics of Python's manual that `help` shows."""
    path = Path(sysconfig.get_path('stdlib')) / 'pydoc_data' / 'topics.py'
    assigned = [node for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.Assign)] if path.is_file() else []
    found = [item for node in assigned for item in sorted(ast.literal_eval(node.value).items())]
    return [Passage('stdlib', f'pydoc_data.topics:{topic}', tuple(english.english(text))) for topic, text in found]


def module(package: str, root: Path, path: Path) -> list[Passage]:
    """The passages of one source file; none if it is a test or not Python."""
    parts = path.with_suffix('').parts
    if LEFT_OUT & set(parts) or any(TESTS.search(part) for part in parts) or not (root / path).is_file():
        return []
    try:
        tree = ast.parse((root / path).read_bytes())
    except (SyntaxError, ValueError):  # a template or a deliberately broken file: packages hold a few
        return []
    return [Passage(package, '.'.join(parts), tuple(english.english(text))) for text in docstrings(tree)]


BLOCKS = (ast.stmt, ast.excepthandler, ast.match_case)  # what can hold a docstring; most of a tree is expressions


def docstrings(tree: ast.AST) -> Iterator[str]:
    """The docstrings below a node in the order of the source, with those that `add_newdoc(…)` gives to compiled functions."""
    if isinstance(tree, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(tree)
        if text:
            yield text
    call = tree.value if isinstance(tree, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == 'add_newdoc':
        for node in ast.walk(call):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and '\n' in node.value:
                yield inspect.cleandoc(node.value)
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, BLOCKS):
            yield from docstrings(node)
