"""The made-up records, as a fixture: tests are imported one by one and share no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # modules beside the tests, by their plain names


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    path = Path(__file__).with_name("fake_records.py")
    spec = importlib.util.spec_from_file_location("fake_records", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
