"""The ledger's memory: a table for each kind of object, a journal that can undo, and the root over it all.

Rules write straight into the tables; the journal remembers what stood there before. When a transaction is
refused, `undo` puts it all back, so a refusal leaves no trace however far the rule had come. When one is
accepted, `keep` notes which keys it touched; `root` hashes only those into the Merkle map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, Final, Generic, TypeVar

from tradebft.chain import codec
from tradebft.chain.pages import Pages
from tradebft.chain.rules.objects import (
    Consent,
    Declaration,
    Financing,
    Firm,
    Hold,
    Invoice,
    Kyc,
    Member,
    Policy,
    Reference,
    Repayment,
    TaxFiling,
    Times,
)
from tradebft.chain.rules.parameters import Parameters
from tradebft.chain.tree import MapProof, MerkleMap

K = TypeVar("K")
V = TypeVar("V")

_Touch = tuple["Table[Any, Any]", Any]


class Table(Generic[K, V]):
    """The objects of one kind by key. `rows` is for reading; `put` is how rules write."""

    __slots__ = ("_journal", "_prefix", "get", "key_type", "name", "pages", "rows", "value_type")

    get: Callable[[K], V | None]
    """The value at a key, the running transaction's changes included; None where there is none."""

    def __init__(self, name: str, key_type: Any, value_type: type[V], journal: list[Any]) -> None:
        self.name = name
        self.key_type = key_type
        self.value_type = value_type
        self.rows: Final[dict[K, V]] = {}
        self.get = self.rows.get  # asked for several times a transaction: without a call in between
        self.pages: Pages[K, V] = Pages(name, self.rows, key_type, value_type)
        self._journal = journal
        self._prefix = name.encode() + b"\0"

    def __getitem__(self, key: K) -> V:
        return self.rows[key]

    def __contains__(self, key: K) -> bool:
        return key in self.rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[K]:
        return iter(self.rows)

    def put(self, key: K, value: V) -> None:
        """Set an object, remembering the one before."""
        self._journal.append((self, key, self.rows.get(key)))
        self.rows[key] = value

    def leaf_key(self, key: K) -> bytes:
        """Where the object lies in the Merkle map."""
        encoded = key if isinstance(key, bytes) else codec.encode(key)
        return sha256(self._prefix + encoded).digest()

    def leaf_value(self, value: V) -> bytes:
        """What the Merkle map holds of the object."""
        return sha256(codec.encode(value)).digest()


class State:
    """All tables. Everything in here is agreed on; `derived` indexes are rebuilt from the tables."""

    def __init__(self) -> None:
        journal: list[tuple[Table[Any, Any], Any, Any]] = []
        self._journal = journal
        self._touched: dict[_Touch, None] = {}  # in the order of the first touch: that of the rows' places
        self._tree: Final = MerkleMap()
        pair = tuple[str, str]
        self.members: Final = Table[str, Member]("member", str, Member, journal)
        self.firms: Final = Table[str, Firm]("firm", str, Firm, journal)
        self.firm_of: Final = Table[bytes, str]("uscc", bytes, str, journal)
        self.kyc: Final = Table[tuple[str, str], Kyc]("kyc", pair, Kyc, journal)
        self.consents: Final = Table[tuple[str, str], Consent]("consent", pair, Consent, journal)
        self.declarations: Final = Table[bytes, Declaration]("declaration", bytes, Declaration, journal)
        self.invoices: Final = Table[bytes, Invoice]("invoice", bytes, Invoice, journal)
        self.combinations: Final = Table[bytes, bytes]("combination", bytes, bytes, journal)
        self.invoiced: Final = Table[bytes, int]("invoiced", bytes, int, journal)
        self.financings: Final = Table[bytes, Financing]("financing", bytes, Financing, journal)
        self.repayments: Final = Table[bytes, Repayment]("repayment", bytes, Repayment, journal)
        self.references: Final = Table[pair, Reference]("reference", pair, Reference, journal)
        self.policies: Final = Table[bytes, Policy]("policy", bytes, Policy, journal)
        self.filings: Final = Table[bytes, TaxFiling]("filing", bytes, TaxFiling, journal)
        self.holds: Final = Table[tuple[str, bytes], Hold]("hold", tuple[str, bytes], Hold, journal)
        self.probes: Final = Table[tuple[str, bytes], Times]("probe", tuple[str, bytes], Times, journal)
        self.lapses: Final = Table[tuple[str, str], Times]("lapse", pair, Times, journal)
        self.parameters: Final = Table[int, Parameters]("parameters", int, Parameters, journal)
        self.tables: Final[tuple[Table[Any, Any], ...]] = (
            self.members, self.firms, self.firm_of, self.kyc, self.consents,
            self.declarations, self.invoices, self.combinations, self.invoiced,
            self.financings, self.repayments, self.references,
            self.policies, self.filings, self.holds, self.probes, self.lapses, self.parameters,
        )  # fmt: skip
        self.uses: Final[dict[bytes, list[bytes]]] = {}
        """Which financings lie on a declaration or invoice; derived, so not part of the root."""

    @property
    def parameters_now(self) -> Parameters:
        """The parameter version in force."""
        return self.parameters.rows[len(self.parameters.rows)]

    # ---- one transaction -----------------------------------------------------------------------------------

    def keep(self) -> list[tuple[str, Any, Any, Any]]:
        """Accept what was written since the last keep or undo: (table, key, before, after) in order."""
        journal, touched = self._journal, self._touched
        changes = []
        for table, key, before in journal:
            touched[table, key] = None
            after = table.rows[key]
            changes.append((table.name, key, before, after))
            if before is None and table is self.financings:
                self.index(after)
        journal.clear()
        return changes

    def undo(self) -> None:
        """Put back what stood before, last write first."""
        for table, key, before in reversed(self._journal):
            if before is None:
                del table.rows[key]
            else:
                table.rows[key] = before
        self._journal.clear()

    # ---- what replicas compare and hand on -----------------------------------------------------------------

    @property
    def root(self) -> bytes:
        """The root over all objects. What was touched since it was last asked for is hashed now, so that a ledger
        which nobody compares with another hashes nothing.
        """
        return self._sealed().root

    def prove(self, place: bytes) -> MapProof:
        """A proof against `root` of what this leaf key maps to."""
        return self._sealed().prove(place)

    def _sealed(self) -> MerkleMap:
        touched = self._touched
        if touched:
            changes = []
            for table, key in touched:
                table.pages.touch(key)
                changes.append((table.leaf_key(key), table.leaf_value(table.rows[key])))
            touched.clear()
            self._tree.update(changes)
        return self._tree

    def pages(self) -> tuple[list[list[bytes]], list[bytes]]:
        """Every table's full pages, and of every table what is beyond them (`chain.pages`)."""
        self._sealed()
        return [table.pages.full() for table in self.tables], [table.pages.rest() for table in self.tables]

    def root_from_scratch(self) -> bytes:
        """The root that a new map over the same objects has; equal to `root`."""
        tree = MerkleMap()
        for table in self.tables:
            tree.update((table.leaf_key(k), table.leaf_value(v)) for k, v in table.rows.items())
        return tree.root

    def rebuild_uses(self) -> None:
        """Fill the derived index from the tables."""
        self.uses.clear()
        for financing in self.financings.rows.values():
            self.index(financing)

    def index(self, financing: Financing) -> None:
        """Note a new financing in the derived index."""
        for share in financing.allocations + financing.invoices:
            self.uses.setdefault(share.token, []).append(financing.id)
