"""The deterministic state machine: apply a batch at a height, get receipts and a root.

No clock (time is the block's), no chance, no I/O. Same genesis and same batches: same receipts, same roots,
on every machine. A transaction takes effect as a whole or not at all.

**Exactly once.** A sender's sequence numbers each serve once. The number is used up by the first transaction
that carries it and has valid signatures, whether that is accepted or refused: a refused transaction that lay
around could otherwise take effect later, when its sender has long been told that it failed. After that,

* the same transaction again (an honest retry, a duplicated message) gets the first receipt again, with
  `repeated` set, and is not executed;
* another transaction with the number is E_REPLAY, and so is any transaction made for another chain;
* once a transaction's expiry height is past it can only be E_EXPIRED_TX, so its receipt need be remembered no
  longer. Numbers up to the highest so forgotten are E_REPLAY from then on.

Numbers need not arrive in order, as a gateway may have several transactions under way.

**What a refusal leaves.** A receipt, an audit record, and the used number. No object changes: `objects_root`
stays.

The state root covers the objects, the audit chain, the height and the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import msgspec
from tradebft.chain import codec, transaction
from tradebft.chain.crypto import Keyring, digest
from tradebft.chain.genesis import Genesis, first_state
from tradebft.chain.pages import ROWS
from tradebft.chain.receipt import AUDIT_START, Applied, AuditRecord, Receipt, chained
from tradebft.chain.rules import states
from tradebft.chain.rules.context import OK, Context, Rejected
from tradebft.chain.rules.objects import BANK, NEVER, Member
from tradebft.chain.rules.table import RULES
from tradebft.chain.rules.views import bank_views, view_of
from tradebft.chain.state import State
from tradebft.chain.transaction import TRANSACTION_BYTES_MAX, Transaction
from tradebft.chain.tree import MapProof

_SNAPSHOT_VERSION: Final = 2
_SNAPSHOT_BYTES_MAX: Final = 1 << 32


class _Head(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The first piece of a snapshot. *tables*: name, lengths of the full pages that follow, and the page that is not
    full; *audit*: the same of the record.
    """

    version: int
    chain_id: bytes
    height: int
    time_ns: int
    tables: tuple[tuple[str, tuple[int, ...], bytes], ...]
    audit: tuple[tuple[int, ...], bytes]


class _AuditPage(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    records: tuple[AuditRecord, ...]


class Ledger:
    """One replica's ledger. `audit` is the whole record, oldest first; `state` is for reading only."""

    def __init__(self, genesis: Genesis, keyring: Keyring) -> None:
        self.genesis: Final = genesis
        self.state: State = first_state(genesis)
        self.height = 0
        self.time_ns = genesis.time_ns
        self.audit: list[AuditRecord] = []
        self._audit_head = AUDIT_START
        self._chained = 0  # records that it covers
        self._keyring = keyring
        self._chain_id = genesis.chain_id
        self._answered: dict[str, dict[int, int]] = {}  # sender -> sequence -> audit number
        self._floors: dict[str, int] = {}
        self._expiring: dict[int, list[tuple[str, int]]] = {}
        self._changes: list[tuple[str, object, object, object]] = []
        self._about: dict[str, list[int]] = {}  # member -> numbers of the records that it sent or was told of
        self._records: dict[bytes, int] = {}  # transaction -> number of the last record of it
        self._audit_pages: list[bytes] = []  # that are full and were encoded for a snapshot

    # ---- roots ---------------------------------------------------------------------------------------------

    @property
    def objects_root(self) -> bytes:
        """The root over all objects; a refusal leaves it as it is."""
        return self.state.root

    @property
    def audit_head(self) -> bytes:
        """The chain of hashes over the record. As in `State.root`, what is new is hashed now."""
        for record in self.audit[self._chained :]:
            self._audit_head = chained(self._audit_head, record)
        self._chained = len(self.audit)
        return self._audit_head

    @property
    def state_root(self) -> bytes:
        """What replicas compare: objects, audit chain, height and time."""
        place = codec.encode([self.height, self.time_ns])
        return digest("state", self.objects_root, self.audit_head, place)

    # ---- executing -----------------------------------------------------------------------------------------

    def apply(self, height: int, time_ns: int, transactions: Sequence[bytes]) -> Applied:
        """Execute a batch. `time_ns` is the agreed block time; one that runs back counts as the last one.

        Raises:
            ValueError: `height` is not the next one.
        """
        self._begin(height, time_ns)
        receipts = tuple([self._read(index, data) for index, data in enumerate(transactions)])
        return Applied(height, self.time_ns, receipts, tuple(self._changes))

    def apply_one(self, height: int, time_ns: int, tx: Transaction) -> Receipt:
        """`apply` of one transaction that never was bytes: a database's call, which no other replica has to follow."""
        self._begin(height, time_ns)
        return self._execute(0, tx)

    def _begin(self, height: int, time_ns: int) -> None:
        if height != self.height + 1:
            raise ValueError(f"height {height} after {self.height}: batches are applied in order")
        self.height = height
        self.time_ns = max(self.time_ns, time_ns)
        self._forget(height - 1)
        self._changes = []

    def _read(self, index: int, data: bytes) -> Receipt:
        if len(data) > TRANSACTION_BYTES_MAX:
            return self._refuse_unread(index, data, "E_SIZE")
        try:
            tx = transaction.decode(data)
        except codec.CodecError:
            return self._refuse_unread(index, data, "E_PARAM")
        return self._execute(index, tx)

    def _execute(self, index: int, tx: Transaction) -> Receipt:
        id = tx.id
        body = tx.body
        try:
            sender, cosigners = self._authenticate(tx, id)
        except Rejected as why:
            return self._record(tx, id, index, None, why, consumed=False)

        answered = self._answered.get(body.sender)
        if answered is not None and (number := answered.get(body.sequence)) is not None:
            first = self.audit[number].receipt
            if first.transaction == id:
                return msgspec.structs.replace(first, repeated=True)
            return self._record(tx, id, index, None, Rejected("E_REPLAY", "sequence"), consumed=False)
        if body.expiry_height < self.height:
            return self._record(tx, id, index, None, Rejected("E_EXPIRED_TX"), consumed=False)
        if body.sequence <= self._floors.get(body.sender, 0):
            return self._record(tx, id, index, None, Rejected("E_REPLAY", "sequence"), consumed=False)
        parameters = self.state.parameters_now
        if body.expiry_height > self.height + parameters.lifetime_blocks:
            return self._record(tx, id, index, None, Rejected("E_EXPIRED_TX", "lifetime"), consumed=False)

        ctx = Context(
            self.state, parameters, self._keyring, self._chain_id, self.height, self.time_ns,
            id, sender, cosigners,
        )  # fmt: skip
        try:
            self._run(ctx, tx)
        except Rejected as why:
            self.state.undo()
            return self._record(tx, id, index, ctx, why, consumed=True)
        self._changes += self.state.keep()
        return self._record(tx, id, index, ctx, None, consumed=True)

    def _authenticate(self, tx: Transaction, id: bytes) -> tuple[Member, dict[str, bytes]]:
        """The sender and the keys of those who signed beside it; every signature must hold."""
        body, signatures = tx.body, tx.signatures
        if body.chain_id != self._chain_id:
            raise Rejected("E_REPLAY", "chain_id")
        sender = self.state.members.get(body.sender)
        if sender is None:
            raise Rejected("E_UNKNOWN_FIRM" if body.sender.startswith("firm.") else "E_SIG", "sender")
        if not signatures or signatures[0][0] != body.sender:
            raise Rejected("E_SIG", "sender")
        if len(signatures) > transaction.SIGNATURES_MAX:
            raise Rejected("E_SIZE", "signatures")
        if transaction.payload_hash(tx.payload) != body.payload_hash:
            raise Rejected("E_SIG", "payload_hash")
        signed = transaction.signing_payload(id)
        if not self._keyring.verify_key(sender.public_key, signed, signatures[0][1]):
            raise Rejected("E_SIG", "sender")
        cosigners: dict[str, bytes] = {}
        for name, signature in signatures[1:]:
            key = self._key_of(name)
            if name in cosigners or name == body.sender or key is None:
                raise Rejected("E_SIG", "cosigners")
            if not self._keyring.verify_key(key, signed, signature):
                raise Rejected("E_SIG", "cosigners")
            cosigners[name] = key
        return sender, cosigners

    def _key_of(self, name: str) -> bytes | None:
        """The key of a member, or of an officer of one (`bank/officer`)."""
        members = self.state.members
        if (member := members.get(name)) is not None:
            return member.public_key if member.active else None
        employer = members.get(name.partition("/")[0])
        if employer is None or not employer.active:
            return None
        return dict(employer.officers).get(name)

    def _run(self, ctx: Context, tx: Transaction) -> None:
        body = tx.body
        rule = RULES.get(body.type)
        if body.version != transaction.VERSION or rule is None:
            raise Rejected("E_PARAM", "type" if rule is None else "version")
        if ctx.sender.role not in rule.roles or not ctx.sender.active:
            raise Rejected("E_ROLE", "sender")
        try:
            payload = codec.decode(tx.payload, rule.payload, limit=TRANSACTION_BYTES_MAX)
        except codec.CodecError:
            raise Rejected("E_PARAM", "payload") from None
        rule.run(ctx, payload)

    # ---- recording -----------------------------------------------------------------------------------------

    def _refuse_unread(self, index: int, data: bytes, code: str) -> Receipt:
        """Bytes that are no transaction: there is nobody to count them against."""
        receipt = Receipt(digest("unread", data), self.height, index, "", "", 0, code, ("transaction",))
        self._append(AuditRecord(len(self.audit), self.time_ns, receipt, 0, False))
        return receipt

    def _record(
        self,
        tx: Transaction,
        id: bytes,
        index: int,
        ctx: Context | None,
        why: Rejected | None,
        consumed: bool,
    ) -> Receipt:
        body = tx.body
        receipt = Receipt(
            transaction=id,
            height=self.height,
            index=index,
            type=body.type,
            sender=body.sender,
            sequence=body.sequence,
            code=why.code if why else OK,
            fields=why.fields if why else (),
            object=ctx.object if ctx and not why else b"",
            headroom=ctx.headroom if ctx and not why else None,
            alerts=ctx.alerts if ctx and not why else (),
        )
        number = len(self.audit)
        if ctx is None:
            record = AuditRecord(number, self.time_ns, receipt, body.expiry_height, consumed)
        else:
            record = AuditRecord(
                number, self.time_ns, receipt, body.expiry_height, consumed,
                ctx.firm, ctx.bank, ctx.tokens,
                () if why else ctx.notify, () if why else ctx.watch,
            )  # fmt: skip
        self._append(record)
        if consumed:
            self._remember(body.sender, body.sequence, number, body.expiry_height)
        return receipt

    def _append(self, record: AuditRecord) -> None:
        self.audit.append(record)
        for member in {record.receipt.sender, *record.notify}:
            self._about.setdefault(member, []).append(record.number)
        self._records[record.receipt.transaction] = record.number

    def _remember(self, sender: str, sequence: int, number: int, expiry_height: int) -> None:
        self._answered.setdefault(sender, {})[sequence] = number
        self._expiring.setdefault(expiry_height, []).append((sender, sequence))

    def _forget(self, height: int) -> None:
        """Transactions that could be executed up to this height only need no remembering after it."""
        for sender, sequence in self._expiring.pop(height, ()):
            del self._answered[sender][sequence]
            self._floors[sender] = max(self._floors.get(sender, 0), sequence)

    # ---- asking --------------------------------------------------------------------------------------------

    def receipt(self, sender: str, sequence: int) -> Receipt | None:
        """The receipt of a sender's transaction, while it is remembered."""
        number = self._answered.get(sender, {}).get(sequence)
        return None if number is None else self.audit[number].receipt

    def record(self, transaction: bytes) -> AuditRecord | None:
        """What is on record of a transaction, for the last time that it was submitted."""
        number = self._records.get(transaction)
        return None if number is None else self.audit[number]

    def next_sequence(self, sender: str) -> int:
        """The lowest sequence number above all that *sender* has used."""
        return max(self._answered.get(sender, ()), default=self._floors.get(sender, 0)) + 1

    def view(self, member: str) -> dict[str, Any]:
        """What this member may see, as plain maps and lists: a bank its own customers, the regulator
        everything.

        Raises:
            ValueError: no such member.
        """
        return view_of(self.state, self.audit, self._records_about(member), member)

    def bank_views(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every bank and its `view`, in not much more than the time of one."""
        return bank_views(self.state, self._records_about)

    def _records_about(self, member: str) -> list[AuditRecord]:
        return [self.audit[number] for number in self._about.get(member, ())]

    def validators(self, height: int | None = None) -> tuple[str, ...]:
        """Who votes at a height (default: the next one), in the order of the genesis, newcomers after."""
        at = self.height + 1 if height is None else height
        voting = [
            m
            for m in self.state.members.rows.values()
            if m.validator_from != NEVER
            and m.validator_from <= at
            and (m.validator_until == NEVER or at < m.validator_until)
        ]
        seats = {m.id: seat for seat, m in enumerate(self.genesis.members)}
        voting.sort(key=lambda m: (seats.get(m.id, len(seats)), m.validator_from, m.id))
        return tuple(m.id for m in voting)

    def lookup(
        self,
        *,
        firm: str | None = None,
        bank: str | None = None,
        token: bytes | None = None,
        since_ns: int = 0,
        until_ns: int | None = None,
    ) -> Iterator[AuditRecord]:
        """The records about a firm, a bank, a token, in a period of block time (end excluded): the
        regulator's tool.
        """
        for record in self.audit:
            if (
                (firm is None or record.firm == firm)
                and (bank is None or bank in (record.bank, record.receipt.sender))
                and (token is None or token in record.tokens)
                and since_ns <= record.time_ns
                and (until_ns is None or record.time_ns < until_ns)
            ):
                yield record

    def due(self, time_ns: int) -> list[tuple[str, bytes]]:
        """What time alone calls for: (RESERVE_EXPIRE or FIN_OVERDUE, financing), for whoever watches the
        clock.
        """
        found = []
        for f in self.state.financings.rows.values():
            if f.state in states.HOLDS_RESERVATION and time_ns > f.reserved_until_ns:
                found.append(("RESERVE_EXPIRE", f.id))
            elif states.LATE in states.TRANSITIONS.get(f.state, ()) and f.outstanding and time_ns > f.due_ns:
                found.append(("FIN_OVERDUE", f.id))
        return sorted(found)

    def prove(self, table: str, key: Any) -> tuple[bytes, bytes | None, MapProof]:
        """A proof against `objects_root`: hash of the key, hash of the object (None: there is none), the
        proof.
        """
        (rows,) = [t for t in self.state.tables if t.name == table]
        place = rows.leaf_key(key)
        value = rows.get(key)
        return place, None if value is None else rows.leaf_value(value), self.state.prove(place)

    def banks(self) -> tuple[str, ...]:
        """The active banks."""
        return tuple(m.id for m in self.state.members.rows.values() if m.role == BANK and m.active)

    # ---- keeping -------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """The whole ledger, canonically: two ledgers that executed the same blocks give the same bytes."""
        return b"".join(self.pieces())

    def pieces(self) -> list[bytes]:
        """`snapshot` in pieces: those that did not change since the last time are the same objects."""
        full, rest = self.state.pages()
        tables = tuple(
            (table.name, tuple(map(len, pages)), page)
            for table, pages, page in zip(self.state.tables, full, rest, strict=True)
        )
        audit, done = self._audit_pages, len(self.audit) // ROWS
        for begin in range(len(audit) * ROWS, done * ROWS, ROWS):
            audit.append(codec.encode(_AuditPage(tuple(self.audit[begin : begin + ROWS]))))
        last = codec.encode(_AuditPage(tuple(self.audit[done * ROWS :])))
        head = _Head(
            _SNAPSHOT_VERSION,
            self._chain_id,
            self.height,
            self.time_ns,
            tables,
            (tuple(map(len, audit)), last),
        )
        return [codec.framed(codec.encode(head)), *(page for pages in full for page in pages), *audit]

    def restored(self, snapshot: bytes) -> Ledger:
        """The ledger of this chain that *snapshot* was taken of; ValueError if it is none."""
        return Ledger.restore(self.genesis, self._keyring, snapshot)

    @classmethod
    def restore(
        cls, genesis: Genesis, keyring: Keyring, data: bytes, expected_root: bytes | None = None
    ) -> Ledger:
        """The ledger a snapshot was taken of.

        Raises:
            ValueError: not a snapshot of this chain, or its root is not the expected one.
        """
        first, after = codec.unframed(data)
        kept = codec.decode(first, _Head, limit=_SNAPSHOT_BYTES_MAX)
        if kept.version != _SNAPSHOT_VERSION or kept.chain_id != genesis.chain_id:
            raise ValueError(f"a snapshot of version {kept.version} of chain {kept.chain_id!r}")
        ledger = cls(genesis, keyring)
        state = ledger.state = State()
        if [name for name, *_ in kept.tables] != [table.name for table in state.tables]:
            raise ValueError("a snapshot with other tables than a ledger has")
        lengths = [length for _, pages, _ in (*kept.tables, ("", *kept.audit)) for length in pages]
        pages = iter(codec.split(after, lengths))
        for table, (_, full, rest) in zip(state.tables, kept.tables, strict=True):
            for page in (*islice(pages, len(full)), rest):
                for key, value in table.pages.read(page):
                    table.put(key, value)
        state.keep()
        ledger.height, ledger.time_ns = kept.height, kept.time_ns
        for page in (*pages, kept.audit[1]):
            for record in codec.decode(page, _AuditPage, limit=_SNAPSHOT_BYTES_MAX).records:
                ledger._append(record)
                if record.consumed:
                    ledger._remember_or_forget(record)
        if expected_root is not None and ledger.state_root != expected_root:
            raise ValueError(f"the snapshot's root is {ledger.state_root.hex()}, not {expected_root.hex()}")
        return ledger

    def _remember_or_forget(self, record: AuditRecord) -> None:
        receipt = record.receipt
        if record.expiry_height >= self.height:
            self._remember(receipt.sender, receipt.sequence, record.number, record.expiry_height)
        else:
            floor = self._floors.get(receipt.sender, 0)
            self._floors[receipt.sender] = max(floor, receipt.sequence)
