"""Words that readers stumble over, and what to write in their place."""

import ast
import json
import pathlib
import re
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]

PLAIN = {
    r"knobs?": "effort, threshold",
    r"wish(es|ed)?": "target",
    r"dear(er|est)?": "expensive",
    r"told|tells|says|said|gives|knows": "reported, returns, supports",
    r"goes on|anew": "resumes, again",
    r"learn(t|ed|s)? by heart|trained on further": "overfitted, fine-tuned",
    r"chances?": "probabilities",
    r"straight line": "interpolating",
    r"first so many": "the first N",
}
# The old name of a key, which the sentence is about.
EXCEPTIONS = {
    ("tfdet/detectors/dynamic.py", "knob"),
    ("docs/dynamic.md", "knob"),
}


# In docstrings a file, an annotation or a paper may say or give something.
IN_DOCSTRINGS = {"told|tells" if "says" in key else key: value for key, value in PLAIN.items()}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


def pages() -> Iterator[tuple[str, int, str]]:
    """File, line number and text of each line of the documents."""
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            yield path.relative_to(ROOT).as_posix(), number, line


def recipes() -> Iterator[tuple[str, int, str]]:
    """File, line number and text of each comment of the recipes."""
    for path in (ROOT / "tfdet" / "recipes").rglob("*.yaml"):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if "#" in line:
                yield path.relative_to(ROOT).as_posix(), number, line.partition("#")[2]


def notebooks() -> Iterator[tuple[str, int, str]]:
    """File, number and text of each cell with prose or code; not what cells have printed."""
    for path in (ROOT / "docs").rglob("*.ipynb"):
        for number, cell in enumerate(json.loads(path.read_text("utf-8"))["cells"], 1):
            yield path.relative_to(ROOT).as_posix(), number, "".join(cell["source"])


def parsed() -> Iterator[tuple[str, ast.Module]]:
    """Name and tree of each source file of the package."""
    for path in (ROOT / "tfdet").rglob("*.py"):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))


def docstring_of(node: ast.AST) -> ast.Constant | None:
    """The docstring of a module, a class or a function."""
    first = node.body[0] if isinstance(node, _DOCUMENTED) and node.body else None
    value = getattr(first, "value", None)
    is_text = isinstance(value, ast.Constant) and isinstance(value.value, str)
    return value if isinstance(first, ast.Expr) and is_text else None


def messages() -> Iterator[tuple[str, int, str]]:
    """File, line number and text of what the code can print: its strings, without docstrings."""
    for file, tree in parsed():
        nodes = list(ast.walk(tree))
        docstrings = {id(docstring_of(node)) for node in nodes}
        for node in nodes:
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and id(node) not in docstrings and " " in node.value:
                yield file, node.lineno, node.value


def docstrings() -> Iterator[tuple[str, int, str]]:
    """File, line number and text of the docstrings of modules and of public names."""
    for file, tree in parsed():
        nodes: list[ast.AST] = [tree]
        while nodes:
            node = nodes.pop()
            text = docstring_of(node)
            if text is not None:
                yield file, text.lineno, text.value
            inner = getattr(node, "body", []) if not isinstance(node, ast.FunctionDef) else []
            named = [x for x in inner if isinstance(x, (ast.ClassDef, ast.FunctionDef))]
            nodes += [x for x in named if not x.name.startswith("_")]


def found(texts: Iterator[tuple[str, int, str]], plain: dict[str, str] = PLAIN) -> list[str]:
    """What to change, a line each."""
    lines = []
    for file, number, text in texts:
        for expression, better in plain.items():
            for match in re.finditer(rf"\b({expression})\b", text):
                if (file, match.group(0)) not in EXCEPTIONS:
                    lines.append(f"{file}:{number}: {match.group(0)!r} ({better}): {text.strip()}")
    return lines


def test_documents_use_plain_words():
    assert found(pages()) == []


def test_recipes_and_notebooks_use_plain_words():
    assert found(recipes()) + found(notebooks()) == []


def test_docstrings_of_public_names_use_plain_words():
    assert found(docstrings(), IN_DOCSTRINGS) == []


def test_messages_and_help_use_plain_words():
    assert found(messages()) == []


def test_the_list_is_looked_for():
    assert len(found(iter([("a", 1, "the knob says it goes on"), ("b", 2, "nothing")]))) == 3
