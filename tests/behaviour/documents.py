"""What the documents show, as data: labelled code blocks, tables, links, and the words that name things in the code."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]

_LABELLED = re.compile(r"`([\w./-]+)`[^`\n]*:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_APPENDED = re.compile(r"at the end of `([\w./]+)`:\n\n```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")


def files_shown(document: Path) -> dict[str, str]:
    """path → content of every whole file that the document shows: a block that follows its path and a colon."""
    text = document.read_text()
    appended = {path for path, _ in _APPENDED.findall(text)}
    return {path: code for path, code in _LABELLED.findall(text) if path not in appended}


def lines_to_append(document: Path) -> dict[str, str]:
    """path → lines that the document tells to add at the end of a file."""
    return dict(_APPENDED.findall(document.read_text()))


def console_lines(document: Path) -> list[str]:
    """What is typed in the document's console examples."""
    blocks = [code for kind, code in _FENCED.findall(document.read_text()) if kind == "console"]
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def inline_code(document: Path) -> list[str]:
    """Every `word` in running text and tables."""
    return _INLINE.findall(_FENCED.sub("", document.read_text()))


def commands_named(document: Path) -> Iterator[list[str]]:
    """Every command line of ours in the document, as words, without `hardparts` and what a shell adds."""
    for line in [*console_lines(document), *inline_code(document)]:
        for part in re.split(r"[;|&]+", line):
            words = part.split()
            if words[:1] == ["hardparts"]:
                yield [word for word in words[1:] if word != "…"]


def make_targets_named(document: Path) -> set[str]:
    """Every target of `make` in the document."""
    text = document.read_text()
    return set(re.findall(r"(?:`|^    |^\$ )make ([a-z-]+)", text, re.MULTILINE))


def links(document: Path) -> list[tuple[Path, str]]:
    """(file, anchor) of every relative link."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _FENCED.sub("", document.read_text())):
        if not target.startswith(("http://", "https://")):
            path, _, anchor = target.partition("#")
            found.append(((document.parent / path).resolve() if path else document, anchor))
    return found


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table(document: Path, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = document.read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
