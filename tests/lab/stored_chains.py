"""Chains that a simulated network made, on disks like those of real members."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from tradebft.chain.crypto import make_identities, token
from tradebft.chain.genesis import Genesis, checker_of, members_of
from tradebft.chain.ledger import Ledger
from tradebft.chain.rules.parameters import Parameters
from tradebft.chain.rules.payloads import DeclAnchor
from tradebft.chain.store import Store
from tradebft.chain.transaction import sign
from tradebft.consensus.interface import Config
from tradebft.consensus.membership import genesis
from tradebft.network.application import HashChain, LedgerApplication, members_operation
from tradebft.network.cluster import Cluster, Settings
from tradebft.network.faults import Fault
from tradebft.network.links import Constant
from tradebft.network.live.founding import Founding
from tradebft.network.live.kept import Kept
from tradebft.network.simulated import Wire
from tradebft.network.topology import Mesh

MS, S = 10**6, 10**9
CHAIN = b"province"
EPOCH_NS = 1_000 * 24 * 3600 * S
KEY = b"the regulator's token key"
PEOPLE = ("administrator", "policy_bank", "commercial_bank.1", "customs", "firm.1")


def province() -> tuple[Genesis, list[bytes]]:
    """A ledger's genesis, and transactions: declarations, one of them with a bad signature, one of them twice."""
    signers, keyring = make_identities([*PEOPLE, checker_of("commercial_bank.1")], "real", seed=5)
    ledger = Genesis(CHAIN, members_of(PEOPLE, keyring, PEOPLE[:3]), Parameters(faults=0), (), EPOCH_NS)
    operations = []
    for number in range(1, 25):
        declaration = token(KEY, "declaration", str(number))
        payload = DeclAnchor(
            declaration, token(KEY, "uscc", "firm.1"), 0, "USD", 1000, EPOCH_NS, ("85044090",)
        )
        signer = signers["firm.1" if number == 7 else "customs"]
        tx = sign(payload, signer, (), chain_id=CHAIN, sequence=number, expiry_height=900)
        operations.append(tx.encode())
    return ledger, [*operations, operations[3]]


@lru_cache
def made(kind: str) -> tuple[bytes, Founding]:
    """The bytes of replica 1's store after a run of this kind; and what its network started from."""
    config = Config(
        4, CHAIN, batch_size=3, window=1, checkpoint_interval=4, log_window=8,
        snapshot_interval={"pruned": 8, "members pruned": 4, "ledger pruned": 4}.get(kind, 0),
    )  # fmt: skip
    ledger, operations = province() if kind.startswith("ledger") else (None, [b"%d" % k for k in range(40)])
    spare = int(kind.startswith("members"))
    if spare:
        operations[10] = members_operation(genesis(5).members)
    if ledger is None:
        application: Any = HashChain
    else:
        _, everybody = make_identities(PEOPLE, "real", seed=5)

        def application() -> LedgerApplication:
            return LedgerApplication(Ledger(ledger, everybody), None, EPOCH_NS)

    cluster = Cluster(
        Settings(
            config=config,
            wire=Wire(Constant(MS), Mesh(4 + spare), None, 0.0),
            seed=1,
            clients=["bank", "shop"],
            client_timeout_ns=2 * S,
            crypto="real",
            application=application,
            faults=[Fault(29 * S, 1 * S, "crash", (3,))],  # or the simulation keeps no old blocks
            spare=spare,
        )
    )
    for number, operation in enumerate(operations):
        client = cluster.clients["shop" if number % 3 else "bank"]
        client.submit(cluster.env.time, operation, "", lambda record: None)
        if number % 4 == 3:
            cluster.run(cluster.env.time + 100 * MS)
    cluster.run(cluster.env.time + 30 * S)
    cluster.finish()
    assert not cluster.checker.violations
    founding = Founding(
        config,
        tuple((cluster.keyring.public_key(i),) for i in range(4 + spare)),
        tuple((name, cluster.keyring.public_key(name)) for name in ("bank", "shop")),
        ledger,
        EPOCH_NS if ledger else 0,
    )
    return _stored(cluster.nodes[1], founding), founding


def _stored(node: Any, founding: Founding) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        store = Store.open(path, founding.identity)
        founding.write_to(store)
        kept = Kept(store)
        for seq in range(1, node._height + 1):
            block = node._history.block(seq)
            if block is not None:
                kept.append(*block)
        disk = node._disk
        for _, (manifest, table, state) in sorted(disk._snapshots.items()):
            kept.keep(manifest, table, state)
        for _, proof in sorted(disk._proofs.items()):
            kept.prove(proof, min(disk._proofs))
        for record in disk._records:
            kept.write(record)
        assert kept.height == node._height > 8
        kept.commit()
        kept.close()
        return path.read_bytes()


KINDS = ("plain", "pruned", "members", "members pruned", "ledger", "ledger pruned")
