"""The `tradebft` command: parse, call, print.

Exit codes: 0 done; 1 an expectation of the scenario does not hold; 2 bad input, said in one line on stderr; 130 Ctrl-C
or SIGTERM, leaving a whole result (marked as partial) or none. With --json, stdout holds one JSON document and nothing
else; progress and remarks go to stderr. Commands import what they need when they run, so that --help is quick.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from tradebft.lab import explore_cli, fuzz_cli, service_cli
from tradebft.lab.engine_option import engine_option
from tradebft.lab.overrides import overrides_of, profile_in, warn
from tradebft.lab.progress import shown
from tradebft.lab.suggesting import Suggesting

if TYPE_CHECKING:
    from tradebft.lab.run import Run
    from tradebft.scenarios.buses import There
    from tradebft.scenarios.records import Records

OK, EXPECTATION_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class Seed(click.IntRange):
    """A seed, with a name that its error message can use."""

    name = "whole number from 0 to 2^64 - 1"


@click.group(cls=Suggesting, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tradebft", prog_name="tradebft")
def cli() -> None:
    """Simulate trade finance on a PBFT network, and compare it with paper and with a central database."""


@cli.command()
@click.argument("scenario")
@click.option("--seed", type=Seed(0, 2**64 - 1), help="Seed of every random draw.")
@click.option(
    "settings", "--set", metavar="KEY=VALUE", multiple=True, help="Override a dotted key; repeatable."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Results folder  [default: results/NAME-seedS-N]"
)
@click.option("as_json", "--json", is_flag=True, help="Print the result document; a folder only with --out.")
@click.option("--quiet", is_flag=True, help="No progress, no comparison; failed expectations only.")
@click.option("--bus", default="simulated", show_default=True, help="simulated, local or mqtt.")
@click.option("--broker", metavar="URL", help="mqtt://HOST:PORT or mqtts://  [default: one of its own]")
@click.option(
    "--broker-ca",
    type=click.Path(path_type=Path),
    help="Certificates that an mqtts broker must descend from.",
)
@click.option(
    "--profile",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Costs of computing, as `calibrate` wrote them, for nodes.cpu.",
)
@click.option(
    "--network",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The client's settings of a network that runs already (`network new --scenario`).",
)
@engine_option
def run(
    scenario: str,
    seed: int | None,
    settings: Sequence[str],
    out: Path | None,
    as_json: bool,
    quiet: bool,
    bus: str,
    broker: str | None,
    broker_ca: Path | None,
    profile: Path | None,
    network: Path | None,
    engine: str,
) -> int:
    """Run SCENARIO, a built-in name or the path of a TOML file."""
    from tradebft.lab import results
    from tradebft.lab.run import run as run_scenario
    from tradebft.network.virtual_time import collect_seldom
    from tradebft.scenarios import buses
    from tradebft.scenarios.schema import load

    overrides = overrides_of(settings)
    if profile is not None:
        overrides["nodes.cpu"] = profile_in(profile)
    loaded = load(scenario, overrides, seed)
    with _running(network) as there:
        buses.check(loaded, bus, buses.broker_of(broker, broker_ca), there)
    warn([*loaded.warnings_over(bus), *buses.remarks(loaded, bus)])
    stem = f"{loaded.name}-seed{loaded.seed}"
    if out is not None or not as_json:
        results.check_writable(out if out is not None else Path("results") / f"{stem}-1.new")
    collect_seldom()  # until the command ends: `main`
    with shown(quiet) as progress, _running(network) as there:
        finished = run_scenario(
            scenario, seed=seed, set=overrides, progress=progress, bus=bus, broker=broker,
            broker_ca=broker_ca, network=there, engine=engine,
        )  # fmt: skip
        folder: Path | None = None
        if out is not None:
            folder = finished.save(out, progress)
        elif not as_json:
            with _next_folder(Path("results"), stem) as free:
                folder = finished.save(free, progress)
    if engine != "reference" and not quiet:
        _say_engine(finished.records, always=engine == "auto")
    return _show(finished, folder, as_json, quiet)


def _say_engine(records: Records, always: bool) -> None:
    why = f": {records.engine_why}" if records.engine_why else ""
    if always or why:
        click.echo(f"engine {records.engine}{why}", err=True)


@contextlib.contextmanager
def _running(client: Path | None) -> Iterator[There | None]:
    """The network that a client's settings lead to, if there are any."""
    if client is None:
        yield None
        return
    from tradebft.service.asking import network_at

    with network_at(client) as there:
        yield there


@contextlib.contextmanager
def _next_folder(parent: Path, stem: str) -> Iterator[Path]:
    """A new folder `stem-1`, `stem-2`, ... that no other run has; taken away again if nothing comes into it."""
    from tradebft.lab.results import ResultsError

    number = 1
    while True:
        folder = parent / f"{stem}-{number}"
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            number += 1
        except OSError as error:
            raise ResultsError(f"cannot write {folder}: {error.strerror or error}") from error
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # succeeds only while it is empty


def _show(finished: Run, folder: Path | None, as_json: bool, quiet: bool) -> int:
    from tradebft.lab import results, terminal

    complete = finished.document.get("complete", True)
    if as_json:
        click.echo(results.dumps(finished.document))
    elif not quiet:
        terminal.comparison(finished)
        if folder is not None:
            click.echo(f"report: {folder / 'report.html'}")
    if not complete:
        where = f"; what there is, is in {folder}" if folder is not None else ""
        click.echo(f"interrupted before the end{where}", err=True)
        return INTERRUPTED
    for failure in finished.failed:
        click.echo(f"{finished.document['scenario']}: {failure}", err=True)
    return EXPECTATION_FAILED if finished.failed else OK


@cli.command()
@click.argument("file")
@click.option(
    "settings", "--set", metavar="KEY=VALUE", multiple=True, help="Override a dotted key; repeatable."
)
def check(file: str, settings: Sequence[str]) -> int:
    """Check a scenario, a path or a built-in name, without running it."""
    from tradebft.scenarios.schema import load

    scenario = load(file, overrides_of(settings))
    warn(scenario.warnings)
    faults = f", {len(scenario.faults)} fault(s)" if scenario.faults else ""
    click.echo(f"{file}: ok: {scenario.workload.kind}, {len(scenario.node_names)} nodes{faults}")
    return OK


@cli.group(cls=Suggesting, invoke_without_command=True)
@click.pass_context
def scenarios(ctx: click.Context) -> int | None:
    """List the built-in scenarios, or show one."""
    if ctx.invoked_subcommand is None:
        return int(ctx.invoke(list_scenarios))
    return None


@scenarios.command("list")
def list_scenarios() -> int:
    """Names of the built-in scenarios, and the question each answers."""
    from tradebft.lab import terminal
    from tradebft.scenarios import catalogue

    terminal.questions(catalogue.entries())
    return OK


@scenarios.command("show")
@click.argument("name")
def show_scenario(name: str) -> int:
    """Print the file of a built-in scenario; save it under another name to change it."""
    from tradebft.scenarios import catalogue
    from tradebft.scenarios.errors import suggestion

    known = catalogue.names()
    if name not in known:
        hint = suggestion(name, known) or f"; built in: {', '.join(known)}"
        raise click.UsageError(f"{name}: no built-in scenario of that name{hint}")
    click.echo(catalogue.text(name), nl=False)
    return OK


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--quiet", is_flag=True, help="No progress.")
def report(directory: Path, quiet: bool) -> int:
    """Draw figures and report of a results folder again."""
    from tradebft.lab import results

    with shown(quiet) as progress:
        path = results.redraw(directory, progress)
    click.echo(f"report: {path}")
    return OK


@cli.group(cls=Suggesting)
def bench() -> None:
    """Measure the simulator on this machine."""


@bench.command()
@click.option("--nodes", type=click.IntRange(1, 1000), default=64, show_default=True, help="Replicas.")
@click.option("--batches", type=click.IntRange(min=1), default=20, show_default=True, help="Batches decided.")
@engine_option
@click.option(
    "--scaling",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="All engines with 4 to 1,000 members instead; the figure goes into that folder.",
)
@click.option("as_json", "--json", is_flag=True, help="Print one JSON document.")
@click.option("--quiet", is_flag=True, help="No progress.")
def engine(nodes: int, batches: int, engine: str, scaling: Path | None, as_json: bool, quiet: bool) -> int:
    """Messages a second, beside a bare loop that counts votes: heapq, or compiled for the engines that are."""
    from tradebft.lab import bench as benches

    if scaling is None:
        _print(benches.engine(nodes, batches, engine=engine), as_json)
        return OK
    from tradebft.lab import bench_scaling

    scaling.mkdir(parents=True, exist_ok=True)  # before minutes of work, not after
    with shown(quiet) as progress:
        found = bench_scaling.scaling(progress=progress)
    picture = bench_scaling.save(found, scaling)
    if as_json:
        _print({"runs": found}, as_json)
    else:
        click.echo("\n".join([*bench_scaling.lines(found), f"figure: {picture}"]))
    return OK


def _print(measured: Mapping[str, Any], as_json: bool) -> None:
    """What a bench found: one JSON document, or a line a figure."""
    import json

    if as_json:
        click.echo(json.dumps(measured, indent=1, allow_nan=False))
        return
    for name, value in measured.items():
        click.echo(f"{name:28} {f'{value:,.6g}' if isinstance(value, float) else value}")


@bench.command()
@click.option("--nodes", type=click.IntRange(1, 100), default=4, show_default=True, help="Member processes.")
@click.option(
    "--batch", type=click.IntRange(min=1), default=200, show_default=True, help="Most a batch holds."
)
@click.option("--transactions", type=click.IntRange(min=1), default=20_000, show_default=True)
@click.option(
    "--outstanding",
    type=click.IntRange(1, 4000),
    default=2400,
    show_default=True,
    help="Submitted, not answered.",
)
@click.option("--broker", metavar="URL", help="[default: Mosquitto, or the broker that comes along]")
@click.option("as_json", "--json", is_flag=True, help="Print one JSON document.")
@click.option("--quiet", is_flag=True, help="No progress.")
def network(
    nodes: int,
    batch: int,
    transactions: int,
    outstanding: int,
    broker: str | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """What member processes commit over a broker, beside what this machine's Ed25519 checks allow."""
    from tradebft.lab import bench_network
    from tradebft.network.live.broker import BrokerError
    from tradebft.network.live.process import MemberError

    try:
        with shown(quiet) as progress:
            measured = bench_network.network(nodes, batch, transactions, outstanding, broker, progress)
    except (MemberError, BrokerError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    _print(measured, as_json)
    return OK


@cli.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--identity", metavar="HEX", help="The network it must belong to: the digest of its founding.")
@click.option("as_json", "--json", is_flag=True, help="Print one JSON document.")
def verify(store: Path, identity: str | None, as_json: bool) -> int:
    """Check a member's whole chain again, with no help from any member.

    Exit code 1 and the first bad block, where something does not hold.
    """
    import json

    import msgspec
    from tradebft.lab import verify as verifier

    try:
        known = None if identity is None else bytes.fromhex(identity)
    except ValueError:
        raise click.UsageError(f"--identity {identity}: expected hexadecimal digits") from None
    verdict = verifier.verify(store, known)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(verdict), indent=1))
    else:
        for line in verifier.lines(verdict):
            click.echo(line)
    return OK if verdict.ok else EXPECTATION_FAILED


cli.add_command(fuzz_cli.fuzz)
cli.add_command(fuzz_cli.replay)
for command in (*explore_cli.COMMANDS, *service_cli.COMMANDS):
    cli.add_command(command)


@cli.command("docs-reference", hidden=True)
def docs_reference() -> int:
    """Print docs/scenarios.md, generated from the schema."""
    from tradebft.lab import reference

    click.echo(reference.scenarios_page(), nl=False)
    return OK


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command; always leaves through SystemExit with one of the exit codes above."""
    collected = gc.get_threshold()
    if arguments is None:
        signal.signal(signal.SIGTERM, _interrupt)
    code = _main(arguments)
    if arguments is None:
        gc.freeze()  # the process ends: to look through what a year left behind for cycles would take seconds
    gc.set_threshold(*collected)
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """What a scheduler sends before it kills is worth a partial result, and no process left, as Ctrl-C is: whoever has
    taken charge of that (an event loop) is told."""
    in_charge = signal.getsignal(signal.SIGINT)
    if not callable(in_charge):
        raise KeyboardInterrupt
    in_charge(signal.SIGINT, frame)


def _main(arguments: Sequence[str] | None) -> int:
    try:
        code = cli.main(args=None if arguments is None else list(arguments), standalone_mode=False)
        if sys.stdout is not None:  # None: whoever started us has closed it
            sys.stdout.flush()
        return code if isinstance(code, int) else OK
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; nothing was written", err=True)
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return OK
    except click.ClickException as error:
        return _refuse(_usage(error))
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        _discard_output()
        return OK
    except OSError as error:
        return _output_lost(error)
    except Exception as error:
        if _is_bad_input(error):
            return _refuse(str(error), prefix="")
        raise


def _is_bad_input(error: Exception) -> bool:
    from tradebft.lab.results import ResultsError
    from tradebft.lab.verify import VerifyError
    from tradebft.scenarios.errors import ScenarioError
    from tradebft.service.errors import ServiceError

    return isinstance(error, ScenarioError | ResultsError | VerifyError | ServiceError)


def _refuse(line: str, prefix: str = "tradebft: ") -> int:
    click.echo(prefix + " ".join(line.split()), err=True)
    return BAD_INPUT


def _usage(error: click.ClickException) -> str:
    """What was wrong with the command line, in our manner: no capital, no full stop, the nearest option."""
    if isinstance(error, click.NoSuchOption):
        from tradebft.scenarios.errors import suggestion

        options = [name for option in error.ctx.command.params for name in option.opts] if error.ctx else []
        known = [name for name in [*options, "--help"] if name.startswith("--")]
        hint = suggestion(error.option_name, known) or f"; expected one of {', '.join(known)}"
        return f"no such option {error.option_name!r}{hint}"
    message = error.format_message().rstrip(".")
    return message[:1].lower() + message[1:]


def _discard_output() -> None:
    """What is still buffered shall not fail once more as the interpreter ends."""
    if sys.stdout is not None:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _output_lost(error: OSError) -> int:
    """Standard output cannot be written, for instance because its disk is full."""
    _discard_output()
    where = f" {error.filename}" if error.filename else ""
    return _refuse(f"cannot write{where or ' the output'}: {error.strerror or error}")
