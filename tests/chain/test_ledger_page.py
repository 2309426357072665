"""The page about the ledger says what the code does."""

from pathlib import Path

from tradebft.chain.rules.describe import page

ROOT = Path(__file__).parents[2]


def test_the_page_is_up_to_date():
    written = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m tradebft.chain.rules.describe > docs/ledger.md"
