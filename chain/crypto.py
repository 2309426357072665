"""Digests, identities, signatures and keyed tokens: every use of cryptography in the project goes through
here.

Everything hashed or signed starts with a name for what it is (its domain), so that bytes made for one purpose
never serve another: a Prepare vote is no Commit vote, a transaction is no vote, and nothing signed for one
chain holds on another.

Two kinds of identity answer to the same two protocols:

* **real**: Ed25519 by libsodium (PyNaCl). One verifier everywhere, because libraries disagree about
  degenerate keys; keys of small order are refused when they are registered.
* **modelled**: for simulation. A signature is a keyed tag under a secret that only the owner's signer holds,
  of the same 64 bytes, at about a microsecond. Simulated adversaries are handed signers of their own members
  only, so they cannot forge anyone else's.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

import msgspec
from nacl import bindings, exceptions
from nacl.signing import SigningKey, VerifyKey

MemberId: TypeAlias = int | str
"""A replica's index in consensus, or a member's name on the ledger."""

DIGEST_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
KEY_BYTES: Final = 32

_UINT64_END: Final = 1 << 64
_domains: dict[str, bytes] = {}
_vote_prefixes: dict[tuple[bytes, str], bytes] = {}
_pack_view_seq: Final = struct.Struct(">QQ").pack


# ---- digests -----------------------------------------------------------------------------------------------


def digest(domain: str, *parts: bytes) -> bytes:
    """SHA-256 (32 bytes) of the parts, each length-prefixed, under a domain: no two uses or splits share an
    input.
    """
    prefix = _domains.get(domain)
    if prefix is None:
        prefix = _domains[domain] = b"tradebft/" + domain.encode() + b"\0"
    pieces = [prefix]
    for part in parts:
        pieces += len(part).to_bytes(8, "big"), part
    return sha256(b"".join(pieces)).digest()


def token(key: bytes, kind: str, text: str) -> bytes:
    """What stands on the chain for a customs number, USCC or invoice key: HMAC-SHA256 under a key members
    never see.

    A plain hash would not do: these are short structured numbers (an 18-digit customs number has about 10^12
    plausible values), so anyone could hash them all and look the answer up.
    """
    if len(key) < 16:
        raise ValueError(f"the token key has {len(key)} bytes, at least 16 are needed")
    return hmac.digest(key, b"tradebft/token/" + kind.encode() + b"\0" + text.encode(), "sha256")


# ---- what signers and verifiers promise --------------------------------------------------------------------


class Signer(Protocol):
    """Signs for one member. The payload is already domain separated; the signature has 64 bytes."""

    @property
    def member(self) -> MemberId: ...

    @property
    def public_key(self) -> bytes: ...

    def sign(self, payload: bytes) -> bytes: ...


class Keyring(Protocol):
    """Checks signatures. Never raises: anything odd (unknown member, wrong length, wrong type) is False."""

    def verify(self, member: MemberId, payload: bytes, signature: bytes) -> bool:
        """Whether this member signed this payload, with the key it was registered with."""
        ...

    def verify_key(self, public_key: bytes, payload: bytes, signature: bytes) -> bool:
        """Whether the holder of this key signed this payload (the ledger keeps keys that change in its
        state).
        """
        ...

    def public_key(self, member: MemberId) -> bytes:
        """The key a member was registered with; KeyError where it never was."""
        ...


# ---- modelled identities -----------------------------------------------------------------------------------


class ModelledSigner:
    """A simulated member's signer. The secret lives in a closure: holding the keyring does not give it
    away.
    """

    __slots__ = ("member", "public_key", "sign")

    def __init__(self, member: MemberId, public_key: bytes, secret: bytes) -> None:
        self.member = member
        self.public_key = public_key

        def sign(payload: bytes) -> bytes:
            return blake2b(payload, key=secret).digest()

        self.sign: Callable[[bytes], bytes] = sign


class ModelledKeyring:
    """Verifies the tags of every signer that was issued with the same seed by this keyring."""

    __slots__ = ("_issue", "_public", "verify", "verify_key")

    def __init__(self, seed: int) -> None:
        secrets: dict[MemberId, bytes] = {}
        secrets_by_key: dict[bytes, bytes] = {}
        self._public: dict[MemberId, bytes] = {}

        def verify(member: MemberId, payload: bytes, signature: bytes) -> bool:
            try:
                return blake2b(payload, key=secrets[member]).digest() == signature
            except (KeyError, TypeError):
                return False

        def verify_key(public_key: bytes, payload: bytes, signature: bytes) -> bool:
            try:
                return blake2b(payload, key=secrets_by_key[public_key]).digest() == signature
            except (KeyError, TypeError):
                return False

        def issue(member: MemberId, generation: int) -> ModelledSigner:
            secret = _seed_bytes("modelled", seed, member, generation)
            public_key = digest("modelled/public", secret)
            secrets_by_key[public_key] = secret
            if generation == 0:
                secrets[member] = secret
                self._public[member] = public_key
            return ModelledSigner(member, public_key, secret)

        self.verify: Callable[[MemberId, bytes, bytes], bool] = verify
        self.verify_key: Callable[[bytes, bytes, bytes], bool] = verify_key
        self._issue = issue

    def issue(self, member: MemberId, generation: int = 0) -> ModelledSigner:
        """A signer for a member; generation 1, 2, ... are later keys, of which only `verify_key` knows."""
        return self._issue(member, generation)

    def public_key(self, member: MemberId) -> bytes:
        """The key this member was registered with; KeyError where it never was."""
        return self._public[member]


class Rekeyed:
    """A keyring in which some members have other keys than those they were registered with."""

    __slots__ = ("_base", "_keys")

    def __init__(self, base: Keyring, keys: Mapping[MemberId, bytes]) -> None:
        self._base, self._keys = base, dict(keys)

    def verify(self, member: MemberId, payload: bytes, signature: bytes) -> bool:
        """Whether the member signed this with the key that it has here."""
        try:
            key = self._keys.get(member)
        except TypeError:
            return False
        if key is None:
            return self._base.verify(member, payload, signature)
        return self._base.verify_key(key, payload, signature)

    def verify_key(self, public_key: bytes, payload: bytes, signature: bytes) -> bool:
        """Whether the holder of this key signed this payload."""
        return self._base.verify_key(public_key, payload, signature)

    def public_key(self, member: MemberId) -> bytes:
        """The key this member has; KeyError where it has none."""
        return self._keys[member] if member in self._keys else self._base.public_key(member)


class Announced:
    """A keyring in which members have several keys at once: the registered one, and those announced since.

    For whoever checks a message before it is known which of them must have signed it.
    """

    __slots__ = ("_base", "_more")

    def __init__(self, base: Keyring) -> None:
        self._base = base
        self._more: dict[MemberId, list[bytes]] = {}

    def announce(self, member: MemberId, public_key: bytes) -> None:
        """From now on *public_key* is one of the member's."""
        self._more.setdefault(member, []).append(public_key)

    def verify(self, member: MemberId, payload: bytes, signature: bytes) -> bool:
        """Whether the member signed this with any of its keys."""
        if self._base.verify(member, payload, signature):
            return True
        try:
            more = self._more.get(member, ())
        except TypeError:
            return False
        return any(self._base.verify_key(key, payload, signature) for key in more)

    def verify_key(self, public_key: bytes, payload: bytes, signature: bytes) -> bool:
        """Whether the holder of this key signed this payload."""
        return self._base.verify_key(public_key, payload, signature)

    def public_key(self, member: MemberId) -> bytes:
        """The key this member was registered with; KeyError where it never was."""
        return self._base.public_key(member)


class Wallet:
    """One member's signers, the one in use first: a key that is to replace it is at hand when its epoch begins."""

    __slots__ = ("_signers", "member", "public_key", "sign")

    def __init__(self, signers: Iterable[Signer]) -> None:
        self._signers = {signer.public_key: signer for signer in signers}
        first = next(iter(self._signers.values()))
        self.member, self.public_key = first.member, first.public_key
        self.sign: Callable[[bytes], bytes] = first.sign

    @property
    def others(self) -> list[Signer]:
        """The signers that are not in use."""
        return [signer for key, signer in self._signers.items() if key != self.public_key]

    def with_key(self, public_key: bytes) -> Wallet | None:
        """The same wallet with another key in use; None if that key is not in it."""
        if public_key not in self._signers:
            return None
        rest = [signer for key, signer in self._signers.items() if key != public_key]
        return Wallet([self._signers[public_key], *rest])


# ---- real identities ---------------------------------------------------------------------------------------


class Ed25519Signer:
    """A member's Ed25519 key. `seed` is the 32-byte private seed; keep it in a key file, nowhere else."""

    __slots__ = ("_key", "member", "public_key")

    def __init__(self, member: MemberId, seed: bytes) -> None:
        if len(seed) != KEY_BYTES:
            raise ValueError(f"an Ed25519 seed has {KEY_BYTES} bytes, not {len(seed)}")
        self.member = member
        self._key = SigningKey(seed)
        self.public_key = bytes(self._key.verify_key)

    def sign(self, payload: bytes) -> bytes:
        """Ed25519 over the payload, 64 bytes."""
        return self._key.sign(payload).signature

    def save(self, path: Path) -> None:
        """Write the seed to a new file that only its owner may read (mode 0600); an existing file is never
        replaced.
        """
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(bytes(self._key))

    @classmethod
    def load(cls, member: MemberId, path: Path) -> Ed25519Signer:
        """Read a key file; ValueError where others than its owner could have read it, or its length is
        wrong.
        """
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            if mode & 0o077:
                raise ValueError(f"{path} has mode {mode:04o}; a key file must be 0600")
            return cls(member, file.read(KEY_BYTES + 1))


class Ed25519Keyring:
    """Public keys by member, every one checked when it is registered."""

    __slots__ = ("_by_key", "_by_member", "_public")

    def __init__(self) -> None:
        self._by_member: dict[MemberId, VerifyKey] = {}
        self._by_key: dict[bytes, VerifyKey | None] = {}
        self._public: dict[MemberId, bytes] = {}

    def register(self, member: MemberId, public_key: bytes) -> None:
        """Give a member its key.

        Raises:
            ValueError: not a canonical point of the prime-order group. Keys of small order are among these:
                anyone can make signatures that hold under them, and libraries disagree about which.
        """
        if not acceptable_key(public_key):
            raise ValueError(f"the public key of {member} is not a point of the prime-order group")
        self._by_member[member] = VerifyKey(public_key)
        self._public[member] = bytes(public_key)

    def verify(self, member: MemberId, payload: bytes, signature: bytes) -> bool:
        """Whether the member's registered key made this signature; False for anything odd."""
        try:
            return _holds(self._by_member[member], payload, signature)
        except (KeyError, TypeError):
            return False

    def verify_key(self, public_key: bytes, payload: bytes, signature: bytes) -> bool:
        """Whether this key made this signature; False for anything odd."""
        try:
            key = self._by_key.get(public_key)
            if key is None:
                if not acceptable_key(public_key):
                    return False
                key = self._by_key[public_key] = VerifyKey(public_key)
            return _holds(key, payload, signature)
        except TypeError:
            return False

    def public_key(self, member: MemberId) -> bytes:
        """The key this member was registered with; KeyError where it never was."""
        return self._public[member]


def acceptable_key(public_key: bytes) -> bool:
    """Whether these 32 bytes encode, canonically, a point of the prime-order group (so none of small
    order).
    """
    try:
        return len(public_key) == KEY_BYTES and bool(bindings.crypto_core_ed25519_is_valid_point(public_key))
    except (TypeError, ValueError, exceptions.CryptoError):
        return False


def _holds(key: VerifyKey, payload: bytes, signature: bytes) -> bool:
    try:
        key.verify(payload, signature)
    except (exceptions.CryptoError, ValueError, TypeError):
        return False
    return True


def make_identities(
    members: Iterable[MemberId], kind: Literal["modelled", "real"], seed: int
) -> tuple[dict[MemberId, Signer], Keyring]:
    """Signers for these members and the keyring that knows them all; the same seed gives the same keys.

    Real keys made here are for simulations and tests: whoever knows the seed knows them.
    """
    signers: dict[MemberId, Signer] = {}
    if kind == "modelled":
        modelled = ModelledKeyring(seed)
        for member in members:
            signers[member] = modelled.issue(member)
        return signers, modelled
    if kind != "real":
        raise ValueError(f"identities are 'modelled' or 'real', not {kind!r}")
    real = Ed25519Keyring()
    for member in members:
        signer = Ed25519Signer(member, _seed_bytes("ed25519", seed, member, 0))
        real.register(member, signer.public_key)
        signers[member] = signer
    return signers, real


def later_key(keyring: Keyring, member: MemberId, seed: int, generation: int) -> Signer:
    """The key that *member* will have after *generation* rotations, for identities made with this seed."""
    if isinstance(keyring, ModelledKeyring):
        return keyring.issue(member, generation)
    return Ed25519Signer(member, _seed_bytes("ed25519", seed, member, generation))


def _seed_bytes(kind: str, seed: int, member: MemberId, generation: int) -> bytes:
    # repr keeps replica 1 and a member called "1" apart.
    text = f"{seed}\0{member!r}\0{generation}"
    return hashlib.blake2b(text.encode(), digest_size=32, person=kind.encode()).digest()


# ---- votes and certificates --------------------------------------------------------------------------------


def vote_payload(chain_id: bytes, kind: str, view: int, seq: int, digest: bytes) -> bytes:
    """What a Prepare, Commit or Checkpoint vote signs. Chain and kind separate domains; view and seq are 64
    bits.

    Raises:
        struct.error: view or seq is negative or wider than 64 bits (messages that were decoded cannot hold
        such).
    """
    prefix = _vote_prefixes.get((chain_id, kind))
    if prefix is None:
        name = kind.encode()
        prefix = b"tradebft/vote\0" + len(chain_id).to_bytes(4, "big") + chain_id
        prefix += len(name).to_bytes(4, "big") + name
        _vote_prefixes[chain_id, kind] = prefix
    return prefix + _pack_view_seq(view, seq) + digest


class QuorumCertificate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Proof that a quorum said the same thing: one signature a member over one vote payload."""

    kind: str
    view: int
    seq: int
    digest: bytes
    votes: tuple[tuple[int, bytes], ...]

    def valid(self, chain_id: bytes, keyring: Keyring, quorum: int) -> bool:
        """Whether at least `quorum` distinct members signed this, and no signature in it fails. Never
        raises.
        """
        if len(self.votes) < quorum or len(self.digest) != DIGEST_BYTES:
            return False
        if not (0 <= self.view < _UINT64_END and 0 <= self.seq < _UINT64_END):
            return False
        if len({member for member, _ in self.votes}) != len(self.votes):
            return False
        payload = vote_payload(chain_id, self.kind, self.view, self.seq, self.digest)
        verify = keyring.verify
        return all(verify(member, payload, signature) for member, signature in self.votes)
