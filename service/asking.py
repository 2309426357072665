"""A member's client as a command: one transaction submitted, or one question asked, and what f+1 replicas answered.

A client numbers its requests, each number serves once, and what replicas executed under a number is what they answer to
it ever after. So the last number is kept in a file, written before the request leaves; one process at a time uses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import typing
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from tradebft.chain import transaction
from tradebft.chain.codec import CodecError, decode
from tradebft.chain.crypto import Ed25519Signer, Signer
from tradebft.chain.receipt import Receipt
from tradebft.chain.rules.payloads import PAYLOADS, AuditRead, Payload
from tradebft.chain.transaction import Transaction
from tradebft.network.live.assembly import client_of
from tradebft.network.live.client import LiveClient
from tradebft.network.live.clock import Clock
from tradebft.network.live.founding import Founding
from tradebft.network.queries import Query
from tradebft.scenarios.buses import There
from tradebft.scenarios.errors import one_of, suggestion
from tradebft.scenarios.live_replay import REPLAYER
from tradebft.service.errors import ServiceError
from tradebft.service.node import founding_at, key_at
from tradebft.service.numbers import numbers_at
from tradebft.service.settings import ClientSettings, bus_of, load

LIFETIME_BLOCKS: Final = 1000  # that a transaction may wait, at most


class NoAnswer(Exception):
    """No f+1 replicas answered alike in time. What was submitted may still be executed: ask for its receipt."""


class Asker:
    """A client that is connected. Make one with `connected`."""

    def __init__(self, client: LiveClient, chain_id: bytes, seconds: float) -> None:
        self._client, self._chain_id, self._seconds = client, chain_id, seconds

    async def ask(self, query: Query) -> dict[str, Any]:
        """What f+1 replicas answered; ServiceError where that is a refusal, NoAnswer where they did not."""
        told = msgspec.json.decode(await self._request(query.operation()), type=dict[str, Any])
        if "error" in told:
            raise ServiceError(str(told["error"]))
        return told

    async def signed(self, payload: Payload, signers: Sequence[Signer]) -> Transaction:
        """The transaction of *payload* with the sender's next number; the first of *signers* is the sender."""
        head = await self.ask(Query("head", firm=str(signers[0].member)))
        return transaction.sign(
            payload,
            signers[0],
            signers[1:],
            chain_id=self._chain_id,
            sequence=head["next_sequence"],
            expiry_height=head["height"] + min(LIFETIME_BLOCKS, head["lifetime_blocks"]),
            time_ns=time.time_ns(),
        )

    async def submit(self, signed: Transaction) -> Receipt:
        """Have *signed* executed. ServiceError where this network's application takes no transactions."""
        result = await self._request(signed.encode())
        try:
            return decode(result, Receipt)
        except CodecError:
            raise ServiceError("the answer is no receipt: this network runs no such ledger") from None

    async def looked(self, scope: str, signer: Signer) -> bytes:
        """Put a look on record, as the regulator and auditors must before they see anything; its transaction's id."""
        signed = await self.signed(AuditRead(scope), [signer])
        receipt = await self.submit(signed)
        if not receipt.ok:
            raise ServiceError(f"AUDIT_READ: {receipt.code} {' '.join(receipt.fields)}".strip())
        return signed.id

    async def _request(self, operation: bytes) -> bytes:
        try:
            async with asyncio.timeout(self._seconds):
                return (await self._client.submit(operation)).result
        except TimeoutError:
            brokers = int(getattr(self._client.port.bus, "connected", 1))
            why = "no f+1 replicas answered alike" if brokers else "no broker could be reached"
            raise NoAnswer(f"{why} within {self._seconds:g} s") from None


def _client_at(path: Path) -> tuple[ClientSettings, Founding, Ed25519Signer]:
    settings = load(path, ClientSettings)
    founding = founding_at(settings.founding)
    known = dict(founding.clients)
    if settings.name not in known:
        hint = suggestion(settings.name, known)
        raise ServiceError(f"{path}: name: {settings.name!r}: {one_of(known)}{hint}")
    return settings, founding, key_at(settings.key, settings.name, known[settings.name])


@contextlib.contextmanager
def network_at(path: Path) -> Iterator[There]:
    """The network that the client's settings at *path* lead to, for a scenario's blocks (`tradebft run --network`)."""
    settings, founding, signer = _client_at(path)
    if settings.name != REPLAYER:
        raise ServiceError(f"{path}: name: expected {REPLAYER!r}, the client of `network new --scenario`")
    bus_of(settings.broker, path)  # what is wrong with it is told before the minutes of work
    with numbers_at(settings.state) as numbers:
        yield There(founding, signer, lambda: bus_of(settings.broker, path), numbers.next)


@contextlib.asynccontextmanager
async def connected(path: Path, seconds: float) -> AsyncIterator[tuple[Asker, Ed25519Signer]]:
    """The client that the settings at *path* describe, and its key; it waits at most *seconds* for an answer."""
    settings, founding, signer = _client_at(path)
    with numbers_at(settings.state) as numbers:
        client = client_of(
            founding, settings.name, signer, bus_of(settings.broker, path), Clock(),
            int(settings.timeout_seconds * 1e9),
        )  # fmt: skip
        client.number = numbers.next
        await client.start()
        try:
            yield Asker(client, founding.config.chain_id, seconds), signer
        finally:
            await client.stop()


# --- payloads as people write them ---


def payload_of(text: str, where: str) -> Payload:
    """The payload that JSON *text* spells: its ``type``, and the fields of that type, bytes in hexadecimal."""
    try:
        data = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ServiceError(f"{where}: expected one JSON object: {error}") from None
    name = data.pop("type", None)
    kind = PAYLOADS.get(str(name))
    if kind is None:
        raise ServiceError(f"{where}: type: {name!r}: {one_of(PAYLOADS)}{suggestion(str(name), PAYLOADS)}")
    return typing.cast(Payload, _struct(data, kind, where))


def _struct(data: Any, kind: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise ServiceError(f"{where}: expected an object; found {data!r}")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name in data:
        if name not in fields:
            raise ServiceError(f"{where}: {name}: unknown key; {one_of(fields)}{suggestion(name, fields)}")
    for name, field in fields.items():
        if field.required and name not in data:
            raise ServiceError(f"{where}: {name}: missing")
    return kind(**{name: _value(value, hints[name], f"{where}: {name}") for name, value in data.items()})


def _value(value: Any, hint: Any, where: str) -> Any:
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ServiceError(f"{where}: expected a list; found {value!r}")
        parts = typing.get_args(hint)
        hints = [parts[0]] * len(value) if parts[-1] is ... else parts
        if len(hints) != len(value):
            raise ServiceError(f"{where}: expected {len(hints)} values; found {len(value)}")
        return tuple(_value(v, h, f"{where}[{k}]") for k, (v, h) in enumerate(zip(value, hints, strict=True)))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _struct(value, hint, where)
    if hint is bytes:
        try:
            return bytes.fromhex(value)
        except (TypeError, ValueError):
            raise ServiceError(f"{where}: expected hexadecimal digits; found {value!r}") from None
    if type(value) is not hint:
        words = {int: "a whole number", str: "a text", bool: "true or false"}
        raise ServiceError(f"{where}: expected {words.get(hint, hint)}; found {value!r}")
    return value
