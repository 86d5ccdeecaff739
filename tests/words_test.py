"""Words that readers stumble over, and what to write in their place."""

import ast
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


def pages() -> Iterator[tuple[str, int, str]]:
    """File, line number and text of each line of the documents."""
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            yield path.relative_to(ROOT).as_posix(), number, line


def messages() -> Iterator[tuple[str, int, str]]:
    """File, line number and text of what the code can print: its strings, without docstrings."""
    for path in (ROOT / "tfdet").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        nodes = list(ast.walk(tree))
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        first = [node.body[0] for node in nodes if isinstance(node, documented) and node.body]
        docstrings = {id(node.value) for node in first if isinstance(node, ast.Expr)}
        for node in nodes:
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and id(node) not in docstrings and " " in node.value:
                yield path.relative_to(ROOT).as_posix(), node.lineno, node.value


def found(texts: Iterator[tuple[str, int, str]]) -> list[str]:
    """What to change, a line each."""
    lines = []
    for file, number, text in texts:
        for expression, better in PLAIN.items():
            for match in re.finditer(rf"\b({expression})\b", text):
                if (file, match.group(0)) not in EXCEPTIONS:
                    lines.append(f"{file}:{number}: {match.group(0)!r} ({better}): {text.strip()}")
    return lines


def test_documents_use_plain_words():
    assert found(pages()) == []


def test_messages_and_help_use_plain_words():
    assert found(messages()) == []


def test_the_list_is_looked_for():
    assert len(found(iter([("a", 1, "the knob says it goes on"), ("b", 2, "nothing")]))) == 3
