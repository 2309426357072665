"""A node's log on its standard error: one JSON object a line, or plain lines for a person."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

from pythonjsonlogger.json import JsonFormatter
from tradebft.service.settings import LogSettings

LOG: Final = logging.getLogger("tradebft.node")


def start(settings: LogSettings, **always: Any) -> None:
    """From now on `LOG` writes; *always* goes into every line."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.format == "json":
        handler.setFormatter(
            JsonFormatter(
                "%(asctime)s %(levelname)s %(message)s",
                rename_fields={"asctime": "time", "levelname": "level", "message": "event"},
                static_fields=always,
                datefmt="%Y-%m-%dT%H:%M:%S%z",
            )
        )
    else:
        handler.setFormatter(_Plain("%(asctime)s %(levelname)-7s %(message)s"))
    LOG.handlers[:] = [handler]
    LOG.propagate = False
    LOG.setLevel(settings.level.upper())


class _Plain(logging.Formatter):
    """What happened, and its particulars as ``name=value``."""

    _KNOWN: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        more = (f"{name}={value}" for name, value in record.__dict__.items() if name not in self._KNOWN)
        return " ".join([super().format(record), *more])
