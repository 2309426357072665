"""A new network, as a folder: what all agree on, a folder to hand to each institution, and a broker's configuration.

    founding              what all agree on, public: settings, keys, the ledger's genesis
    network.json          the same for people to read and to compare
    nodes/replica.0/      for who runs replica 0: node.toml, replica.key, broker.password
    clients/NAME/         for the member NAME: client.toml, member.key, its checker's key if it is a bank
    broker/               for who runs the broker: mosquitto.conf and what it needs

Keys are made here from the system's randomness, for trying out and for pilots. Where institutions do not trust whoever
runs this, each makes its own (`tradebft keys new`) and hands in the public part (*public*).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from tradebft.chain.codec import encode
from tradebft.chain.crypto import Ed25519Keyring, Ed25519Signer, MemberId, acceptable_key
from tradebft.chain.genesis import Genesis, checker_of, members_of, role_of
from tradebft.chain.rules.objects import BANK
from tradebft.chain.rules.parameters import Parameters
from tradebft.consensus.interface import Config
from tradebft.network.live import mosquitto
from tradebft.network.live.assembly import NET
from tradebft.network.live.envelope import endpoint
from tradebft.network.live.founding import Founding, Signatories
from tradebft.network.live.mqtt import address_in
from tradebft.service.errors import ServiceError

VALIDATORS: Final = ("administrator", "policy_bank", *(f"commercial_bank.{k}" for k in range(1, 6)))
"""Who runs a replica, unless something else is said: the model's seven members."""
LOOPBACK: Final = "127.0.0.1"
OFFICES: Final = ("customs", "tax", "insurer")
"""Members of the ledger that run none."""


class Recorded(NamedTuple):
    """A ledger that takes a simulated run's blocks (`tradebft run SCENARIO --bus mqtt --network`)."""

    genesis: Genesis
    signatories: Signatories
    client: str
    config: Config


class Plan(NamedTuple):
    """What a network is to be. *urls*: how nodes reach the brokers; *hosts*: the broker's names for its certificate
    (none: no encryption); *public*: keys that institutions made themselves, by endpoint or member."""

    chain: str
    urls: Sequence[str]
    hosts: Sequence[str] = ()
    validators: Sequence[str] = VALIDATORS
    offices: Sequence[str] = OFFICES
    batch_size: int = 200
    http_port: int = 0
    http_host: str = LOOPBACK
    recorded: Recorded | None = None
    public: Mapping[str, bytes] = {}
    broker_address: str = LOOPBACK  # where it listens; empty: everywhere
    broker_folder: str = ""  # where it finds its files, if not where they are written


def create(folder: Path, plan: Plan) -> Founding:
    """Make *folder* and everything in it. ServiceError where there is something already, or *plan* makes no sense."""
    _check(plan)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ServiceError(f"{folder}: expected an empty folder: a network's keys are never overwritten")
        return _Maker(folder, plan).make()
    except OSError as error:
        raise ServiceError(f"{error.filename or folder}: {error.strerror or error}") from None


def _check(plan: Plan) -> None:
    names = [*plan.validators, *plan.offices]
    for name in names:
        if names.count(name) > 1:
            raise ServiceError(f"members: {name} is named twice")
        try:
            role_of(name)
        except ValueError as error:
            raise ServiceError(f"members: {error}") from None
    if not plan.validators:
        raise ServiceError("validators: expected at least one")
    for url in plan.urls:
        try:
            encrypted = address_in(url).encrypted
        except ValueError as error:
            raise ServiceError(str(error)) from None
        if encrypted != bool(plan.hosts):
            wanted = "mqtts:// with the broker's names (--tls-name)" if encrypted else "mqtt:// without names"
            raise ServiceError(f"broker: {url}: expected {wanted}")
    for name, key in plan.public.items():
        if not acceptable_key(key):
            raise ServiceError(f"the public key of {name} is not a point of the prime-order group")


class _Maker:
    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder, self._plan = folder, plan
        self._signers: dict[MemberId, Ed25519Signer] = {}
        self._keyring = Ed25519Keyring()

    def make(self) -> Founding:
        plan = self._plan
        clients = [plan.recorded.client] if plan.recorded is not None else [*plan.validators, *plan.offices]
        count = plan.recorded.config.nodes if plan.recorded is not None else len(plan.validators)
        for member in [*range(count), *clients]:
            self._identify(member)
        founding = self._founding(count, clients)
        accounts = [*(endpoint(k) for k in range(count)), *clients]
        passwords = {name: mosquitto.password() for name in [*accounts, mosquitto.OPERATOR]}
        files = self._broker(passwords, [endpoint(k) for k in range(count)])
        (self._folder / "founding").write_bytes(encode(founding))
        for k in range(count):
            self._node(k, founding, passwords[endpoint(k)], files.ca)
        for name in clients:
            self._client(name, founding, passwords[name], files.ca)
        (self._folder / "network.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(described(founding)), indent=2) + b"\n"
        )
        return founding

    def _identify(self, member: MemberId) -> None:
        given = self._plan.public.get(endpoint(member))
        if given is None:
            self._signers[member] = Ed25519Signer(member, secrets.token_bytes(32))
            given = self._signers[member].public_key
        self._keyring.register(member, given)

    def _founding(self, count: int, clients: Sequence[str]) -> Founding:
        plan = self._plan
        keys = tuple((self._keyring.public_key(k),) for k in range(count))
        known = tuple((name, self._keyring.public_key(name)) for name in clients)
        if plan.recorded is not None:
            return Founding(
                plan.recorded.config, keys, known, plan.recorded.genesis, recorded=plan.recorded.signatories
            )
        for bank in [name for name in clients if role_of(name) == BANK]:
            self._identify(checker_of(bank))
        config = Config(
            count,
            chain_id=plan.chain.encode(),
            batch_size=plan.batch_size,
            snapshot_interval=1024,
            client_window=1024,
            view_change_timeout_ns=2_000_000_000,
        )
        members = members_of(clients, self._keyring, plan.validators)
        genesis = Genesis(config.chain_id, members, Parameters(faults=config.faults))
        return Founding(config, keys, known, genesis, validators=tuple(plan.validators))

    def _broker(self, passwords: Mapping[str, str], members: Sequence[str]) -> mosquitto.Files:
        plan = self._plan
        port = address_in(plan.urls[0]).port
        broker = mosquitto.Broker(port, plan.hosts, plan.broker_address, seen_at=plan.broker_folder)
        return mosquitto.write(self._folder / "broker", NET, passwords, members, broker)

    def _node(self, index: int, founding: Founding, password: str, ca: Path | None) -> None:
        name = endpoint(index)
        folder = self._folder / "nodes" / name
        self._institution(folder, "replica.key", self._signers.get(index), password, ca)
        (folder / "founding").write_bytes(encode(founding))
        apart = (
            0 if self._plan.http_host != LOOPBACK else index
        )  # on one machine each needs a port of its own
        http = f'\n[http]\nhost = "{self._plan.http_host}"\nport = {self._plan.http_port + apart}\n'
        (folder / "node.toml").write_text(
            f'replica = {index}\nfounding = "founding"\nkey = "replica.key"\nstore = "store.db"\n'
            + self._connection(name, ca)
            + (http if self._plan.http_port else ""),
            encoding="utf-8",
        )

    def _client(self, name: str, founding: Founding, password: str, ca: Path | None) -> None:
        folder = self._folder / "clients" / name
        self._institution(folder, "member.key", self._signers.get(name), password, ca)
        checker = self._signers.get(checker_of(name))
        if checker is not None:
            checker.save(folder / "checker.key")
        (folder / "founding").write_bytes(encode(founding))
        (folder / "client.toml").write_text(
            f'name = "{name}"\nfounding = "founding"\nkey = "member.key"\nstate = "numbers.json"\n'
            + self._connection(name, ca),
            encoding="utf-8",
        )

    def _institution(
        self, folder: Path, key: str, signer: Ed25519Signer | None, password: str, ca: Path | None
    ) -> None:
        """What nobody else gets."""
        folder.mkdir(parents=True)
        folder.chmod(0o700)
        if signer is not None:
            signer.save(folder / key)
        descriptor = os.open(folder / "broker.password", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(password + "\n")
        if ca is not None:
            (folder / "ca.crt").write_bytes(ca.read_bytes())

    def _connection(self, user: str, ca: Path | None) -> str:
        urls = ", ".join(f'"{url}"' for url in self._plan.urls)
        text = f'\n[broker]\nurls = [{urls}]\nuser = "{user}"\npassword_file = "broker.password"\n'
        return text + ('ca = "ca.crt"\n' if ca is not None else "")


def described(founding: Founding) -> dict[str, Any]:
    """What *founding* says, for people: members compare it, above all its identity, before they start."""
    config = founding.config
    names = founding.validators or ("",) * config.nodes
    return {
        "identity": founding.identity.hex(),
        "chain": config.chain_id.decode(errors="replace"),
        "application": founding.application_name,
        "nodes": config.nodes,
        "faults": config.faults,
        "quorum": config.quorum,
        "batch_size": config.batch_size,
        "checkpoint_interval": config.checkpoint_interval,
        "view_change_timeout_ms": config.view_change_timeout_ns / 1e6,
        "replicas": [
            {"replica": k, "member": name, "key": keys[0].hex()}
            for k, (keys, name) in enumerate(zip(founding.replicas, names, strict=False))
        ],
        "clients": [{"name": name, "key": key.hex()} for name, key in founding.clients],
    }
