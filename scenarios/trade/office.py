"""Everybody's keys and sequence numbers: turns what somebody wants to say into a signed transaction; the genesis."""

from __future__ import annotations

from typing import Any, Final

from tradebft.chain.crypto import Keyring, Signer, make_identities
from tradebft.chain.genesis import Genesis, KnownFirm, checker_of, members_of
from tradebft.chain.rules.parameters import RATIOS, Parameters
from tradebft.chain.rules.payloads import Payload
from tradebft.chain.transaction import Transaction, sign
from tradebft.scenarios.trade.workload import Workload
from tradebft.scenarios.units import DAY_NS

EXPIRY_HEIGHT: Final = 5_000_000  # no run of ours gets there: expiry is tried by fraud kind F11 only
OFFICES: Final = ("administrator", "customs", "tax", "insurer")


def district_feed(application: int) -> str:
    """A customs district with a key of its own: the one that fraud kind F21 corrupts."""
    return f"customs.{application}"


class Office:
    """Signs for every member and firm of one workload. One instance an arm: sequences start at 1 on every ledger."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._epoch_ns = workload.epoch_ns
        self.chain_id = f"tradebft/{workload.scenario.name}".encode()
        validators = [name for name in workload.scenario.node_names if name not in OFFICES]
        banks = sorted(
            {*workload.members, *validators}
        )  # who runs a validator is a member, lending here or not
        districts = [district_feed(a.number) for a in workload.applications if a.kind == "F21"]
        self._members = [*OFFICES, *banks, *districts]
        names = [*self._members, *(checker_of(bank) for bank in banks), *(firm.id for firm in workload.firms)]
        self.signers: dict[Any, Signer]
        self.keyring: Keyring
        self.signers, self.keyring = make_identities(
            names, workload.scenario.nodes.crypto, workload.scenario.seed
        )
        self._sequences: dict[str, int] = {}

    def genesis(self) -> Genesis:
        """The first state: members, parameters, and the firms that were customers before the run began."""
        workload, policy = self._workload, self._workload.demand.policy
        newcomers = {a.firm.id for a in workload.applications if a.new_customer}
        known = tuple(
            KnownFirm(
                firm.id,
                firm.token,
                self.keyring.public_key(firm.id),
                tuple(bank for bank in firm.banks if bank in workload.members),
            )
            for firm in workload.firms
            if firm.id not in newcomers
        )
        parameters = Parameters(
            ratio_bp={**RATIOS, "export_receivable": policy.ratio_bp},
            age_max_ns=policy.maximum_age_days * DAY_NS,
            reservation_ttl_ns=policy.reservation_ttl_ns,
            recycle=int(policy.recycle),
            invoice_strict=int(policy.invoice_strict),
            faults=(len(self._validators()) - 1) // 3,
        )
        members = members_of(self._members, self.keyring, self._validators())
        return Genesis(self.chain_id, members, parameters, known, self._epoch_ns)

    def _validators(self) -> list[str]:
        return [name for name in self._workload.scenario.node_names if name in self._members]

    def transaction(
        self, payload: Payload, by: str, *cosigners: str, now: int, **changes: Any
    ) -> Transaction:
        """*payload* signed by *by* and the cosigners at virtual time *now*.

        *changes* say it wrongly on purpose: another ``signer``, ``sequence``, ``chain_id``, ``expiry_height`` or
        ``time_ns`` than is due.
        """
        signer = self.signers[changes.pop("signer_of", by)]
        if signer.member != by:
            signer = _Impostor(by, signer)
        if "sequence" not in changes:
            changes["sequence"] = self._sequences[by] = self._sequences.get(by, 0) + 1
        due = {"chain_id": self.chain_id, "expiry_height": EXPIRY_HEIGHT, "time_ns": self._epoch_ns + now}
        return sign(payload, signer, [self.signers[name] for name in cosigners], **{**due, **changes})


class _Impostor:
    """Signs under another member's name with a key of its own."""

    def __init__(self, member: str, signer: Signer) -> None:
        self.member, self._signer = member, signer
        self.public_key = signer.public_key

    def sign(self, payload: bytes) -> bytes:
        return self._signer.sign(payload)
