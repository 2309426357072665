"""The rules of the house, as tests. A rule that is not checked here is a wish."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = (
    "chain",
    "consensus",
    "network",
    "scenarios",
    "service",
    "lab",
)  # a room may import those to its left
OTHER_FOLDERS = ("tests", "docs", "examples", "scripts", "docker", ".ci", ".github")
TOP_FILES = (
    "Makefile",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "CITATION.cff",
    "LICENSE",
    "pyproject.toml",
    "Dockerfile",
    "docker-compose.yml",
)

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
LINE_LENGTH_MAX = 120  # code is formatted to 110; prose may use a little more

# Files and functions that were longer when the rule came. The list may only become shorter.
LONG_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}

PURE_ROOMS = ("chain", "consensus")
CLOCKS = {"time", "datetime", "calendar", "signal"}
CHANCE = {"random", "secrets", "uuid"}
WORLD = {
    "os",
    "io",
    "pathlib",
    "tempfile",
    "shutil",
    "socket",
    "ssl",
    "select",
    "selectors",
    "subprocess",
    "logging",
}
SCHEDULERS = {"asyncio", "threading", "multiprocessing", "concurrent", "simpy"}
FLOATS = {"numpy", "scipy", "polars", "math", "statistics"}
FORBIDDEN_IN_PURE_ROOMS = frozenset(CLOCKS | CHANCE | WORLD | SCHEDULERS | FLOATS)
# Module -> what it may import although its room is pure. The list may only become shorter.
PURE_EXCEPTIONS = {
    "chain/crypto.py": frozenset(
        {"os", "pathlib"}
    ),  # key files of members of a real network; no run reads one
    "chain/store.py": frozenset({"os", "pathlib"}),  # the disk of a member of a real network
    "chain/store_file.py": frozenset({"pathlib"}),
    "chain/store_rescue.py": frozenset({"pathlib"}),
}
FORBIDDEN_CALLS_IN_PURE_ROOMS = frozenset({"open", "input", "print", "exec", "eval", "id", "hash"})
TOUCHES_FILES = frozenset(
    {
        "chain/rules/describe.py",  # prints docs/ledger.md from the tables
        "chain/crypto.py",  # key files, as above
    }
)
CONSENSUS_MAY_TAKE = frozenset({"tradebft.chain.codec", "tradebft.chain.crypto"})
BANNED_NAMES = frozenset({"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"})

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


# --- what there is ---


def files(*folders: str, suffix: str = "") -> list[Path]:
    """Files below these folders that belong to the project; caches and results do not."""
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob(f"*{suffix}")):
            skipped = {"__pycache__", "results", ".ipynb_checkpoints"} & set(path.relative_to(ROOT).parts)
            if path.is_file() and not path.is_symlink() and not skipped:
                found.append(path)
    return found


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@lru_cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def everything() -> list[Path]:
    return files(*ROOMS, *OTHER_FOLDERS) + [ROOT / top for top in TOP_FILES]


PYTHON = files(*ROOMS, "tests", "examples", suffix=".py")
OURS = files(*ROOMS, suffix=".py")
PURE = files(*PURE_ROOMS, suffix=".py")
PAGES = [*files("docs", suffix=".md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
SCENARIOS = files("scenarios", "examples", suffix=".toml")


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""  # a picture


def functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imported(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of every import, also inside functions; `from a import b` gives `a` and `a.b`."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_the_walk_finds_the_project() -> None:
    """An empty list would make every rule below hold."""
    assert len(OURS) > 60
    assert len(SCENARIOS) >= 9
    assert len(PAGES) >= 12
    for room in ROOMS:
        assert ROOT / room / "__init__.py" in OURS


# --- size and names ---


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_a_file_fits_in_the_head(path: Path) -> None:
    lines = len(text_of(path).splitlines())
    assert lines <= LONG_FILES.get(name(path), FILE_LINES_MAX), f"{name(path)}: {lines} lines; split it"


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    too_long = []
    for function in functions(tree(path)):
        first = function.body[0]
        body = first.end_lineno if ast.get_docstring(function) is not None else function.lineno
        length = (function.end_lineno or 0) - (body or 0)
        if length > LONG_FUNCTIONS.get(f"{name(path)}:{function.name}", FUNCTION_LINES_MAX):
            too_long.append(f"{name(path)}:{function.lineno} {function.name}: {length} lines")
    assert not too_long, too_long


@pytest.mark.parametrize("path", [*PYTHON, *SCENARIOS], ids=name)
def test_a_line_fits_in_a_window(path: Path) -> None:
    wide = []
    for number, line in enumerate(text_of(path).splitlines(), 1):
        length = len(re.sub(r"  # (type: ignore|noqa)\S*$", "", line))
        if length > LINE_LENGTH_MAX:
            wide.append(f"{name(path)}:{number}: {length}")
    assert not wide, wide


@pytest.mark.parametrize("path", OURS, ids=name)
def test_a_module_is_named_for_what_is_in_it(path: Path) -> None:
    assert path.stem not in BANNED_NAMES, f"{name(path)}: say what it holds"


def test_test_files_have_names_of_their_own() -> None:
    """With importlib imports two files of one name would work, but nobody could say which one failed."""
    names = [path.name for path in files("tests", suffix=".py") if path.name.startswith("test_")]
    assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)


# --- packaging ---


def test_every_package_on_disk_is_in_the_wheel() -> None:
    """A sub-package that pyproject.toml does not list is missing from the wheel without a word."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    on_disk = {
        "tradebft." + ".".join(path.parent.relative_to(ROOT).parts)
        for path in OURS
        if path.name == "__init__.py"
    }
    assert set(settings["packages"]) == on_disk
    where = {package.removeprefix("tradebft.").replace(".", "/") for package in on_disk}
    for path in OURS:
        assert path.parent.relative_to(ROOT).as_posix() in where, f"{name(path)}: no __init__.py beside it"
    for package, folder in settings["package-dir"].items():
        assert package == "tradebft." + folder.replace("/", ".")


def test_data_files_match_a_pattern_of_the_wheel() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "package-data"
    ]["*"]
    for path in files(*ROOMS):
        if path.suffix == ".py":
            continue
        package = next(p for p in path.parents if (p / "__init__.py").is_file())
        assert any(path.relative_to(package).match(pattern) for pattern in patterns), (
            f"{name(path)} would not be in the wheel"
        )


def test_type_checkers_find_the_rooms() -> None:
    for room in ROOMS:
        link = ROOT / "typings" / "tradebft" / room
        assert link.is_symlink(), link
        assert link.resolve() == ROOT / room


# --- who may import whom ---


@pytest.mark.parametrize("path", OURS, ids=name)
def test_imports_run_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    allowed = ROOMS[: ROOMS.index(room) + 1]
    for line, module in imported(tree(path)):
        where = f"{name(path)}:{line}: imports {module}"
        assert not module.startswith("."), f"{where}; write the full name, tradebft.{room}..."
        assert module.split(".")[0] not in ROOMS, f"{where}; the rooms are imported as tradebft.<room>"
        if module.startswith("tradebft.") and module != "tradebft.":
            assert module.split(".")[1] in allowed, f"{where}; {room} may import {', '.join(allowed)}"
        if room == "consensus" and module.startswith("tradebft.chain."):
            taken = ".".join(module.split(".")[:3])
            assert taken in CONSENSUS_MAY_TAKE, f"{where}; consensus orders opaque batches"


@pytest.mark.parametrize("path", PURE, ids=name)
def test_chain_and_consensus_know_no_clock_no_chance_and_no_world(path: Path) -> None:
    for line, module in imported(tree(path)):
        top = module.split(".")[0]
        assert top not in FORBIDDEN_IN_PURE_ROOMS - PURE_EXCEPTIONS.get(name(path), frozenset()), (
            f"{name(path)}:{line}: imports {module}"
        )
    if name(path) in TOUCHES_FILES:
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS_IN_PURE_ROOMS, (
                f"{name(path)}:{node.lineno}: {node.func.id}()"
            )


@pytest.mark.parametrize("path", PURE, ids=name)
def test_chain_and_consensus_use_no_floating_point(path: Path) -> None:
    """Roots must be equal on every machine: money is minor units, time nanoseconds, ratios basis points."""
    for node in ast.walk(tree(path)):
        where = f"{name(path)}:{getattr(node, 'lineno', 0)}"
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), (
            f"{where}: {ast.unparse(node)}"
        )
        assert not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)), (
            f"{where}: true division; use // and say which way it rounds"
        )


# --- prose in code ---


def _definitions(body: list[ast.stmt]) -> Iterator[Definition]:
    """Public classes, functions, and the public methods of public classes."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node.body)


def _speaks_for_itself(node: Definition) -> bool:
    """A property or a stub of one statement: the name says it."""
    return not isinstance(node, ast.ClassDef) and len(node.body) == 1


@pytest.mark.parametrize("path", OURS, ids=name)
def test_what_is_public_says_what_it_means(path: Path) -> None:
    module = tree(path)
    silent = [] if ast.get_docstring(module) else [f"{name(path)}: the module"]
    for node in _definitions(module.body):
        if ast.get_docstring(node) is None and not _speaks_for_itself(node):
            silent.append(f"{name(path)}:{node.lineno} {node.name}")
    assert not silent, silent


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_a_manual(room: str) -> None:
    manual = ast.get_docstring(tree(ROOT / room / "__init__.py")) or ""
    assert len(manual.split()) >= 60, f"{room}/__init__.py: what is it for, what must it never do?"


UNFINISHED = re.compile(
    r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error")) + r")\b"
)
NOT_FOR_READERS = re.compile(
    r"(?<![\w.-])(/" + "(?:home|root|Users|tmp|work)" + r"/\w)|\b" + "sha" + "red/" + r"|\b[A-Z]:\\\\?Users"
)


@pytest.mark.parametrize("path", everything(), ids=name)
def test_nothing_is_left_unfinished(path: Path) -> None:
    text = text_of(path).replace('"XX' + 'X"', "")  # the code that ISO 4217 keeps for "no currency"
    found = [f"{name(path)}: {hit[0]}" for hit in UNFINISHED.finditer(text)]
    assert not found, found


@pytest.mark.parametrize("path", everything(), ids=name)
def test_no_path_of_one_machine(path: Path) -> None:
    found = [hit[0] for hit in NOT_FOR_READERS.finditer(text_of(path))]
    assert not found, f"{name(path)}: {found}"


@pytest.mark.parametrize("path", everything(), ids=name)
def test_text_ends_in_one_newline_and_has_no_tabs_or_trailing_blanks(path: Path) -> None:
    text = text_of(path)
    if not text:
        return
    assert text.endswith("\n"), name(path)
    assert not text.endswith("\n\n"), name(path)
    trailing = [n for n, line in enumerate(text.splitlines(), 1) if line != line.rstrip()]
    assert not trailing or path.suffix in (".out", ".svg"), f"{name(path)}: lines {trailing}"
    assert "\t" not in text or path.name == "Makefile", name(path)


# --- scenarios ---


@pytest.mark.parametrize("path", SCENARIOS, ids=name)
def test_a_scenario_asks_a_question_and_has_a_title(path: Path) -> None:
    text = text_of(path)
    opening = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        opening.append(line.lstrip("# "))
    assert "?" in " ".join(opening), f"{name(path)}: open with the question it answers"
    assert tomllib.loads(text).get("title"), f"{name(path)}: give it a title"
