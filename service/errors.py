"""What is wrong with what an operator gave, in one line."""

from __future__ import annotations


class ServiceError(ValueError):
    """Bad input: a file, a key, an address. One line that names it and what was expected."""
