"""Commands for those who run a member: `tradebft node`, `keys`, `network` and `client`."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
from tradebft.lab.progress import shown
from tradebft.lab.suggesting import Suggesting

if TYPE_CHECKING:
    from tradebft.chain.crypto import Ed25519Signer
    from tradebft.service.asking import Asker
    from tradebft.service.consortium import Recorded

OK, NO = 0, 1
T = TypeVar("T")
FILE = click.Path(path_type=Path)


def _show(value: Any) -> None:
    click.echo(json.dumps(value, indent=1))


# --- node ---


@click.command()
@click.option("--config", type=FILE, required=True, help="The node's settings, a TOML file.")
@click.option("--check", is_flag=True, help="Read everything and start nothing.")
def node(config: Path, check: bool) -> int:
    """Run one replica as a service, until SIGTERM.

    Exit code 1 where its disk fails it, or its store has lost what only this member knew.
    """
    from tradebft.chain.store import StoreError
    from tradebft.service.node import Node

    made = Node(config)
    if check:
        click.echo(f"{config}: ok: replica {made.settings.replica} of {made.founding.identity.hex()}")
        return OK
    try:
        asyncio.run(made.run())
    except StoreError as error:
        click.echo(f"tradebft: {' '.join(str(error).split())}", err=True)
        return NO
    return OK


# --- keys ---


@click.group(cls=Suggesting)
def keys() -> None:
    """Make a key, or show the public part of one."""


@keys.command("new")
@click.argument("file", type=FILE)
def new_key(file: Path) -> int:
    """Make a new Ed25519 key in FILE, readable by its owner only, and print the public part."""
    from tradebft.chain.crypto import Ed25519Signer
    from tradebft.service.errors import ServiceError

    signer = Ed25519Signer(file.stem, secrets.token_bytes(32))
    try:
        signer.save(file)
    except FileExistsError:
        raise ServiceError(f"{file}: there is a file already: a key is never overwritten") from None
    except OSError as error:
        raise ServiceError(f"{file}: {error.strerror or error}") from None
    click.echo(signer.public_key.hex())
    return OK


@keys.command("show")
@click.argument("file", type=FILE)
def show_key(file: Path) -> int:
    """Print the public part of the key in FILE."""
    from tradebft.service.node import key_in

    click.echo(key_in(file, file.stem).public_key.hex())
    return OK


# --- network ---


@click.group(cls=Suggesting)
def network() -> None:
    """Make a new network of members, or show what one agreed on."""


@network.command("new")
@click.argument("folder", type=FILE)
@click.option("--chain", default="guizhou", show_default=True, help="The chain's name.")
@click.option(
    "--broker",
    "urls",
    multiple=True,
    default=("mqtt://127.0.0.1:1883",),
    show_default=True,
    help="How nodes reach a broker; repeatable.",
)
@click.option(
    "--tls-name", "hosts", multiple=True, help="A name of the broker in its certificate; repeatable."
)
@click.option(
    "--validators", metavar="A,B,...", help="Who runs a replica  [default: the model's seven members]"
)
@click.option(
    "--members", metavar="A,B,...", help="Other members of the ledger  [default: customs,tax,insurer]"
)
@click.option("--batch-size", type=click.IntRange(1, 10_000), default=200, show_default=True)
@click.option(
    "--http-port", type=click.IntRange(0, 65_000), default=0, help="Of replica 0; on one machine 1 more each."
)
@click.option(
    "--http-host", default="127.0.0.1", show_default=True, help="Where nodes serve health and metrics."
)
@click.option("--broker-address", default="127.0.0.1", show_default=True, help="Where the broker listens.")
@click.option("--broker-folder", default="", metavar="PATH", help="Where the broker will find its files.")
@click.option(
    "--scenario", help="Take this scenario's blocks (`run --bus mqtt --network`), and nothing else."
)
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Of that scenario.")
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="Of that scenario; repeatable.")
@click.option(
    "--public", "given", metavar="NAME=HEX", multiple=True, help="A public key that is there already."
)
def new_network(
    folder: Path,
    chain: str,
    urls: Sequence[str],
    hosts: Sequence[str],
    validators: str | None,
    members: str | None,
    batch_size: int,
    http_port: int,
    http_host: str,
    broker_address: str,
    broker_folder: str,
    scenario: str | None,
    seed: int | None,
    settings: Sequence[str],
    given: Sequence[str],
) -> int:
    """Make keys, the founding file, settings and a broker's configuration in FOLDER."""
    from tradebft.service import consortium

    plan = consortium.Plan(
        chain,
        urls,
        hosts,
        _names(validators, consortium.VALIDATORS),
        _names(members, consortium.OFFICES),
        batch_size,
        http_port,
        http_host,
        _recorded(scenario, seed, settings),
        _public(given),
        broker_address,
        broker_folder,
    )
    founding = consortium.create(folder, plan)
    click.echo(f"network {founding.identity.hex()}: {founding.config.nodes} replicas, in {folder}")
    return OK


def _names(text: str | None, otherwise: Sequence[str]) -> tuple[str, ...]:
    return (
        tuple(otherwise) if text is None else tuple(name.strip() for name in text.split(",") if name.strip())
    )


def _recorded(scenario: str | None, seed: int | None, settings: Sequence[str]) -> Recorded | None:
    if scenario is None:
        return None
    from tradebft.lab.overrides import overrides_of
    from tradebft.scenarios.live import recorded_founding
    from tradebft.scenarios.live_replay import REPLAYER
    from tradebft.scenarios.schema import load
    from tradebft.service.consortium import Recorded

    config, ledger, signed = recorded_founding(load(scenario, overrides_of(settings), seed))
    return Recorded(ledger, signed, REPLAYER, config)


def _public(given: Sequence[str]) -> Mapping[str, bytes]:
    found = {}
    for text in given:
        name, _, digits = text.partition("=")
        try:
            found[name] = bytes.fromhex(digits)
        except ValueError:
            raise click.UsageError(f"--public {text}: expected NAME=HEX") from None
    return found


@network.command("show")
@click.argument("founding", type=FILE)
def show_network(founding: Path) -> int:
    """Print what the members of a network agreed on, from its FOUNDING file."""
    from tradebft.service.consortium import described
    from tradebft.service.node import founding_at

    _show(described(founding_at(founding)))
    return OK


# --- client ---


@click.group(cls=Suggesting)
@click.option("--config", type=FILE, required=True, help="The client's settings, a TOML file.")
@click.option("--wait", type=click.FloatRange(min=0.1), default=30.0, show_default=True, help="Seconds.")
@click.pass_context
def client(ctx: click.Context, config: Path, wait: float) -> None:
    """Submit a transaction, or ask what f+1 replicas answer alike."""
    ctx.obj = (config, wait)


def _do(ctx: click.Context, work: Callable[[Asker, Ed25519Signer], Coroutine[Any, Any, T]]) -> T:
    from tradebft.service import asking

    config, wait = ctx.obj

    async def connected() -> T:
        async with asking.connected(config, wait) as (asker, signer):
            return await work(asker, signer)

    try:
        return asyncio.run(connected())
    except asking.NoAnswer as error:
        click.echo(f"tradebft: {error}", err=True)
        ctx.exit(NO)


@client.command()
@click.argument("payload", type=click.File("r"))
@click.option("--sender", metavar="NAME=KEYFILE", help="Who sends it, if not the client: a firm, say.")
@click.option(
    "--cosigner", "cosigners", metavar="NAME=KEYFILE", multiple=True, help="Who signs too; repeatable."
)
@click.pass_context
def submit(ctx: click.Context, payload: Any, sender: str | None, cosigners: Sequence[str]) -> int:
    """Submit the transaction whose PAYLOAD is a JSON file (-: standard input), and print its receipt.

    PAYLOAD has the key "type" (docs/ledger.md lists them) and that type's fields; bytes in hexadecimal. Exit code 1
    where the ledger refuses it.
    """
    from tradebft.chain.rules.views import plain
    from tradebft.network.queries import texts
    from tradebft.service.asking import payload_of

    what = payload_of(payload.read(), payload.name)
    others = [_named(text, "--cosigner") for text in cosigners]
    by = None if sender is None else _named(sender, "--sender")

    async def work(asker: Asker, own: Ed25519Signer) -> Any:
        return await asker.submit(await asker.signed(what, [by or own, *others]))

    receipt = _do(ctx, work)
    _show(texts(plain(receipt)))
    return OK if receipt.ok else NO


def _named(text: str, option: str) -> Ed25519Signer:
    name, equals, file = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"{option} {text}: expected NAME=KEYFILE")
    from tradebft.service.node import key_in

    return key_in(Path(file), name)


def _id(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise click.UsageError(f"{text}: expected an id in hexadecimal digits") from None


def _ask(ctx: click.Context, kind: Literal["financing", "receipt"], id: str) -> int:
    """Print what is answered about *id*."""
    from tradebft.network.queries import Query

    query = Query(kind, _id(id))
    _show(_do(ctx, lambda asker, signer: asker.ask(query)))
    return OK


@client.command()
@click.argument("financing")
@click.pass_context
def status(ctx: click.Context, financing: str) -> int:
    """Where the application FINANCING (its id) stands."""
    return _ask(ctx, "financing", financing)


@client.command()
@click.argument("transaction")
@click.pass_context
def receipt(ctx: click.Context, transaction: str) -> int:
    """The receipt of TRANSACTION (its id)."""
    return _ask(ctx, "receipt", transaction)


@client.command()
@click.pass_context
def view(ctx: click.Context) -> int:
    """Everything that this member may see. For the regulator and auditors the look goes on record first."""
    from tradebft.chain.genesis import role_of
    from tradebft.chain.rules.objects import AUDITOR, REGULATOR
    from tradebft.network.queries import Query

    async def work(asker: Asker, signer: Ed25519Signer) -> Any:
        everything = role_of(str(signer.member)) in (REGULATOR, AUDITOR)
        return await asker.ask(Query("view", await asker.looked("view", signer) if everything else b""))

    _show(_do(ctx, work))
    return OK


@client.command()
@click.option("--firm", default="", help="Records about this firm.")
@click.option("--bank", default="", help="Records about this bank, or sent by it.")
@click.option("--token", default="", metavar="HEX", help="Records about this declaration or invoice.")
@click.option("--since", type=click.DateTime(), help="From this block time on (UTC).")
@click.option("--until", type=click.DateTime(), help="Before this block time (UTC).")
@click.pass_context
def audit(ctx: click.Context, firm: str, bank: str, token: str, since: Any, until: Any) -> int:
    """The audit trail, for the regulator and auditors; the look itself goes on record first."""
    from tradebft.network.queries import Query

    def ns(moment: Any, otherwise: int) -> int:
        from datetime import UTC

        return otherwise if moment is None else int(moment.replace(tzinfo=UTC).timestamp()) * 10**9

    async def work(asker: Asker, signer: Ed25519Signer) -> Any:
        look = await asker.looked("audit", signer)
        records: list[Any] = []
        first: int | None = 0
        while first is not None:
            query = Query("audit", look, firm, bank, _id(token), ns(since, 0), ns(until, 1 << 62), first)
            told = await asker.ask(query)
            records += told["records"]
            first = told["next"]
        return records

    _show(_do(ctx, work))
    return OK


@client.command()
@click.argument("transaction")
@click.option("--node", "url", required=True, metavar="URL", help="Any node's HTTP address.")
@click.option("--out", type=FILE, required=True, help="Where the proof goes.")
@click.pass_context
def proof(ctx: click.Context, transaction: str, url: str, out: Path) -> int:
    """Fetch the proof that TRANSACTION (its id) was committed, check it, and write it to a file for others."""
    import msgspec
    from tradebft.network.queries import Query
    from tradebft.service import proof as proofs
    from tradebft.service.errors import ServiceError
    from tradebft.service.node import founding_at
    from tradebft.service.settings import ClientSettings, load

    id = _id(transaction)
    told = _do(ctx, lambda asker, signer: asker.ask(Query("receipt", id)))
    found = proofs.fetched(url, id, int(told["receipt"]["height"]))
    proofs.checked(found, founding_at(load(ctx.obj[0], ClientSettings).founding))
    try:
        out.write_bytes(msgspec.json.encode(found) + b"\n")
    except OSError as error:
        raise ServiceError(f"{out}: {error.strerror or error}") from None
    click.echo(f"{out}: block {found.seq}")
    return OK


@click.command("check-proof")
@click.argument("file", type=FILE)
@click.option("--founding", type=FILE, required=True, help="The founding of the network that it is of.")
def check_proof(file: Path, founding: Path) -> int:
    """Check the proof of a transaction, offline. Exit code 2, with the reason, where it proves nothing."""
    from tradebft.service import proof as proofs
    from tradebft.service.node import founding_at

    proven = proofs.checked(proofs.read(file), founding_at(founding))
    signers = ", ".join(map(str, proven.signers))
    click.echo(
        f"{proven.type} of {proven.sender}: committed in block {proven.seq}, place {proven.place};"
        f" signed by replicas {signers}"
    )
    return OK


# --- the machine ---


@click.command()
@click.option("--out", type=FILE, help="Where the profile goes, for `run --profile`.")
@click.option("--broker", metavar="URL", help="Whose hop to measure  [default: one that comes along]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, in ns.")
@click.option("--quiet", is_flag=True, help="No progress.")
def calibrate(out: Path | None, broker: str | None, as_json: bool, quiet: bool) -> int:
    """Measure what computing costs on this machine, for the simulator's cost model."""
    from tradebft.service import calibrate as measuring
    from tradebft.service.errors import ServiceError

    with shown(quiet) as drawn:
        costs = measuring.calibrate(broker, drawn)
    text = measuring.profile_text(costs)
    if out is not None:
        try:
            out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ServiceError(f"{out}: {error.strerror or error}") from None
    if as_json:
        _show(costs._asdict())
    elif out is None:
        click.echo(text, nl=False)
    else:
        click.echo(f"{out}: tradebft run SCENARIO --profile {out}")
    return OK


@click.command()
@click.argument("scenario")
@click.option("--bus", type=click.Choice(["local", "mqtt"]), default="local", show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Of every random draw of the prediction.")
@click.option(
    "--set", "settings", metavar="KEY=VALUE", multiple=True, help="Override a dotted key; repeatable."
)
@click.option("--repeats", type=click.IntRange(1, 100), default=3, show_default=True, help="Real runs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--quiet", is_flag=True, help="No progress.")
def validate(
    scenario: str,
    bus: str,
    seed: int | None,
    settings: Sequence[str],
    repeats: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run SCENARIO on real members of this machine, and compare with what the simulator predicts of them.

    SCENARIO: synthetic load, closed loop, with a constant link delay of 0, which stands for the machine's own network.
    The costs of computing are measured here before, between and after some real runs.
    """
    from tradebft.lab import validate as comparing
    from tradebft.lab.overrides import overrides_of
    from tradebft.scenarios.schema import load

    loaded = load(scenario, overrides_of(settings), seed)
    with shown(quiet) as drawn:
        found = comparing.validate(loaded, bus, repeats, drawn)
    if as_json:
        _show(found)
    else:
        for line in comparing.lines(found):
            click.echo(line)
    return OK


COMMANDS: tuple[click.Command, ...] = (
    *(node, keys, network, client, check_proof),
    *(calibrate, validate),
)
