"""The files that a node and a client are started with: TOML, checked as scenarios are.

replica = 0                                paths are relative to the file's folder
founding = "../founding"
key = "replica.0.key"
store = "store.db"

[broker]
urls = ["mqtts://broker-a:8883", "mqtts://broker-b:8883"]
ca = "../ca.crt"
user = "replica.0"
password_file = "broker.password"
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator
from tradebft.network.live.mqtt import MqttBus, Tls, address_in
from tradebft.scenarios.explain import explain
from tradebft.scenarios.lines import key_lines
from tradebft.scenarios.loading import Source
from tradebft.service.errors import ServiceError


def _a_file(path: Path) -> Path:
    if not path.name or "\0" in str(path):
        raise ValueError(f"expected the path of a file; found {json.dumps(str(path))}")
    return path


FilePath = Annotated[Path, Field(strict=False), AfterValidator(_a_file)]


class Section(BaseModel):
    """Frozen, and a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BrokerSettings(Section):
    """How to reach the brokers."""

    urls: tuple[str, ...] = Field(
        min_length=1, strict=False, description="addresses, such as mqtt://127.0.0.1:1883"
    )
    user: str | None = Field(default=None, description="the account at the brokers")
    password_file: FilePath | None = Field(default=None, description="a file with the account's password")
    ca: FilePath | None = Field(
        default=None, description="certificates that an mqtts broker must descend from"
    )
    certificate: FilePath | None = Field(default=None, description="this endpoint's own certificate")
    key: FilePath | None = Field(default=None, description="the key of that certificate")

    @field_validator("urls")
    @classmethod
    def _are_addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            address_in(url)
        return urls


class HttpSettings(Section):
    """Where health and metrics are served. It is for this machine's operators: not for the world."""

    host: str = Field(default="127.0.0.1", description="the address to listen at")
    port: int = Field(default=0, ge=0, le=65535, description="the port; 0: nothing is served")


class LogSettings(Section):
    """What is written to the standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"


class NodeSettings(Section):
    """One replica's."""

    replica: int = Field(ge=0, description="which of the replicas this is")
    founding: FilePath = Field(description="the network's founding file")
    key: FilePath = Field(description="the file of this replica's key")
    store: FilePath = Field(description="the file that keeps what must survive")
    archive: bool = Field(default=False, description="keep blocks for ever, for audits")
    broker: BrokerSettings
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()


class ClientSettings(Section):
    """One member's client."""

    name: str = Field(description="the member that asks")
    founding: FilePath = Field(description="the network's founding file")
    key: FilePath = Field(description="the file of the member's key")
    state: FilePath = Field(description="the file in which numbers that were used are kept")
    timeout_seconds: float = Field(default=5.0, gt=0, description="seconds until all replicas are asked")
    broker: BrokerSettings


S = TypeVar("S", bound=Section)


def load(path: Path, kind: type[S]) -> S:
    """The settings in *path*, with paths as seen from here. ServiceError in one line."""
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise ServiceError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ServiceError(f"{path}: not TOML: {error}") from None
    try:
        settings = kind.model_validate(data)
    except ValidationError as error:
        raise ServiceError(explain(error, Source(str(path), key_lines(text)), kind)) from None
    return _placed(settings, path.parent)


def bus_of(broker: BrokerSettings, where: Path) -> MqttBus:
    """A connection, not yet open. ServiceError for a file that cannot be read, with *where* the settings are."""
    try:
        word = None if broker.password_file is None else broker.password_file.read_text("utf-8").strip()
        tls = Tls(broker.ca, broker.certificate, broker.key)
        return MqttBus(broker.urls, username=broker.user, password=word, tls=tls)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        raise ServiceError(f"{where}: broker: {name}{error.strerror or error}") from None
    except ValueError as error:
        raise ServiceError(f"{where}: broker: {error}") from None


def _placed(settings: S, folder: Path) -> S:
    """With relative paths seen from *folder*."""
    changes: dict[str, object] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Path) and not value.is_absolute():
            changes[name] = folder / value
        elif isinstance(value, Section):
            changes[name] = _placed(value, folder)
    return settings.model_copy(update=changes)
