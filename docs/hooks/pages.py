"""Hooks of MkDocs: pages made from the code, and links that GitHub and the site both take."""

import json
import pathlib
import posixpath
import re

import reference  # MkDocs finds the neighbours of a hook while it loads it
from mkdocs.structure.files import File

# Files outside of docs/ and the pages that they become.
OUTSIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
_LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")


def on_config(config):
    """Pages that `nav` does not list come to the end of a section: results to theirs, all else to
    the guide. So no page can be forgotten."""
    docs = pathlib.Path(config.docs_dir)
    listed = set(_pages(config.nav))
    for path in sorted(docs.rglob("*.md")):
        page = path.relative_to(docs).as_posix()
        if page not in listed:
            is_result = page.startswith(("results/", "studies/"))
            _section(config.nav, "Results" if is_result else "Guide").append(page)
    return config


def _pages(nav):
    """The files of a tree of sections."""
    for item in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else [nav]:
        if isinstance(item, str):
            yield item
        else:
            yield from _pages(item)


def _section(nav, title):
    return next(section[title] for section in nav if title in section)


def on_files(files, config):
    """Adds the pages that are not files of docs/."""
    root = pathlib.Path(config.config_file_path).resolve().parent
    pages = {page: (root / name).read_text("utf-8") for name, page in OUTSIDE.items()}
    pages["reference/keys.md"] = reference.keys_page()
    pages["reference/recipes.md"] = reference.recipes_page()
    pages["reference/commands.md"] = reference.commands_page()
    for name, text in reference.api_pages().items():
        pages[f"reference/api/{name}.md"] = text
    for notebook in sorted((root / "docs" / "notebooks").glob("*.ipynb")):
        pages[f"notebooks/{notebook.stem}.md"] = notebook_page(notebook)
    for path in sorted((root / "docs").rglob("*.md")):
        for name in _files_outside(path, root):
            pages.setdefault(name, (root / name).read_text("utf-8"))
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def _files_outside(path, root):
    """Files of the repository outside of docs/ that a page links to, such as examples/detect.c."""
    for found in _LINK.finditer(path.read_text("utf-8")):
        target = (path.parent / found[2]).resolve()
        if target.is_file() and target.is_relative_to(root):
            name = target.relative_to(root).as_posix()
            if not name.startswith("docs/") and name not in OUTSIDE:
                yield name


def notebook_page(path):
    """A notebook's prose and code as a page, with a link to the file."""
    parts = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            source = f"```{'sh' if source.startswith('!') else 'python'}\n{source}\n```"
        parts.append(source)
    title, *rest = parts
    return "\n\n".join([title, f"[The notebook]({path.name}), to run it yourself.", *rest, ""])


def on_page_markdown(markdown, page, config, files):
    """Links of README.md and CONTRIBUTING.md start at the root, those of docs/ lead out of it."""
    here = page.file.src_uri
    origin = {there: name for name, there in OUTSIDE.items()}.get(here, f"docs/{here}")
    return _LINK.sub(lambda found: _turned(found, origin, here), markdown)


def _turned(found, origin, here):
    target = found[2]
    if ":" in target or target.startswith("/"):
        return found[0]
    place = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
    place = OUTSIDE.get(place, place.removeprefix("docs/"))
    start = posixpath.dirname(here) or "."
    return f"{found[1]}{posixpath.relpath(place, start)}{found[3] or ''}{found[4]}"
