"""What a network of real members starts from: its settings, everybody's keys, and the ledger's genesis.

Every member keeps it in its store, and its digest is the store's identity: a store of another network is refused, and
whoever knows the digest can check a store without believing anybody (`tradebft verify`).
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from tradebft.chain.codec import CodecError, decode, encode
from tradebft.chain.crypto import Ed25519Keyring, digest, make_identities
from tradebft.chain.genesis import Genesis
from tradebft.chain.ledger import Ledger
from tradebft.chain.store import Store, StoreError
from tradebft.consensus.interface import Config
from tradebft.network.application import Application, HashChain, LedgerApplication
from tradebft.network.recorded import RecordedLedger

NAME: Final = "founding"
_BYTES_MAX: Final = 1 << 28


class Signatories(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who signed the transactions of a recorded run, and how: keys of this *kind*, made from *seed*."""

    kind: Literal["modelled", "real"]
    seed: int
    names: tuple[str, ...]


class Founding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of replica i, `replicas[i]` are the public keys: its first, and those that it may come to use later.

    Replicas beyond ``config.nodes`` may be admitted later. *epoch_ns* and *validators* are the ledger's (see
    `LedgerApplication`); without a *ledger* the application is a hash chain. *recorded*: the ledger takes whole blocks
    of another run (`RecordedLedger`), with transactions that these have signed.
    """

    config: Config
    replicas: tuple[tuple[bytes, ...], ...]
    clients: tuple[tuple[str, bytes], ...]
    ledger: Genesis | None = None
    epoch_ns: int = 0
    validators: tuple[str, ...] = ()
    recorded: Signatories | None = None

    @property
    def identity(self) -> bytes:
        """The digest of all of it: what names this network."""
        return digest("founding", encode(self))

    @property
    def application_name(self) -> Literal["ledger", "hash chain"]:
        return "hash chain" if self.ledger is None else "ledger"

    def keyring(self) -> Ed25519Keyring:
        """Everybody's first keys. ValueError where one is no key."""
        keyring = Ed25519Keyring()
        for index, keys in enumerate(self.replicas):
            if not keys:
                raise ValueError(f"replica {index} has no key")
            keyring.register(index, keys[0])
        for name, key in self.clients:
            keyring.register(name, key)
        return keyring

    def application(self) -> Application:
        """What the members execute, as it is before the first block."""
        if self.ledger is None:
            return HashChain()
        if self.recorded is not None:
            by = self.recorded
            _, keyring = make_identities(by.names, by.kind, by.seed)
            return RecordedLedger(Ledger(self.ledger, keyring))
        return LedgerApplication(
            Ledger(self.ledger, self.keyring()), None, self.epoch_ns, self.validators, self.key_of
        )

    def key_of(self, replica: int, generation: int) -> bytes:
        """The key of *replica* after so many rotations; empty for its first, and where it has none."""
        keys = self.replicas[replica] if replica < len(self.replicas) else ()
        return keys[generation] if 0 < generation < len(keys) else b""

    def write_to(self, store: Store) -> None:
        """Keep it in *store*, whose identity must be this one's."""
        if store.identity != self.identity:
            raise StoreError(f"{store.path}: the store of another network")
        store.put_meta(NAME, encode(self))


def founding_in(store: Store) -> Founding | None:
    """What *store* says that its network started from; None where it says nothing.

    Raises:
        StoreError: it says something that cannot be read, or that is not what its identity names.
    """
    data = store.meta(NAME)
    if data is None:
        return None
    try:
        found = decode(data, Founding, limit=_BYTES_MAX)
    except CodecError as error:
        raise StoreError(f"{store.path}: its founding cannot be read: {error}") from None
    if found.identity != store.identity:
        raise StoreError(f"{store.path}: its founding is not the one that its identity names")
    return found
