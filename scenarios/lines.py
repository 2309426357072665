"""On which line of a TOML text each key stands, so that an error can say where.

The text has already been read by `tomllib`, so this scanner may assume that it is well formed; it knows
just enough of the grammar (strings, comments, tables, arrays, inline tables) to follow the keys.
"""

from __future__ import annotations

import re
import tomllib

Path = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'", re.DOTALL
)
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}\n#]*")


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line_of: dict[Path, int] = {}
        self.tables_seen: dict[Path, int] = {}  # array of tables -> tables so far

    def line(self) -> int:
        return self.text.count("\n", 0, self.at) + 1

    def skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        found = match.group() if match else ""
        self.at += len(found)
        return found

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def note(self, path: Path) -> None:
        for length in range(1, len(path) + 1):
            self.line_of.setdefault(path[:length], self.line())

    def key(self) -> Path:
        """A dotted key; ends before `=` or `]`."""
        parts: list[str] = []
        while True:
            self.skip(_SPACE)
            quoted = self.skip(_STRING)
            parts.append(tomllib.loads(f"k = {quoted}")["k"] if quoted else self.skip(_BARE_KEY))
            self.skip(_SPACE)
            if self.peek() != ".":
                return tuple(parts)
            self.at += 1

    def document(self) -> None:
        here: Path = ()
        while True:
            self.skip(_SPACE)
            if self.at >= len(self.text):
                return
            before = self.at
            if self.peek() == "[":
                here = self.header()
            else:
                self.pair(here)
            if self.at == before:  # cannot happen in well-formed TOML; never loop for ever on a surprise
                return

    def header(self) -> Path:
        brackets = 2 if self.text.startswith("[[", self.at) else 1
        self.at += brackets
        path = self.inside_newest(self.key())
        if brackets == 2:
            position = self.tables_seen.get(path, 0)
            self.tables_seen[path] = position + 1
            path = (*path, position)
        self.note(path)
        self.at += brackets
        return path

    def inside_newest(self, path: Path) -> Path:
        """`[fault.x]` after `[[fault]]` means the newest fault."""
        whole: Path = ()
        for part in path[:-1]:
            whole = (*whole, part)
            if whole in self.tables_seen:
                whole = (*whole, self.tables_seen[whole] - 1)
        return (*whole, path[-1])

    def pair(self, here: Path) -> None:
        self.skip(_SPACE)
        start = self.at
        path = (*here, *self.key())
        end, self.at = self.at, start
        self.note(path)
        self.at = end + 1  # past "="
        self.value(path)

    def value(self, path: Path) -> None:
        self.skip(_SPACE)
        opening = self.peek()
        if opening == "[":
            self.at += 1
            self.items(path, "]")
        elif opening == "{":
            self.at += 1
            self.items(path, "}")
        elif not self.skip(_STRING):
            self.skip(_SCALAR)

    def items(self, path: Path, closing: str) -> None:
        position = 0
        while True:
            self.skip(_SPACE)
            if self.peek() == closing or self.at >= len(self.text):
                self.at += 1
                return
            if self.peek() == ",":
                self.at += 1
            elif closing == "}":
                self.pair(path)
            else:
                self.note((*path, position))
                self.value((*path, position))
                position += 1


def key_lines(text: str) -> dict[Path, int]:
    """For every key, table and list item of a well-formed TOML text: the line, from 1, where it stands."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.line_of


def opening_comment(text: str) -> str:
    """The comment a file opens with, without its marks, as one paragraph; empty when there is none."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#").strip())
    return " ".join(lines).strip()
