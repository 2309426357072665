"""What an operator may get wrong is told in one line, and nothing is started, overwritten or lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_consortium import said
from tradebft.chain.crypto import Ed25519Signer
from tradebft.chain.rules.payloads import Allocation, Claim, DeclVerify, FinApply
from tradebft.service.asking import payload_of
from tradebft.service.consortium import Plan, create
from tradebft.service.errors import ServiceError
from tradebft.service.node import Node, founding_at
from tradebft.service.settings import ClientSettings, NodeSettings, load

URL = "mqtt://127.0.0.1:1883"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create(tmp_path / "net", Plan("pilot", [URL]))
    return tmp_path / "net"


def test_the_model_has_seven_members_and_their_files_are_whole(folder: Path) -> None:
    founding = founding_at(folder / "founding")
    assert (founding.config.nodes, founding.config.faults) == (7, 2)
    for index in range(7):
        node = Node(folder / "nodes" / f"replica.{index}" / "node.toml")
        assert node.founding == founding
        assert node.settings.store.parent == folder / "nodes" / f"replica.{index}"
    names = {path.name for path in (folder / "clients").iterdir()}
    assert names == {name for name, _ in founding.clients} >= {"administrator", "customs", "insurer"}
    for name in names:
        assert load(folder / "clients" / name / "client.toml", ClientSettings).name == name


def test_a_network_is_never_made_over_another(folder: Path) -> None:
    before = (folder / "founding").read_bytes()
    with pytest.raises(ServiceError, match="expected an empty folder"):
        create(folder, Plan("pilot", [URL]))
    assert (folder / "founding").read_bytes() == before


def test_an_institution_may_bring_its_own_key(tmp_path: Path) -> None:
    own = Ed25519Signer(1, bytes(range(32)))
    founding = create(tmp_path / "net", Plan("pilot", [URL], public={"replica.1": own.public_key}))
    assert founding.replicas[1] == (own.public_key,)
    assert not (tmp_path / "net" / "nodes" / "replica.1" / "replica.key").exists()
    with pytest.raises(ServiceError, match="not a point"):
        create(tmp_path / "other", Plan("pilot", [URL], public={"replica.1": bytes(32)}))


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        (Plan("p", [URL], validators=["policy_bank", "policy_bank"]), "policy_bank is named twice"),
        (Plan("p", [URL], validators=["baker"]), "'baker' is no member's name"),
        (Plan("p", [URL], validators=[]), "expected at least one"),
        (Plan("p", ["http://x"]), "expected mqtt://host:port or mqtts://host:port"),
        (Plan("p", ["mqtts://x:1"]), "with the broker's names"),
        (Plan("p", [URL], hosts=["x"]), "expected mqtt:// without names"),
    ],
)
def test_a_plan_that_makes_no_sense_leaves_nothing(tmp_path: Path, plan: Plan, problem: str) -> None:
    with pytest.raises(ServiceError, match=problem):
        create(tmp_path / "net", plan)
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('founding = "founding"', 'fuonding = "x"', ":2: fuonding: unknown key; expected one of replica, founding"),
        ("replica = 0\n", "", ": replica: missing; expected which of the replicas this is"),
        ("replica = 0", "replica = 9", ": replica: expected at most 6; found 9"),
        ("replica = 0", 'replica = "a"', ':1: replica: expected a whole number; found "a"'),
        (f'urls = ["{URL}"]', "urls = []", ":7: broker.urls: expected a list of at least 1; found none"),
        ("replica = 0", "replica = true", ":1: replica: expected a whole number; found true"),
        ('store = "store.db"', "store = 3", ":4: store: expected a path in quotes; found 3"),
        ('store = "store.db"', 'store = ""', ':4: store: expected the path of a file; found "."'),
        ('store = "store.db"', 'store = "a\\u0000b"', ':4: store: expected the path of a file; found "a'),
        ("replica = 0", "replica = 1", "expected the key of 1"),
        ("[broker]", "[broker", ": not TOML"),
        ('user = "replica.0"', 'usr = "replica.0"', "; did you mean 'user'?"),
        ("mqtt://", "amqp://", ": broker.urls: broker: expected mqtt://host:port or mqtts://host:port"),
        ('"broker.password"', '"nowhere"', "nowhere: No such file or directory"),
        ('"replica.key"', '"founding"', "a key file must be 0600"),
        ('"founding"', '"node.toml"', "node.toml: expected a founding file"),
        ("[broker]", '[log]\nlevel = "loud"\n[broker]', "log.level: expected one of debug, info, warning, error"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_nodes_file(
    folder: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, problem: str
) -> None:
    path = folder / "nodes" / "replica.0" / "node.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    refused = said(capsys, "node", "--check", "--config", path)
    assert (refused.code, refused.out) == (2, "")
    assert problem in refused.err
    assert refused.err.count("\n") == 1
    assert not path.with_name("store.db").exists()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml", NodeSettings)


def test_keys_are_made_once_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "own.key"
    made = said(capsys, "keys", "new", path)
    assert made.code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert said(capsys, "keys", "show", path).out == made.out
    again = said(capsys, "keys", "new", path)
    assert (again.code, "never overwritten" in again.err) == (2, True)
    path.chmod(0o640)
    assert "a key file must be 0600" in said(capsys, "keys", "show", path).err


def test_a_client_without_a_broker_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "clients" / "customs" / "client.toml"
    path.write_text(path.read_text().replace(":1883", ":1"))
    told = said(capsys, "client", "--config", path, "--wait", "0.5", "view")
    assert (told.code, told.err) == (1, "tradebft: no broker could be reached within 0.5 s\n")
    numbers = json.loads(path.with_name("numbers.json").read_text())
    assert numbers == {"request": 1}  # it may have left: it is not used again


# --- payloads ---


def test_a_payload_as_people_write_it() -> None:
    text = {
        "type": "FIN_APPLY", "bank": "b", "product": "p", "amount": 5, "currency": "USD", "tenor_days": 9,
        "allocations": [{"declaration": "00ff", "amount": 5}],
    }  # fmt: skip
    expected = FinApply("b", "p", 5, "USD", 9, (Allocation(b"\0\xff", 5),))
    assert payload_of(json.dumps(text), "x") == expected
    verify = {"type": "DECL_VERIFY", "financing": "ab", "claims": [{"declaration": "cd", "hs": ["1", "2"]}]}
    assert payload_of(json.dumps(verify), "x") == DeclVerify(b"\xab", (Claim(b"\xcd", hs=("1", "2")),))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1]", "x: expected one JSON object"),
        ("{", "x: expected one JSON object"),
        ('{"type": "FIN_APLY"}', "did you mean 'FIN_APPLY'"),
        ('{"a": 1}', "x: type: None: expected one of"),
        ('{"type": "FIN_CLOSE"}', "x: financing: missing"),
        ('{"type": "FIN_CLOSE", "financing": "zz"}', "x: financing: expected hexadecimal digits; found 'zz'"),
        ('{"type": "FIN_CLOSE", "financing": 7}', "x: financing: expected hexadecimal digits; found 7"),
        ('{"type": "FIN_CLOSE", "finacing": "aa"}', "did you mean 'financing'"),
        ('{"type": "PARAM_SET", "changes": [["faults"]]}', r"x: changes\[0\]: expected 2 values; found 1"),
        ('{"type": "PARAM_SET", "changes": [["f", true]]}', "expected a whole number; found True"),
        ('{"type": "PARAM_SET", "changes": 3}', "x: changes: expected a list; found 3"),
        ('{"type": "DECL_VERIFY", "financing": "", "claims": [3]}', r"x: claims\[0\]: expected an object"),
    ],
)
def test_what_is_wrong_in_a_payload(text: str, problem: str) -> None:
    with pytest.raises(ServiceError, match=problem):
        payload_of(text, "x")
