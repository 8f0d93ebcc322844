"""Writes docs/reference/options.md, all that the config's fields say of themselves: `python -m tools.options_page`."""

from pathlib import Path
from typing import Any

from zip_ray.cli.flags import kind
from zip_ray.config.fields import section_classes
from zip_ray.config.tree import CHOOSERS, Config
from zip_ray.config.writing import flow

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "options.md"
HEAD = """# All options

Each is a key of a config file (`task:`, below it `shots: 16`) and an option of the command line (`--task.shots 16`).
`zip-ray tune --help` shows those that apply. This page is made from the code: `python -m tools.options_page`.
"""


def page() -> str:
    """The page, as Markdown."""
    blocks = [HEAD]
    for section, info in Config.model_fields.items():
        classes = section_classes(section)
        if not classes:
            blocks.append(f"## {section}\n\n{_item(section, info)}\n")
            continue
        said = [f"- {choice}: {_line(one.__doc__)}" for choice, one in classes.items() if choice]
        (first, *_) = classes.values()
        blocks.append("\n".join([f"## {section}", "", *(said or [_line(first.__doc__)]), ""]))
        blocks.append("\n".join([*_items(section, classes), ""]))
    return "\n".join(blocks)


def _items(section: str, classes: dict[str, Any]) -> list[str]:
    """The fields of a section; of a union, each with the choices that it belongs to."""
    chooser, _ = CHOOSERS.get(section, ("", ""))
    owners: dict[str, list[str]] = {}
    for choice, one in classes.items():
        for name, field in one.model_fields.items():
            if name != chooser:
                owners.setdefault(_item(f"{section}.{name}", field), []).append(choice)
    some = {item: "" if len(of) == len(classes) else f" *({', '.join(of)})*" for item, of in owners.items()}
    return [f"{item}{of}" for item, of in some.items()]


def _item(path: str, field: Any) -> str:
    form = kind(field.annotation) or "true|false"
    default = "none" if field.default is None else flow(_plain(field.default))
    return f"- `{path}` ({form}; {default}): {_line(field.description)}"


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
