"""Rules of the tests: shared code is in tests/support."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.faults import check_each
from tests.support.paths import ROOT

TESTS = ROOT / "tests"


def imported(path: Path) -> Iterator[str]:
    """Dotted names of a file's imports; `from a import b` may import a module a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def holds_tests_or_fixtures(name: str) -> bool:
    """Whether a dotted name is that of a test module or of conftest."""
    return any(part == "conftest" or part.startswith("test_") for part in name.split(".")[1:3])


def imports_no_test_module(path: Path) -> None:
    wrong = [name for name in imported(path) if name.startswith("tests.") and holds_tests_or_fixtures(name)]
    assert not wrong, f"imports {', '.join(wrong)}: move what is shared to tests/support"


def test_no_test_module_is_imported() -> None:
    check_each([*TESTS.rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")], imports_no_test_module)


def test_every_room_of_tests_is_a_package() -> None:
    """Two rooms may then hold files of the same name, and all of them can import `tests.support`."""
    rooms = [path for path in TESTS.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert not [room.name for room in rooms if not (room / "__init__.py").is_file()]
