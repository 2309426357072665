"""Numbers as they stand on paper, checked, and the keyed tokens that stand on the chain in their place.

The ledger sees only tokens, so it cannot check a USCC's check character: these functions do, before they make
the token. They are what a bank's or the customs office's own software would call.

Sources: customs number layout and USCC rules, docs/sources.md [S112], [S124] (GB 32100-2015).
"""

from __future__ import annotations

from typing import Final

from tradebft.chain.crypto import token

USCC_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""Without I, O, S, V and Z, which are too easily misread."""

_USCC_WEIGHTS: Final = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)


def uscc_check_character(first_17: str) -> str:
    """The last character of a unified social credit code, from the 17 before it.

    Raises:
        ValueError: not 17 characters of the alphabet.
    """
    if len(first_17) != 17 or any(c not in USCC_ALPHABET for c in first_17):
        raise ValueError(f"a USCC starts with 17 characters of {USCC_ALPHABET}, not {first_17!r}")
    total = sum(w * USCC_ALPHABET.index(c) for w, c in zip(_USCC_WEIGHTS, first_17, strict=True))
    # 31 - 0 is 31, one past the alphabet: it wraps to '0'. Some published code forgets that.
    return USCC_ALPHABET[(31 - total % 31) % 31]


def uscc_valid(text: str) -> bool:
    """Whether this is a USCC with the right check character."""
    try:
        return len(text) == 18 and uscc_check_character(text[:17]) == text[17]
    except ValueError:
        return False


def uscc_token(key: bytes, uscc: str) -> bytes:
    """The token of a firm; ValueError where the check character is wrong."""
    if not uscc_valid(uscc):
        raise ValueError(f"{uscc!r} is not a unified social credit code")
    return token(key, "uscc", uscc)


def customs_number(district: int, year: int, direction: int, serial: int) -> str:
    """The 18 digits of a declaration: 4 customs district, 4 year, 1 direction (0 export, 1 import), 9
    serial.
    """
    if not (0 <= district < 10_000 and 0 <= year < 10_000 and direction in (0, 1) and 0 <= serial < 10**9):
        raise ValueError(f"no customs number for {district=} {year=} {direction=} {serial=}")
    return f"{district:04d}{year:04d}{direction}{serial:09d}"


def declaration_token(key: bytes, number: str) -> bytes:
    """The token of a declaration; ValueError where its number is not 18 digits with direction 0 or 1."""
    if len(number) != 18 or not number.isascii() or not number.isdigit() or number[8] not in "01":
        raise ValueError(f"{number!r} is not a customs declaration number")
    return token(key, "declaration", number)


def direction_of(number: str) -> int:
    """0 for an export declaration, 1 for an import declaration."""
    return int(number[8])


def invoice_token(
    key: bytes, seller: str, buyer: str, number: str, date: str, currency: str, amount: int
) -> bytes:
    """The token of an invoice, over all the fields that make it this invoice."""
    return token(key, "invoice", "\0".join((seller, buyer, number, date, currency, str(amount))))


def invoice_combinations(
    key: bytes, seller: str, buyer: str, number: str, date: str, currency: str, amount: int
) -> tuple[bytes, ...]:
    """Tokens over parts of an invoice, each of which survives some small alteration of the rest.

    * the number without spacing, punctuation, case and a short suffix ("INV-0042-01" is "INV0042"), with
      seller and buyer: survives a changed amount or date;
    * seller, buyer, date, currency and amount: survives any changed number;
    * seller, currency, amount and the number's digits: survives a buyer written differently.
    """
    plain = plain_number(number)
    digits = "".join(c for c in plain if c.isdigit())
    return (
        token(key, "invoice/number", "\0".join((seller, buyer, plain))),
        token(key, "invoice/amount", "\0".join((seller, buyer, date, currency, str(amount)))),
        token(key, "invoice/digits", "\0".join((seller, currency, str(amount), digits))),
    )


def plain_number(number: str) -> str:
    """An invoice number without what typists vary: case, spaces, punctuation, O for 0, a suffix of 1-2
    digits.
    """
    parts = [p for p in "".join(c if c.isalnum() else " " for c in number.upper()).split() if p]
    if len(parts) > 1 and parts[-1].isdigit() and len(parts[-1]) <= 2:
        parts = parts[:-1]
    return "".join(parts).replace("O", "0").replace("I", "1").replace("L", "1")
