"""Every example is run; where it stands beside an .out file, it must print exactly that."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
OWN = EXAMPLES / "own_protocol"
COMMAND = "import sys; from tradebft.lab.cli import main; main(sys.argv[1:])"


def python(*arguments: str, cwd: Path) -> str:
    """Run Python in *cwd* with warnings as errors, and return what it printed."""
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def tradebft(*arguments: str, cwd: Path) -> dict[str, Any]:
    """Run the command with --json and return the document."""
    document: dict[str, Any] = json.loads(python("-c", COMMAND, "run", *arguments, "--json", cwd=cwd))
    return document


def test_there_are_examples() -> None:
    assert len(SCRIPTS) >= 2
    assert NOTEBOOKS
    assert len(list(OWN.glob("*.toml"))) >= 2


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_an_example_prints_what_it_should(script: Path, tmp_path: Path, rewrite: bool) -> None:
    printed = python(str(script), cwd=tmp_path)
    expected = script.with_suffix(".out")
    if rewrite:
        expected.write_text(printed, encoding="utf-8")
    assert printed == expected.read_text(encoding="utf-8"), (
        "run pytest --rewrite, read the diff, and commit it only if you can say why it changed"
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_an_example_leaves_the_checkout_alone(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert "__file__" not in text
    assert not re.search(r"chdir|\.\./", text)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_from_top_to_bottom(notebook: Path, tmp_path: Path) -> None:
    """As a script: needs no Jupyter. What a cell would display is printed."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]
    script = tmp_path / "notebook.py"
    quiet = "import warnings\nwarnings.filterwarnings('ignore', message='.*non-interactive.*')\n"
    script.write_text(quiet + "\n\n".join(cells), encoding="utf-8")
    python(str(script), cwd=tmp_path)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_one_and_holds_no_outputs(notebook: Path) -> None:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) >= (4, 5)
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in content["cells"]:
        assert cell["cell_type"] in ("markdown", "code")
        assert isinstance(cell["source"], list)
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def test_a_protocol_of_ones_own_runs_and_is_what_it_claims(tmp_path: Path) -> None:
    """Found beside the scenario, from any working folder; watched by the same checker; faster than PBFT here."""
    scenario = str(OWN / "fastbft.toml")
    mine = tradebft(scenario, cwd=tmp_path)
    pbft = tradebft(scenario, "--set", "consensus.protocol=pbft", cwd=tmp_path)
    assert mine["protocol"] == "mylab.fastbft:Replica"
    assert "agreement" in mine["invariants"]["checked"]
    assert mine["invariants"]["violations"] == []
    assert mine["consensus"]["transactions"] == pbft["consensus"]["transactions"] == 1500
    assert mine["consensus"]["messages"]["total"] < 0.4 * pbft["consensus"]["messages"]["total"]
    assert mine["consensus"]["client_ms"]["p50"] < 0.9 * pbft["consensus"]["client_ms"]["p50"]


def test_links_and_a_workload_of_ones_own_run(tmp_path: Path) -> None:
    document = tradebft(str(OWN / "month_end.toml"), cwd=tmp_path)
    assert document["expectations_failed"] == []
    assert document["virtual_seconds"] > 2 * 86_400
    assert document["consensus"]["decision_ms"]["p10"] > 750, "three hops of at least 250 ms"


def test_a_misbehaviour_of_ones_own_is_tolerated_once_and_not_twice(tmp_path: Path) -> None:
    scenario = str(OWN / "selective.toml")
    assert tradebft(scenario, cwd=tmp_path)["expectations_failed"] == []
    two = 'byzantine.0.node=["replica.2","replica.3"]'
    free = ("--set", "expect={agreement=true}")
    document = tradebft(scenario, "--set", two, *free, cwd=tmp_path)
    assert document["consensus"]["view_changes"] > 0
    assert document["invariants"]["violations"] == []


def test_a_class_that_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    wrong = "consensus.protocol=mylab.fastbft:Replic"
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "run", str(OWN / "fastbft.toml"), "--set", wrong],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "did you mean 'Replica'?" in done.stderr
