"""The embedded corpus: the English in the docstrings of Python's standard library and of this project's own dependencies.

Every machine that can run the project holds this text, so that nothing need be downloaded. No package is imported:
the sources are read with `ast`. Code, tables, signatures, markup and headings are taken out; what remains are
paragraphs of sentences, each kept once, in a fixed order. It changes with the packages' versions, which `stamp`
names.
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

from research.data.cache import fingerprint, prepared
from research.errors import UserError

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

# The classes of the task `packages`: those top-level packages with the most English, in the order of their names.
LABELS = ('flax', 'huggingface_hub', 'jax', 'matplotlib', 'numpy', 'pandas', 'scipy', 'sklearn', 'stdlib')

# What gives a class away at once and is taken out of the texts of every class.
NAMES = re.compile(
    r'\b(?:flax|linen|nnx|hugging ?face(?:_hub)?|the hub|hub|jax|jaxlib|jnp|lax|xla|matplotlib|mpl|pyplot|plt|numpy|np|pandas|pd|'
    r'scipy|sklearn|scikit[- ]learn|stdlib|python|cpython)\b[.]?',
    re.IGNORECASE,
)
CAPS = {'train': 600, 'dev': 120, 'test': 120}  # examples a class, at most
SHORTEST, LONGEST = 8, 120  # words of an example

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
    """What the corpus depends on: the versions of Python and of the packages that are read, and the rules of this file."""
    versions = {
        'python': platform.python_version(),
        'rules': hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16],
    }
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
    """Every passage of the corpus in its fixed order; extracted once (half a minute by two cores) into a folder of `cache`."""
    folder = prepared(Path(cache) / f'docstrings-{fingerprint(stamp())}', write)
    with open(folder / 'passages.jsonl', encoding='utf-8') as file:
        for line in file:
            record = json.loads(line)
            yield Passage(record['package'], record['module'], tuple(record['paragraphs']))


def documents(cache: str | Path) -> Iterator[list[str]]:
    """The paragraphs of one module after another: its docstrings in the order of its source."""
    module, paragraphs = '', []
    for passage in passages(cache):
        if passage.module != module:
            if paragraphs:
                yield paragraphs
            module, paragraphs = passage.module, []
        paragraphs.extend(passage.paragraphs)
    if paragraphs:
        yield paragraphs


def examples(cache: str | Path) -> dict[str, list[tuple[str, str]]]:
    """Texts and their packages, {'train', 'dev', 'test'} -> [(text, label)]: which package does this docstring come from?

    A module's docstrings all lie in one split (0.7, 0.15, 0.15 of the modules, by the hash of their name), no text
    occurs twice, packages' own names (NAMES) are taken out, and CAPS limits each class, so that classes are nearly
    balanced.
    """
    splits: dict[str, list[tuple[str, str]]] = {split: [] for split in CAPS}
    room = {(split, label): cap for split, cap in CAPS.items() for label in LABELS}
    seen = set()
    # In the order of their hashes, so that a cap keeps a sample of a package, not its first modules.
    for passage in sorted(passages(cache), key=lambda passage: digest(passage.module, *passage.paragraphs)):
        if passage.package not in LABELS or ':' in passage.module:
            continue
        words = NAMES.sub('', ' '.join(passage.paragraphs)).split()[:LONGEST]
        text = ' '.join(words)
        draw = int(digest(passage.module), 16) / 16**64
        split = 'train' if draw < 0.7 else 'dev' if draw < 0.85 else 'test'
        if len(words) >= SHORTEST and text.lower() not in seen and room[split, passage.package]:
            seen.add(text.lower())
            room[split, passage.package] -= 1
            splits[split].append((text, passage.package))
    return splits


def digest(*texts: str) -> str:
    """The SHA-256 of texts, 64 hexadecimal digits."""
    return hashlib.sha256('\n'.join(texts).encode()).hexdigest()


def write(folder: Path) -> None:
    """Extract the corpus into `folder`/passages.jsonl by all cores, leaving out each paragraph that came before."""
    seen = set()
    together: Any = 64  # files a process is given at once; joblib's own guess is many times slower, and its annotation a str
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
    return [Passage('stdlib', f'pydoc_data.topics:{topic}', tuple(english(text))) for topic, text in found]


def module(package: str, root: Path, path: Path) -> list[Passage]:
    """What the docstrings of one source file say; nothing where it is a test, or no Python."""
    parts = path.with_suffix('').parts
    if LEFT_OUT & set(parts) or any(TESTS.search(part) for part in parts) or not (root / path).is_file():
        return []
    try:
        tree = ast.parse((root / path).read_bytes())
    except (SyntaxError, ValueError):  # a template or a deliberately broken file, of which packages hold a few
        return []
    return [Passage(package, '.'.join(parts), tuple(english(text))) for text in docstrings(tree)]


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


# ---- From a docstring to English ----------------------------------------------------------------------------------------------

RULE = re.compile(r'^\s*([-=~^*"#+._])\1{2,}\s*$')  # the line under (or over) a heading
SKIPPED = re.compile(r'^(see also|references|methods|bibliography)\b', re.IGNORECASE)  # sections of names, not of sentences
HEADING = re.compile(
    r'^\s*(args|arguments|attributes|examples?|notes?|parameters|raises|returns?|yields|usage|kwargs|warnings?):{1,2}$',
    re.I,
)
CODE_DIRECTIVE = re.compile(
    r'^\s*\.\. *(code|code-block|sourcecode|ipython|math|plot|doctest|testcode|testsetup|testoutput|table|list-table|'
    r'csv-table|image|figure|toctree|autosummary|currentmodule|\[|_)'
)
DIRECTIVE = re.compile(r'^\s*\.\. *[\w-]+::?.*$')
# `name : type` of a numpy table, `name: type` of another, or a field list
ENTRY = re.compile(r'^\s*[*\w.`\'",() \[\]-]+ : |^\s*[*\w.]+: [\w.|\[\]]+(?: [\w.|\[\]]+){0,2}(?<!\.)$|^\s*:\w+:')
GOOGLE = re.compile(r'^\s*\*{0,2}[\w.]+\*{0,2}(?: \([^)]*\))?: +(?=[A-Z`"])')  # `name (type): Description`
FIELD = re.compile(r'^\s*:(?:param|parameter|arg|raises?|returns?|return|keyword|type|rtype|var|ivar)[^:]*: *')
BULLET = re.compile(r'^\s*(?:[-*+•o]|\(?\d{1,2}[.)]|\[\d+\]_?)\s+')
MARKUP = (
    (re.compile(r':[\w:+-]+:`~?([^`<]*?)(?:\s*<[^`>]*>)?`'), r'\1'),  # :func:`~a.b` and :doc:`text <target>`
    (re.compile(r'`([^`<]*?)\s*<[^`>]*>`__?'), r'\1'),  # `text <link>`_
    (re.compile(r'!?\[([^\]]*)\]\([^)]*\)'), r'\1'),  # [text](link)
    (re.compile(r'\s*\[[\w., +-]{1,24}\]_'), ''),  # [1]_
    (re.compile(r'`{1,3}([^`]*)`{1,3}_{0,2}'), r'\1'),
    (re.compile(r'\*{1,2}([^*\s](?:[^*]*[^*\s])?)\*{1,2}'), r'\1'),
    (re.compile(r'\|(\w[\w ]*)\|'), r'\1'),
    (re.compile(r'\\s\b|(?<!\S)~(?=[.\w])'), ''),  # `.Axes`\s and ~.axes.Axes
    (re.compile(r'<?https?://\S+'), ''),
    (re.compile(r'::(?=\s|$)'), ':'),
    (re.compile(r'\s+'), ' '),
    (re.compile(r' +([,.;:!?)])(?=\s|$)'), r'\1'),
)
LETTERS = re.compile(r'[A-Za-z]')
WORD = re.compile(r"(?<![\w.])[A-Za-z][a-z]*(?:[-'’][a-z]+)*(?![\w(=/])")
STRANGE = re.compile(r'>>>|::=|%\(|\{\w*\}|\\[a-z]+\{|[=<>|]{2,}|\w\[\w*:|[│─═╔╗█▔\x00-\x08]|----|\.{4,}|\$\{|</|/>|#!|\b\w+\(\w+=')
SENTENCES = re.compile(r'^["\'“‘(]?[A-Z0-9].*[.!?:]["\'”’)]*$', re.DOTALL)


def english(text: str) -> Iterator[str]:
    """The paragraphs of sentences in a docstring, markup taken out and white space made single."""
    for paragraph in paragraphs(text):
        for pattern, replacement in MARKUP:
            paragraph = pattern.sub(replacement, paragraph)
        paragraph = paragraph.strip()
        if is_english(paragraph):
            yield paragraph


def is_english(paragraph: str) -> bool:
    """Whether a paragraph is made of sentences: begins and ends as one, and is mostly plain words."""
    tokens = paragraph.split()
    return (
        len(tokens) >= 5
        and SENTENCES.match(paragraph) is not None
        and STRANGE.search(paragraph) is None
        and len(LETTERS.findall(paragraph)) >= 0.7 * len(paragraph)
        and len(WORD.findall(paragraph)) >= 0.75 * len(tokens)
    )


def paragraphs(text: str) -> Iterator[str]:
    """Blocks of lines that may be prose: without headings, tables, doctests, literal blocks, signatures and skipped sections."""
    lines = text.expandtabs().splitlines()
    block: list[str] = []
    literal = -1  # the indentation that a literal block is deeper than, or -1 outside
    doctest = fenced = skipped = False
    for number, line in enumerate([*lines, '']):
        bare = line.strip()
        indent = len(line) - len(line.lstrip())
        below = lines[number + 1] if number + 1 < len(lines) else ''
        if bare.startswith('```'):
            fenced = not fenced
        heading = bool(bare) and RULE.match(below) is not None and not RULE.match(line)
        if heading:
            skipped = SKIPPED.match(bare) is not None
        if bare and literal >= 0 and indent <= literal:
            literal = -1
        doctest = bool(bare) and (doctest or bare.startswith(('>>>', 'In [')))
        code = fenced or doctest or skipped or literal >= 0
        markup = heading or RULE.match(line) or HEADING.match(line) or DIRECTIVE.match(line) or bare.startswith(('```', '|', '+-'))
        entry = FIELD.match(line) or GOOGLE.match(line) or BULLET.match(line)
        if not bare or code or markup or entry or ENTRY.match(line):
            if block:
                yield ' '.join(block)
            block = []
        if not bare or code:
            continue
        if CODE_DIRECTIVE.match(line) or bare.endswith('::'):
            literal = indent
        if entry:
            block = [line[entry.end() :].strip()]
        elif not markup and not ENTRY.match(line):
            block.append(bare)
