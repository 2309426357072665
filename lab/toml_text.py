"""A resolved scenario as TOML text, for the copy in the results folder. The standard library only reads
TOML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(settings: Mapping[str, Any]) -> str:
    """TOML text that reads back as the same settings. TOML has no null: a key whose value is None is left
    out.
    """
    lines: list[str] = []
    _table(lines, "", settings)
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(lines: list[str], path: str, settings: Mapping[str, Any]) -> None:
    """Plain values first, then tables: TOML would read a value behind a table header as part of that table."""
    nested: list[tuple[str, Any]] = []
    for name, value in settings.items():
        if value is None:
            continue
        if isinstance(value, Mapping) or _is_list_of_tables(value):
            nested.append((name, value))
        else:
            lines.append(f"{_key(name)} = {_value(value)}")
    for name, value in nested:
        inner = f"{path}.{_key(name)}" if path else _key(name)
        for item in [value] if isinstance(value, Mapping) else value:
            lines += ["", f"[{inner}]" if isinstance(value, Mapping) else f"[[{inner}]]"]
            _table(lines, inner, item)


def _is_list_of_tables(value: Any) -> bool:
    return (
        isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)
    )


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        pairs = (f"{_key(name)} = {_value(item)}" for name, item in value.items() if item is not None)
        return "{ " + ", ".join(pairs) + " }"
    return _text(str(value))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    # JSON's escapes are TOML's; DEL is the one character that JSON leaves bare and TOML forbids.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
