"""A Mosquitto broker for a consortium: configuration, accounts, rights and certificates, as files in one folder.

A member may publish under its own name only (``NET/%u/#``) and reads what is said to all or to it. This protects the
broker's users from one another's noise; that nobody can speak for another is what the seals are for (`envelope`).
Options of Mosquitto 2.0 (mosquitto.conf(5)); each is there for a reason, which its comment gives.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tradebft.network.live.envelope import ENVELOPE_BYTES_MAX

OPERATOR: Final = "operator"  # the account that hears who is up, and nothing else
PASSWORD_ROUNDS: Final = 10_000  # of PBKDF2-SHA512; a password has 192 random bits
VALID_DAYS: Final = 3650
_PACKET_SPARE: Final = 1 << 16  # a topic and the packet's own head


class Broker(NamedTuple):
    """What one broker is to be like. *hosts*: the names and addresses under which members reach it, for its
    certificate; none: no encryption. *queue*: messages that may wait for one member."""

    port: int
    hosts: Sequence[str] = ()
    address: str = "127.0.0.1"
    queue: int = 100_000
    client_certificates: bool = False
    user: str = ""  # whom the broker becomes when it is started by root
    seen_at: str = ""  # where the broker finds the folder, if not where it was written (a container's volume)


class Files(NamedTuple):
    """Where everything lies. *ca*, *ca_key*: None without encryption."""

    configuration: Path
    ca: Path | None
    ca_key: Path | None


def write(
    folder: Path, net: str, passwords: Mapping[str, str], members: Iterable[str], broker: Broker
) -> Files:
    """Fill *folder*. *passwords*: of every account (`password` makes one); *members*: those that hear what is said to
    all. OSError where that cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    _secret(folder / "passwords", "".join(f"{who}:{_hashed(word)}\n" for who, word in passwords.items()))
    _secret(folder / "rights", rights(net, sorted(members)))
    ca = ca_key = None
    if broker.hosts:
        ca, ca_key = folder / "ca.crt", folder / "ca.key"
        _certificates(folder, broker.hosts)
    path = folder / "mosquitto.conf"
    seen = Path(broker.seen_at) if broker.seen_at else folder.resolve()
    path.write_text(configuration(seen, len(passwords), broker), encoding="utf-8")
    return Files(path, ca, ca_key)


def password() -> str:
    """A new one, of 192 random bits."""
    return secrets.token_urlsafe(24)


def configuration(folder: Path, accounts: int, broker: Broker) -> str:
    """mosquitto.conf, for files in *folder* and so many accounts."""
    lines = [
        "# Each connection must name an account; nothing is open to everybody.",
        "per_listener_settings true",
        *([f"user {broker.user}"] if broker.user else []),
        f"listener {broker.port} {broker.address}".rstrip(),
        "allow_anonymous false",
        f"password_file {folder / 'passwords'}",
        f"acl_file {folder / 'rights'}",
        *(_encryption(folder, broker) if broker.hosts else []),
        f"max_connections {4 * accounts + 8}",
        "# Nagle's algorithm costs 40 ms a message at QoS 1.",
        "set_tcp_nodelay true",
        "# The defaults (20 and 1000) lose most of what a stalled member should hear, without a word.",
        "max_inflight_messages 1000",
        f"max_queued_messages {broker.queue}",
        "# The largest envelope, and not more.",
        f"message_size_limit {ENVELOPE_BYTES_MAX}",
        f"max_packet_size {ENVELOPE_BYTES_MAX + _PACKET_SPARE}",
        "# What a member missed it asks its peers for: nothing is kept for it here.",
        "persistence false",
        "retain_available false",
        "# Figures about the broker are nobody's business on the members' listener.",
        "sys_interval 0",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
    ]
    return "\n".join(lines) + "\n"


def _encryption(folder: Path, broker: Broker) -> list[str]:
    return [
        "# TLS 1.2 or later; the certificate descends from this network's own authority.",
        f"cafile {folder / 'ca.crt'}",
        f"certfile {folder / 'broker.crt'}",
        f"keyfile {folder / 'broker.key'}",
        "tls_version tlsv1.2",
        f"require_certificate {'true' if broker.client_certificates else 'false'}",
    ]


def rights(net: str, members: Sequence[str]) -> str:
    """The ACL: everybody speaks under its own name and hears what is said to it; members hear what is said to all."""
    lines = [f"user {OPERATOR}", f"topic read {net}/+/state", ""]
    for member in members:
        lines += [f"user {member}", f"topic read {net}/+/all", ""]
    return "\n".join([*lines, f"pattern write {net}/%u/#", f"pattern read {net}/+/to/%u", ""])


def client_certificate(files: Files, folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for *name* and its key, of the network's own authority. ValueError where there is none."""
    if files.ca is None or files.ca_key is None:
        raise ValueError("a broker without encryption asks for no certificates")
    folder.mkdir(parents=True, exist_ok=True)
    ca = x509.load_pem_x509_certificate(files.ca.read_bytes())
    ca_key = serialization.load_pem_private_key(files.ca_key.read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = _signed(name, key, ca.subject, ca_key, [(usage, False)])
    return _kept(folder / f"{name}.crt", certificate), _key(folder / f"{name}.key", key)


def _certificates(folder: Path, hosts: Sequence[str]) -> None:
    """The network's own authority, and the broker's certificate."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.BasicConstraints(ca=True, path_length=0)
    subject = _name("tradebft network authority")
    _kept(
        folder / "ca.crt", _signed("tradebft network authority", ca_key, subject, ca_key, [(authority, True)])
    )
    names = x509.SubjectAlternativeName([_host(host) for host in hosts])
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    _kept(folder / "broker.crt", _signed(hosts[0], key, subject, ca_key, [(names, False), (usage, False)]))
    _key(folder / "ca.key", ca_key)
    _key(folder / "broker.key", key)


def _signed(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + timedelta(days=VALID_DAYS))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _kept(path: Path, certificate: x509.Certificate) -> Path:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


def _key(path: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _secret(path, text.decode())
    return path


def _secret(path: Path, text: str) -> None:
    """Readable by its owner only, from the first byte on."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _hashed(word: str) -> str:
    """As mosquitto_passwd writes it: ``$7$rounds$salt$hash``, PBKDF2 with SHA-512."""
    salt = secrets.token_bytes(12)
    value = hashlib.pbkdf2_hmac("sha512", word.encode(), salt, PASSWORD_ROUNDS, 64)
    return f"$7${PASSWORD_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(value).decode()}"
