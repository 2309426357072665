"""The same members over MQTT brokers: one that comes with the packages, and Mosquitto as a consortium would run it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
import socket
import stat
from collections import Counter

import aiomqtt
import pytest
from live_network import LiveNetwork
from tradebft.network.live import mosquitto
from tradebft.network.live.broker import BrokerError, EmbeddedBroker, free_port
from tradebft.network.live.bus import topic_all, topic_to
from tradebft.network.live.mqtt import INFLIGHT_MAX, QUEUE_MAX, MqttBus, Tls, address_in

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="no Mosquitto on this machine")


class Brokers:
    """What `LiveNetwork` takes for a hub: every endpoint is connected to all of *urls*."""

    def __init__(self, *urls: str) -> None:
        self.urls = urls

    def bus(self) -> MqttBus:
        return MqttBus(self.urls)


async def seen(condition, what, seconds=10):
    """Wait until *condition* holds."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


def told(scene, seconds=40):
    async def run():
        async with asyncio.timeout(seconds):
            await scene()

    asyncio.run(run())


# --- with the broker that comes along ---


def test_requests_are_answered_and_members_agree_over_a_broker(tmp_path):
    async def scene():
        async with EmbeddedBroker() as broker:
            network = LiveNetwork(tmp_path, hub=Brokers(broker.url))
            try:
                await network.start(0, 1, 2, 3)
                bank, mill = await network.client("bank"), await network.client("mill")
                asked = [client.submit(f"pay {k}".encode()) for k in range(20) for client in (bank, mill)]
                answers = await asyncio.gather(*asked)
                assert sorted(a.sequence for a in answers[::2]) == list(range(1, 21))
                assert await network.level() >= 2
                for member in network.members.values():
                    assert not member.evidence
                    refused = {k for k in member.port.bus.counts if k.startswith(("refused", "dropped"))}
                    assert refused == set()
            finally:
                await network.close()

    told(scene)


def test_a_broker_that_dies_and_comes_back_loses_nothing_that_was_acknowledged(tmp_path):
    async def scene():
        broker = EmbeddedBroker()
        await broker.start()
        network = LiveNetwork(tmp_path, hub=Brokers(broker.url))
        try:
            await network.start(0, 1, 2, 3)
            bank = await network.client()
            before = await asyncio.gather(*(bank.submit(b"before %d" % k) for k in range(5)))
            await broker.stop(kill=True)
            buses = [member.port.bus for member in network.members.values()]
            await seen(lambda: not any(bus.connected for bus in buses), "they notice that it is gone")
            meanwhile = [bank.submit(b"meanwhile %d" % k) for k in range(5)]
            await asyncio.sleep(0.3)
            assert not any(asked.done() for asked in meanwhile)
            await broker.start()
            between = await asyncio.gather(*meanwhile)
            after = await asyncio.gather(*(bank.submit(b"after %d" % k) for k in range(5)))
            await network.level()
            assert [a.sequence for a in (*before, *between, *after)] == list(range(1, 16))
            assert all(bus.counts["connected"] == 2 for bus in buses)
            assert bank.port.bus.counts["dropped: not connected"] > 0
        finally:
            await network.close()
            await broker.stop()

    told(scene)


def test_the_network_lives_while_one_of_two_brokers_does(tmp_path):
    async def scene():
        async with EmbeddedBroker() as first, EmbeddedBroker() as second:
            network = LiveNetwork(tmp_path, hub=Brokers(first.url, second.url))
            try:
                await network.start(0, 1, 2, 3)
                bank = await network.client()
                bus = network.members[1].port.bus
                await seen(lambda: bus.connected == 2, "both brokers")
                await asyncio.gather(*(bank.submit(b"with two %d" % k) for k in range(5)))
                await seen(lambda: bus.counts["refused: come before"] > 0, "what the second carries is known")
                await first.stop(kill=True)
                await asyncio.gather(*(bank.submit(b"with one %d" % k) for k in range(5)))
                await network.level()
                assert bus.connected == 1
                views = {member.replica.view for member in network.members.values()}
                assert views == {0}, "a broker's death is no reason to change the view"
            finally:
                await network.close()

    told(scene)


# --- one connection ---


def test_what_cannot_be_sent_is_dropped_and_counted():
    async def scene():
        bus = MqttBus([f"mqtt://127.0.0.1:{free_port()}"], patience_s=0.05)
        await bus.open("replica.0", ("net/+/all",), lambda topic, data: None)
        try:
            bus.publish("net/replica.0/all", b"x")
            assert bus.counts["dropped: not connected"] == 1
            await seen(lambda: bus.counts["not connected: no broker there, or it went"] > 1, "it tries again")
        finally:
            await bus.close()

    told(scene)


def test_no_more_than_a_bound_waits_for_a_broker():
    async def scene():
        async with EmbeddedBroker() as broker:
            bus = MqttBus([broker.url])
            await bus.open("replica.0", ("net/+/all",), lambda topic, data: None)
            try:
                assert bus.connected == 1
                for _ in range(QUEUE_MAX + 5):  # in one turn of the loop, so that none leaves
                    bus.publish("net/replica.0/nobody", b"")
                assert bus.counts["dropped: queue full"] == 5
                await asyncio.sleep(0.05)
                assert len(bus._links[0]._inflight) <= INFLIGHT_MAX
            finally:
                await bus.close()

    told(scene)


def test_its_socket_does_not_wait_to_fill_packets(monkeypatch):
    """With Nagle's algorithm QoS 1 is some thirty times slower."""
    made, build = [], MqttBus.client
    monkeypatch.setattr(MqttBus, "client", lambda *given: made.append(build(*given)) or made[-1])

    async def scene():
        async with EmbeddedBroker() as broker:
            bus = MqttBus([broker.url])
            await bus.open("replica.0", ("net/+/all",), lambda topic, data: None)
            try:
                assert bus.connected == 1
                assert made[0]._client.socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            finally:
                await bus.close()

    told(scene)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker", ("broker", 1883, False)),
        ("mqtts://broker.example:8884/", ("broker.example", 8884, True)),
        ("mqtt://[::1]:9", ("::1", 9, False)),
    ],
)
def test_addresses(url, expected):
    assert address_in(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "broker:1883",
        "http://broker",
        "amqp://b:1883",
        "mqtt://",
        "mqtt://b:x",
        "mqtt://b:99999",
        "mqtt://me@b",
        "mqtt://b/p",
    ],
)
def test_no_addresses(url):
    with pytest.raises(ValueError, match="expected mqtt://host:port or mqtts://host:port"):
        address_in(url)


def test_a_bus_needs_a_broker_and_for_encryption_somebody_to_trust(tmp_path):
    with pytest.raises(ValueError, match="at least one address"):
        MqttBus([])
    with pytest.raises(OSError, match="No such file"):
        MqttBus(["mqtts://broker"], tls=Tls(tmp_path / "nowhere.crt"))


def test_a_port_that_is_taken_is_no_place_for_a_broker():
    async def scene():
        async with EmbeddedBroker() as broker:
            with pytest.raises(BrokerError, match=f"no broker could be started on port {broker.port}"):
                await EmbeddedBroker(broker.port).start()

    told(scene)


# --- Mosquitto ---

PASSWORDS = {name: f"secret of {name}" for name in ("replica.0", "replica.1", "bank", mosquitto.OPERATOR)}


@contextlib.asynccontextmanager
async def mosquitto_at(folder, **options):
    """A Mosquitto with the configuration under test; its port and its files."""
    assert MOSQUITTO is not None
    broker = mosquitto.Broker(free_port(), user="root", **options)
    files = mosquitto.write(folder, "net", PASSWORDS, ["replica.0", "replica.1"], broker)
    process = await asyncio.create_subprocess_exec(
        MOSQUITTO, "-c", str(files.configuration), stderr=asyncio.subprocess.PIPE
    )
    try:
        await _listening(broker.port)
        yield broker.port, files
    finally:
        process.terminate()
        await process.communicate()


async def _listening(port):
    for _ in range(500):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
            return
        await asyncio.sleep(0.01)
    raise AssertionError("Mosquitto does not listen")


class Heard:
    """An endpoint that is connected, and what it hears."""

    def __init__(self, url, name, password=None, tls=None, replica=True, patience_s=3.0):
        self.name, self.heard, self.counts = name, [], Counter()
        self.bus = MqttBus(
            [url], username=name, password=PASSWORDS[name] if password is None else password, tls=tls,
            patience_s=patience_s,
        )  # fmt: skip
        self.topics = (*(["net/+/all"] if replica else []), f"net/+/to/{name}")

    async def __aenter__(self):
        await self.bus.open(self.name, self.topics, lambda topic, data: self.heard.append((topic, data)))
        return self

    async def __aexit__(self, *error):
        await self.bus.close()


@needs_mosquitto
def test_a_member_publishes_under_its_own_name_only(tmp_path):
    async def scene():
        async with mosquitto_at(tmp_path) as (port, _):
            url = f"mqtt://127.0.0.1:{port}"
            async with Heard(url, "replica.0") as zero, Heard(url, "replica.1") as one:
                one.bus.publish(topic_all("net", "replica.0"), b"as another")
                one.bus.publish(topic_to("net", "bank", "replica.0"), b"as a client")
                one.bus.publish("elsewhere", b"on another topic")
                one.bus.publish(topic_all("net", "replica.1"), b"as itself")
                await seen(lambda: zero.heard, "what it says as itself")
                await asyncio.sleep(0.1)
                assert zero.heard == [("net/replica.1/all", b"as itself")]
                assert zero.bus.counts["delivered"] == 1

    told(scene)


@needs_mosquitto
def test_a_client_does_not_hear_what_members_say_to_all(tmp_path):
    async def scene():
        async with mosquitto_at(tmp_path) as (port, _):
            url = f"mqtt://127.0.0.1:{port}"
            async with Heard(url, "replica.0") as zero, Heard(url, "bank", replica=True) as bank:
                zero.bus.publish(topic_all("net", "replica.0"), b"among members")
                zero.bus.publish(topic_to("net", "replica.0", "bank"), b"a reply")
                await seen(lambda: bank.heard, "its reply")
                await asyncio.sleep(0.1)
                assert bank.heard == [("net/replica.0/to/bank", b"a reply")]

    told(scene)


@needs_mosquitto
def test_the_operator_hears_that_a_member_is_gone(tmp_path, monkeypatch):
    """By the last will, which no member heeds."""
    made, build = [], MqttBus.client
    monkeypatch.setattr(MqttBus, "client", lambda *given: made.append(build(*given)) or made[-1])

    async def scene():
        async with mosquitto_at(tmp_path) as (port, _):
            operator = aiomqtt.Client(
                "127.0.0.1", port, username=mosquitto.OPERATOR, password=PASSWORDS[mosquitto.OPERATOR]
            )
            async with operator, Heard(f"mqtt://127.0.0.1:{port}", "replica.1"):
                await operator.subscribe("net/+/state", 1)
                made[-1]._client.socket().shutdown(socket.SHUT_RDWR)  # as when its process dies
                message = await anext(operator.messages)
                assert (message.topic.value, message.payload) == ("net/replica.1/state", b"down")

    told(scene)


@needs_mosquitto
@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_wrong_password_is_refused(tmp_path, password):
    async def scene():
        async with (
            mosquitto_at(tmp_path) as (port, _),
            Heard(f"mqtt://127.0.0.1:{port}", "replica.0", password, patience_s=0.3) as zero,
        ):
            assert zero.bus.connected == 0
            assert zero.bus.counts["not connected: refused by the broker"] > 0

    told(scene)


# The MQTT library leaves a socket to the collector when a handshake fails.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
)
@needs_mosquitto
def test_encrypted_and_only_to_a_broker_of_the_network(tmp_path):
    """A certificate of another authority, and one for another host, are no reason to talk."""

    async def scene():
        async with mosquitto_at(tmp_path / "a", hosts=["127.0.0.1"]) as (port, files):
            url = f"mqtts://127.0.0.1:{port}"
            tls = Tls(files.ca)
            async with Heard(url, "replica.0", tls=tls) as zero, Heard(url, "replica.1", tls=tls) as one:
                one.bus.publish(topic_all("net", "replica.1"), b"hush")
                await seen(lambda: zero.heard, "what was said")
            other = mosquitto.write(tmp_path / "b", "net", PASSWORDS, [], mosquitto.Broker(1, ["127.0.0.1"]))
            await _distrusts(url, other.ca)
            plain = f"mqtt://127.0.0.1:{port}"
            async with Heard(plain, "replica.0", patience_s=0.3) as open_one:
                assert open_one.bus.connected == 0
        async with mosquitto_at(tmp_path / "c", hosts=["broker.example"]) as (port, files):
            await _distrusts(f"mqtts://127.0.0.1:{port}", files.ca)

    told(scene)
    gc.collect()


async def _distrusts(url, ca):
    async with Heard(url, "replica.0", tls=Tls(ca), patience_s=0.3) as other:
        assert other.bus.connected == 0
        assert other.bus.counts["not connected: no trust in the broker's certificate"] > 0


@needs_mosquitto
def test_a_broker_may_ask_for_certificates_too(tmp_path):
    async def scene():
        async with mosquitto_at(tmp_path, hosts=["127.0.0.1"], client_certificates=True) as (port, files):
            url = f"mqtts://127.0.0.1:{port}"
            mine = mosquitto.client_certificate(files, tmp_path / "mine", "replica.0")
            async with Heard(url, "replica.0", tls=Tls(files.ca, *mine)) as zero:
                assert zero.bus.connected == 1
            async with Heard(url, "replica.0", tls=Tls(files.ca), patience_s=0.5) as bare:
                assert bare.bus.connected == 0

    told(scene)


def test_secrets_are_for_their_owner_only(tmp_path):
    mosquitto.write(tmp_path, "net", PASSWORDS, ["replica.0"], mosquitto.Broker(1, ["here"]))
    open_to_others = {path.name for path in tmp_path.iterdir() if stat.S_IMODE(path.stat().st_mode) & 0o077}
    assert open_to_others == {"ca.crt", "broker.crt", "mosquitto.conf"}
    assert not any(word in (tmp_path / "passwords").read_text() for word in PASSWORDS.values())
    assert len({mosquitto.password() for _ in range(50)}) == 50
