"""What a chain starts from: its name, its members with their keys, its parameters, and firms that are there
already.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from tradebft.chain import codec
from tradebft.chain.crypto import Keyring, digest
from tradebft.chain.rules.objects import (
    AUDITOR,
    BANK,
    CUSTOMS,
    FIRM,
    INSURER,
    NEVER,
    REGULATOR,
    TAX,
    Consent,
    Firm,
    Kyc,
    Member,
)
from tradebft.chain.rules.parameters import Parameters
from tradebft.chain.state import State


class KnownFirm(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A firm that was registered, attested and has consented before the chain starts.

    `banks` are those that attested it and that it consented to; both run until the given block times.
    """

    id: str
    uscc: bytes
    public_key: bytes
    banks: tuple[str, ...]
    grade: str = "A"
    kyc_until_ns: int = 1 << 62
    consent_until_ns: int = 1 << 62


class Genesis(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The first state, in full. Two chains with one genesis have one root."""

    chain_id: bytes
    members: tuple[Member, ...]
    parameters: Parameters = msgspec.field(default_factory=Parameters)
    firms: tuple[KnownFirm, ...] = ()
    time_ns: int = 0

    @property
    def digest(self) -> bytes:
        """What names this genesis in one hash."""
        return digest("genesis", codec.encode(self))


def role_of(member: str) -> str:
    """The role that a member's name says: administrator, *bank*, customs, tax, insurer, auditor, firm.<n>.

    Raises:
        ValueError: no role is known for this name.
    """
    first = member.split(".")[0]
    if first.endswith("bank"):
        return BANK
    named = {
        "administrator": REGULATOR,
        "customs": CUSTOMS,
        "tax": TAX,
        "insurer": INSURER,
        "auditor": AUDITOR,
        "firm": FIRM,
    }
    if first not in named:
        raise ValueError(f"{member!r} is no member's name; known are {', '.join(sorted(named))} and *bank")
    return named[first]


def checker_of(bank: str) -> str:
    """The name of a bank's second officer, as `members_of` expects it in the keyring."""
    return f"{bank}/checker"


def members_of(names: Iterable[str], keyring: Keyring, validators: Iterable[str] = ()) -> tuple[Member, ...]:
    """Members with the keys that the keyring knows them by; banks with a checker if it knows one
    (`checker_of`).
    """
    voting = frozenset(validators)
    members = []
    for name in names:
        role = role_of(name)
        officers: tuple[tuple[str, bytes], ...] = ()
        if role == BANK:
            try:
                officers = ((checker_of(name), keyring.public_key(checker_of(name))),)
            except KeyError:
                officers = ()
        start = 0 if name in voting else NEVER
        members.append(Member(name, role, keyring.public_key(name), officers=officers, validator_from=start))
    return tuple(members)


def first_state(genesis: Genesis) -> State:
    """The tables at height 0."""
    state = State()
    state.parameters.put(1, msgspec.structs.replace(genesis.parameters, version=1))
    for member in genesis.members:
        _add(state, member)
    for known in genesis.firms:
        _add(state, Member(known.id, FIRM, known.public_key))
        if known.uscc in state.firm_of:
            raise ValueError(f"the firm {known.id} has the USCC token of {state.firm_of[known.uscc]}")
        state.firms.put(known.id, Firm(known.id, known.uscc, known.grade, "ACTIVE"))
        state.firm_of.put(known.uscc, known.id)
        for bank in known.banks:
            pair = (known.id, bank)
            state.kyc.put(pair, Kyc(known.id, bank, 1, known.kyc_until_ns))
            state.consents.put(
                pair,
                Consent(known.id, bank, ("financing", "credit"), genesis.time_ns, known.consent_until_ns),
            )
    state.keep()
    return state


def _add(state: State, member: Member) -> None:
    if member.id in state.members:
        raise ValueError(f"the member {member.id} is named twice")
    state.members.put(member.id, member)
