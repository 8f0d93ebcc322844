"""A report as its parts, and the parts as Markdown and as one self-contained HTML page."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from zip_ray.files import write_whole

PAGE, MARKDOWN = "report.html", "report.md"
TEMPLATE = "page.html"


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    best: bool = False
    """Set in bold."""


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first column names the row."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numbers: bool = True
    """Whether the other columns hold numbers, set to the right; text is set to the left."""
    mean_last: bool = False
    """Whether the last column is a mean: it stays in view, as the first one does."""


@dataclass(frozen=True)
class Picture:
    """A figure."""

    name: str
    """File name, ending in .png."""
    png: bytes
    caption: str


@dataclass(frozen=True)
class Code:
    """Verbatim text."""

    text: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, and tables, pictures or code."""

    title: str
    text: str
    parts: tuple[Table | Picture | Code, ...] = ()


@dataclass(frozen=True)
class Document:
    """A report."""

    title: str
    summary: str
    sections: tuple[Section, ...]


def row(name: str, texts: Sequence[str], best: Sequence[bool] | None = None) -> tuple[Cell, ...]:
    """A row of a table."""
    return (Cell(name), *(Cell(text, bold) for text, bold in zip(texts, best or [False] * len(texts), strict=True)))


def write_document(folder: Path, document: Document) -> tuple[Path, Path]:
    """Write report.html, report.md and the pictures that the latter shows; the paths of the first two."""
    for section in document.sections:
        for part in section.parts:
            if isinstance(part, Picture):
                write_whole(folder / part.name, part.png)
    page, text = folder / PAGE, folder / MARKDOWN
    write_whole(page, to_html(document).encode())
    write_whole(text, to_markdown(document).encode())
    return page, text


def to_markdown(document: Document) -> str:
    """The report as Markdown; pictures lie beside it."""
    lines = [f"# {document.title}", "", document.summary, ""]
    for section in document.sections:
        lines += [f"## {section.title}", "", section.text, ""]
        for part in section.parts:
            lines += [*_markdown(part), ""]
    return "\n".join(lines)


def to_html(document: Document) -> str:
    """The report as one page, its pictures inside."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    environment.tests["table"] = lambda part: isinstance(part, Table)
    environment.tests["picture"] = lambda part: isinstance(part, Picture)
    template = resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(template).render(document=document)


def _markdown(part: Table | Picture | Code) -> list[str]:
    match part:
        case Table(header, rows, numbers):
            others = [Cell("---:" if numbers else "---")] * (len(header) - 1)
            lines = [[Cell(name) for name in header], [Cell("---"), *others], *rows]
            return ["| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines]
        case Picture(name, _, caption):
            return [f"![{caption}]({name})", "", f"*{caption}*"]
        case Code(text, caption):
            return [f"{caption}:", "", "```", text.rstrip(), "```"]


def _cell(cell: Cell) -> str:
    text = cell.text.replace("|", "\\|").replace("\n", " ")
    return f"**{text}**" if cell.best and text else text
