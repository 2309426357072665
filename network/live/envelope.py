"""What travels on a bus: one or more encoded messages under one seal.

    magic 4 | chain 32 | boot 8 | counter 8 | topic length 2 | sender length 1 | topic | sender | body | signature 64

The signature is the sender's, over every byte before it. So whoever carries an envelope cannot change it, take it for
another chain's, another topic's or another sender's; and it counts once: each sender numbers its envelopes, and begins
anew with a later *boot* after every start. Votes inside are signed by themselves as well, since certificates need them.

The order of checks is that of hostile input: length, seal over the bytes as received, replay, and only then decoding,
with limits.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from tradebft.chain.codec import CodecError, decode, encode
from tradebft.chain.crypto import Keyring, MemberId, Signer, digest

MAGIC: Final = b"tbf\x01"
ENVELOPE_BYTES_MAX: Final = 1 << 26  # a NewView or a batch (32 MiB), and the rest of its turn
MESSAGES_MAX: Final = 4096
NAME_BYTES_MAX: Final = 200
WINDOW: Final = 1024  # numbers below the highest that may still come, once each
_HEAD: Final = struct.Struct(">4s32sQQHB")
_SIGNATURE: Final = 64
_PREFIX: Final = b"tradebft/envelope\0"


class Opened(NamedTuple):
    """Whose envelope it was, and what was in it."""

    sender: str
    messages: tuple[bytes, ...]


class Refused(NamedTuple):
    """Why an envelope was not opened: one of a fixed set of reasons, to be counted."""

    why: str


def chain_of(identity: bytes) -> bytes:
    """What names a chain in its envelopes: 32 bytes for whatever identifies it."""
    return digest("envelope", identity)


def seal(
    signer: Signer, sender: str, chain: bytes, topic: str, boot: int, counter: int, messages: Sequence[bytes]
) -> bytes:
    """The envelope of *messages*. ValueError where a name, a number or the whole is too large for one."""
    where, who = topic.encode(), sender.encode()
    if len(where) > NAME_BYTES_MAX or len(who) > NAME_BYTES_MAX or len(chain) != 32:
        raise ValueError(
            f"no envelope for {topic!r} of {sender!r}: a name is too long, or the chain's is not 32 bytes"
        )
    body = encode(tuple(messages))
    try:
        head = _HEAD.pack(MAGIC, chain, boot, counter, len(where), len(who))
    except struct.error:
        raise ValueError(f"no envelope has boot {boot} and number {counter}") from None
    sealed = b"".join((head, where, who, body))
    if len(sealed) + _SIGNATURE > ENVELOPE_BYTES_MAX:
        raise ValueError(f"{len(sealed)} bytes do not fit in one envelope")
    return sealed + signer.sign(_PREFIX + sealed)


class _Seen:
    """Which numbers of one sender's present boot have come."""

    __slots__ = ("bits", "boot", "highest")

    def __init__(self, boot: int) -> None:
        self.boot = boot
        self.highest = -1
        self.bits = 0  # bit k: highest - k came

    def has(self, counter: int) -> bool:
        """Whether *counter* has come, or is so old that it may have."""
        behind = self.highest - counter
        return behind >= 0 and (behind >= WINDOW or bool(self.bits >> behind & 1))

    def take(self, counter: int) -> bool:
        """Whether *counter* is new; it is not any more."""
        if self.has(counter):
            return False
        ahead = counter - self.highest
        if ahead > 0:
            self.bits = (self.bits << ahead | 1) & (1 << WINDOW) - 1 if ahead < WINDOW else 1
            self.highest = counter
        else:
            self.bits |= 1 << -ahead
        return True


class Opener:
    """Opens what arrives at *me*, an endpoint of the network *net*. Keeps a few numbers for each known sender."""

    def __init__(self, chain: bytes, net: str, me: str, keyring: Keyring) -> None:
        self._chain, self._net, self._me, self._keyring = chain, net, me, keyring
        self._seen: dict[str, _Seen] = {}

    def open(self, topic: str, data: bytes) -> Opened | Refused:
        """What is in *data*, which came under *topic*; or why nobody will know. Never raises."""
        if len(data) > ENVELOPE_BYTES_MAX:
            return Refused("too long")
        if len(data) < _HEAD.size + _SIGNATURE:
            return Refused("no envelope")
        magic, chain, boot, counter, topic_length, sender_length = _HEAD.unpack_from(data)
        start = _HEAD.size + topic_length + sender_length
        end = len(data) - _SIGNATURE
        if magic != MAGIC or start > end or max(topic_length, sender_length) > NAME_BYTES_MAX:
            return Refused("no envelope")
        if chain != self._chain:
            return Refused("of another chain")
        try:
            sealed_topic = data[_HEAD.size : _HEAD.size + topic_length].decode()
            sender = data[_HEAD.size + topic_length : start].decode()
        except UnicodeDecodeError:
            return Refused("no envelope")
        if sealed_topic != topic or not self._is_mine(sender, topic):
            return Refused("for another topic")
        if self._has_come(sender, boot, counter):  # a second broker's copy: not worth a check of its seal
            return Refused("come before")
        if not self._keyring.verify(address_of(sender), _PREFIX + data[:end], data[end:]):
            return Refused("not sealed by its sender")
        if not self._is_new(sender, boot, counter):
            return Refused("come before")
        try:
            messages = decode(data[start:end], tuple[bytes, ...], limit=ENVELOPE_BYTES_MAX)
        except CodecError:
            return Refused("malformed")
        if len(messages) > MESSAGES_MAX:
            return Refused("too many messages")
        return Opened(sender, messages)

    def _is_mine(self, sender: str, topic: str) -> bool:
        return topic in (f"{self._net}/{sender}/all", f"{self._net}/{sender}/to/{self._me}")

    def _has_come(self, sender: str, boot: int, counter: int) -> bool:
        seen = self._seen.get(sender)
        return seen is not None and (boot < seen.boot or (boot == seen.boot and seen.has(counter)))

    def _is_new(self, sender: str, boot: int, counter: int) -> bool:
        seen = self._seen.get(sender)
        if seen is None or boot > seen.boot:
            seen = self._seen[sender] = _Seen(boot)
        return boot == seen.boot and seen.take(counter)


def endpoint(address: MemberId) -> str:
    """What a replica or a client is called on the bus."""
    return f"replica.{address}" if isinstance(address, int) else address


def address_of(name: str) -> MemberId:
    """Whose keys an endpoint's seals are checked with: a replica's number, or a client's name."""
    head, _, number = name.partition(".")
    plain = head == "replica" and number.isdecimal() and str(int(number)) == number
    return int(number) if plain else name
