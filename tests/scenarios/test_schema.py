"""A scenario that is right loads into exact integers; one that is wrong is refused in one line that helps."""

import datetime
import os
from pathlib import Path

import pytest
from tradebft.network.simulated import INTERFACE_BUFFER
from tradebft.scenarios import units
from tradebft.scenarios.schema import (
    ConstantLinks,
    CpuCosts,
    CustomLinks,
    DistanceLinks,
    Graph,
    LognormalLinks,
    NormalLinks,
    Scenario,
    ScenarioError,
    Synthetic,
    TradeFinance,
    UniformLinks,
    load,
)

ONE_AT_A_TIME = """\
title = "one decision at a time"
[network]
nodes = 16
links = { model = "normal", mean = "250 ms", std = "50 ms" }
[nodes]
cpu = "none"
[consensus]
protocol = "pbft"
batch_size = 1
batch_timeout = "0 ms"
[workload]
kind = "synthetic"
transactions = 500
arrival = "closed"
clients = 1
outstanding = 1
payload_bytes = 0
"""

SMALL = """\
# Is it small?
# It is.
[network]
nodes = 4
links = { model = "constant", delay = "10 ms" }

[workload]
kind = "synthetic"
"""

TRADE = SMALL.replace("synthetic", "trade-finance")


@pytest.fixture
def write(tmp_path):
    def written(text, name="a.toml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return written


@pytest.fixture
def refused(write):
    """The line that refuses a text, from behind the folder of the file."""

    def line(text, overrides=None):
        path = write(text)
        with pytest.raises(ScenarioError) as caught:
            load(path, overrides)
        assert "\n" not in str(caught.value)
        return str(caught.value).removeprefix(f"{path.parent}{os.sep}")

    return line


class TestWhatLoads:
    def test_the_synthetic_form(self, write):
        scenario = load(write(ONE_AT_A_TIME))
        assert scenario.title == "one decision at a time"
        assert (scenario.network.nodes, scenario.quorum, scenario.faults_tolerated) == (16, 11, 5)
        links = scenario.network.links
        assert isinstance(links, NormalLinks)
        assert (links.mean_ns, links.std_ns) == (250_000_000, 50_000_000)
        assert scenario.nodes.cpu == "none"
        assert (scenario.consensus.batch_size, scenario.consensus.batch_timeout_ns) == (1, 0)
        assert scenario.consensus.view_change_timeout_ns == 1_000_000_000
        assert isinstance(scenario.workload, Synthetic)
        assert scenario.workload.transactions == 500

    @pytest.mark.parametrize(
        ("links", "kind"),
        [
            ('{ model = "constant", delay = "10 ms" }', ConstantLinks),
            ('{ model = "uniform", low = "1 ms", high = "2.5 ms" }', UniformLinks),
            ('{ model = "lognormal", median = "18 ms", sigma = 0.4 }', LognormalLinks),
            ('{ model = "lognormal", median = "18 ms", sigma = 1 }', LognormalLinks),
            ('{ model = "distance" }', DistanceLinks),
            ('{ model = "distance", route_factor = 2.0, jitter = "0 ms", overhead = "2 ms" }', DistanceLinks),
            ('{ model = "tradebft.network.links:Constant", delay_ns = 3 }', CustomLinks),
        ],
    )
    def test_every_link_model(self, write, links, kind):
        found = load(write(SMALL.replace('{ model = "constant", delay = "10 ms" }', links))).network.links
        assert isinstance(found, kind)
        if kind is CustomLinks:
            assert found.parameters == {"delay_ns": 3}

    def test_open_arrival_bandwidth_and_loss(self, write):
        text = SMALL.replace("nodes = 4", 'nodes = 4\nbandwidth = "100 Mbit/s"\nloss = 0.01')
        scenario = load(write(text + 'arrival = "open"\nrate = 1000\n'))
        assert scenario.network.bandwidth_bps == 100_000_000
        assert scenario.network.loss == 0.01
        assert scenario.workload.rate == 1000

    def test_cpu_as_a_table_and_topologies(self, write):
        scenario = load(write(SMALL + '[nodes]\ncpu = { verify = "52 us" }\n'))
        assert isinstance(scenario.nodes.cpu, CpuCosts)
        assert scenario.nodes.cpu.verify_ns == 52_000
        star = SMALL.replace("nodes = 4", 'nodes = 4\ntopology = "star"')
        assert load(write(star)).network.topology == "star"
        edges = (
            '{ edges = [["replica.0", "replica.1"], ["replica.1", "replica.2"], ["replica.2", "replica.3"]] }'
        )
        graph = load(write(SMALL.replace("nodes = 4", f"nodes = 4\ntopology = {edges}"))).network.topology
        assert isinstance(graph, Graph)
        assert graph.edges == (
            ("replica.0", "replica.1"),
            ("replica.1", "replica.2"),
            ("replica.2", "replica.3"),
        )

    def test_faults(self, write):
        text = """
[[fault]]
at = "30 s"
crash = "replica.3"
[[fault]]
at = "00:10"
partition = ["replica.0", "replica.1"]
for = "2 h"
[[fault]]
at = "1 h"
partition = [["replica.0"], ["replica.1", "replica.2"]]
[[fault]]
at = "2 h"
slow = ["replica.0"]
factor = 3
loss = 0.1
"""
        crash, split, three, slow = load(write(SMALL + text)).faults
        assert (crash.kind, crash.at_ns, crash.for_ns, crash.groups) == (
            "crash",
            30 * 10**9,
            None,
            (("replica.3",),),
        )
        assert (split.kind, split.at_ns, split.for_ns) == ("partition", 600 * 10**9, 7200 * 10**9)
        assert split.groups == (("replica.0", "replica.1"),)
        assert three.groups == (("replica.0",), ("replica.1", "replica.2"))
        assert (slow.kind, slow.factor, slow.loss) == ("slow", 3, 0.1)

    def test_members_have_names_and_may_also_be_called_replicas(self, write):
        text = TRADE.replace("nodes = 4", "members = { commercial_bank = 2 }")
        scenario = load(write(text + '[[fault]]\nat = "day 3 10:15"\ncrash = "replica.3"\n'))
        assert scenario.node_names == [
            "administrator",
            "policy_bank",
            "commercial_bank.1",
            "commercial_bank.2",
        ]
        assert scenario.index("replica.3") == scenario.index("commercial_bank.2") == 3
        assert scenario.faults[0].at_ns == (2 * 24 * 3600 + 10 * 3600 + 15 * 60) * 10**9

    def test_trade_finance_gives_anonymous_nodes_their_roles(self, write):
        scenario = load(write(TRADE))
        assert scenario.node_names[2:] == ["commercial_bank.1", "commercial_bank.2"]
        assert isinstance(scenario.workload, TradeFinance)
        assert scenario.duration_ns == 30 * units.DAY_NS
        assert scenario.start == datetime.date(2020, 7, 15)

    @pytest.mark.parametrize("nodes", [1, 2, 3])
    def test_few_nodes_are_allowed_with_a_warning(self, write, nodes):
        scenario = load(write(SMALL.replace("nodes = 4", f"nodes = {nodes}")))
        assert scenario.faults_tolerated == 0
        (warning,) = scenario.warnings
        assert "f = 0" in warning

    def test_a_buffer_for_an_unlimited_bandwidth_is_remarked_on(self, write):
        text = SMALL.replace("nodes = 4", 'nodes = 4\nbuffer = "1 MiB"')
        (warning,) = load(write(text)).warnings
        assert "network.buffer" in warning
        limited = load(write(text.replace("nodes = 4", 'nodes = 4\nbandwidth = "10 Mbit/s"')))
        assert limited.network.buffer == 2**20
        assert limited.warnings == []
        assert load(write(SMALL)).network.buffer == INTERFACE_BUFFER

    def test_changes_of_view_that_outlast_their_timeout_are_remarked_on(self, write):
        """39 others' 128 certificates of 27 signatures, 48 us each: such a network decided nothing for 110 s."""
        text = SMALL.replace("nodes = 4", "nodes = 40") + '\n[nodes]\ncpu = "measured"\n'
        (warning,) = load(write(text)).warnings
        assert "6.5 s of checking signatures at each of 40 members" in warning
        assert "consensus.checkpoint_interval" in warning
        assert load(write(text), {"consensus.checkpoint_interval": 16}).warnings == []
        assert load(write(text), {"consensus.view_change_timeout": "3.3 s"}).warnings == []
        assert load(write(text), {"nodes.cpu": "none"}).warnings == []

    def test_name_and_question_come_from_the_file(self, write):
        scenario = load(write(SMALL, "my-lab.toml"))
        assert (scenario.name, scenario.question) == ("my-lab", "Is it small? It is.")

    def test_a_resolved_scenario_loads_again(self, write):
        text = (
            TRADE
            + '[[fault]]\nat = "1 h"\ncrash = "policy_bank"\n[expect]\n"consensus.client_ms.p99" = "< 4"\n'
        )
        scenario = load(write(text))
        assert Scenario.model_validate(scenario.resolved()) == scenario

    def test_an_own_class_beside_the_scenario_is_found(self, write):
        write("class Replica:\n    pass\n", "fast_protocol_of_mine.py")
        scenario = load(write(SMALL + '[consensus]\nprotocol = "fast_protocol_of_mine:Replica"\n'))
        assert scenario.consensus.protocol == "fast_protocol_of_mine:Replica"


class TestWhatIsRefused:
    def check(self, refused, old, new, *expected, base=SMALL):
        line = refused(base.replace(old, new) if old else base + new)
        for text in expected:
            assert text in line
        return line

    def test_the_line_in_full(self, refused):
        line = self.check(refused, "nodes = 4", 'nodes = 4\nbandwith = "100 Mbit/s"')
        assert line == (
            "a.toml:5: network.bandwith: unknown key; expected one of nodes, members, links, client_links, bandwidth,"
            " buffer, loss, topology, places, broker; did you mean 'bandwidth'?"
        )

    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            ("nodes = 4", "nodes = 0", "a.toml:4: network.nodes: expected at least 1; found 0"),
            ("nodes = 4", 'nodes = "four"', 'a.toml:4: network.nodes: expected a whole number; found "four"'),
            ("nodes = 4", "nodes = true", "a.toml:4: network.nodes: expected a whole number; found true"),
            ("nodes = 4", "nodes = 4\nloss = 2", "a.toml:5: network.loss: expected at most 1; found 2"),
            (
                "nodes = 4",
                "nodes = 4\nloss = nan",
                "a.toml:5: network.loss: expected a finite number; found nan",
            ),
            ("nodes = 4", "nodes = 4\nbatch_size = 2", "did you mean consensus.batch_size?"),
            ('"10 ms"', "10", "a.toml:5: network.links.delay: expected a duration with its unit"),
            ('"10 ms"', '"10 lightyears"', "unit is none of ns, us, µs, ms, s, min, h, day, days"),
            (
                "delay",
                "dely",
                "a.toml:5: network.links.dely: unknown key; expected one of model, delay; did you mean",
            ),
            ('"constant"', '"constnt"', "a.toml:5: network.links.model: expected one of constant, uniform"),
            ('"constant"', '"constnt"', "did you mean 'constant'?"),
            (
                '"constant", delay = "10 ms"',
                '"uniform", low = "2 s", high = "1 s"',
                "network.links.low: expected low",
            ),
            ('{ model = "constant", delay = "10 ms" }', '"constant"', "network.links: expected a table"),
            (
                '"synthetic"',
                '"sythetic"',
                "a.toml:8: workload.kind: expected one of synthetic, trade-finance",
            ),
            ('kind = "synthetic"', "", "a.toml:7: workload.kind: missing"),
            ("[workload]", "[worklod]", "a.toml:7: worklod: unknown key;"),
            ("[workload]", "[worklod]", "did you mean 'workload'? (and 1 more)"),
            (
                "nodes = 4",
                "nodes = 4\nmembers = {}",
                "a.toml:4: network.nodes: expected either nodes or members",
            ),
            ("nodes = 4", 'nodes = 4\nplaces = { x = "Guiyang" }', "network.places.x: no such node 'x'"),
            ("nodes = 4", 'nodes = 4\ntopology = "ring"', "expected one of mesh, star or a table with edges"),
            ("nodes = 4", "nodes = 4\ntopology = {}", "expected either edges or generator; found neither"),
            (
                "nodes = 4",
                'nodes = 4\ntopology = { edges = [["replica.0", "replica.9"]] }',
                "no such node 'replica.9'",
            ),
            (
                "nodes = 4",
                'nodes = 4\ntopology = { edges = [["replica.0", "replica.1"]] }',
                "expected a connected graph",
            ),
            (
                "nodes = 4",
                'nodes = 4\ntopology = { generator = "regular", degree = 5 }',
                "a.toml:5: network.topology.degree: degree must be less than the 4 nodes, got 5",
            ),
            (
                "nodes = 4",
                'nodes = 4\nplaces = { "replica.1" = "Guiyan" }',
                "no such city 'Guiyan'; did you mean 'Guiyang'?",
            ),
            (
                'model = "constant", delay = "10 ms"',
                'model = "tradebft.network.links:Constant", dely_ns = 3',
                "a.toml:5: network.links: links: tradebft.network.links:Constant: missing a required argument",
            ),
            (
                "[workload]",
                "[nodes]\ncpu = 3\n[workload]",
                "nodes.cpu: expected one of none, measured or a table",
            ),
        ],
    )
    def test_fields(self, refused, old, new, expected):
        self.check(refused, old, new, expected)

    @pytest.mark.parametrize(
        ("added", "expected"),
        [
            ('arrival = "open"', "a.toml:7: workload.rate: missing; expected requests a second"),
            ("rate = 3", 'a.toml:9: workload.rate: only arrival = "open" has a rate'),
            ('arrival = "open"\nrate = 1e-300', "workload.rate: expected at least 1e-09; found 1e-300"),
            (
                "[consensus]\nlog_window = 128",
                "a.toml:10: consensus.log_window: expected more than checkpoint_interval",
            ),
            (
                "[consensus]\nwindow = 300",
                "a.toml:10: consensus.window: expected at most log_window (256); found 300",
            ),
            ('[consensus]\nprotocol = "pbtf"', "consensus.protocol: expected pbft or a class"),
            ('[consensus]\nprotocol = "no_such_lab:X"', "consensus.protocol: cannot import 'no_such_lab'"),
            ('[consensus]\nprotocol = "json:lodas"', "module 'json' has no 'lodas'; did you mean 'loads'?"),
            ('[consensus]\nview_change_timeout = "0 s"', "longer than 0; found '0 s'"),
            ('[consensus]\nbatch_bytes = "1 MBit"', "expected a size with its unit"),
            ('[expect]\n"a.b" = "<< 4"', "a.toml:10: expect.a.b: expected a value, a comparison"),
            ("[expect]\nagreement = [1]", "a.toml:10: expect.agreement: expected a value, a comparison"),
            ("[fault]\nat = 3", "a.toml:9: fault: expected [[fault]] with two brackets"),
        ],
    )
    def test_sections(self, refused, added, expected):
        self.check(refused, "", added + "\n", expected)

    @pytest.mark.parametrize(
        ("fault", "expected"),
        [
            (
                'crash = "replica.7"',
                "a.toml:11: fault[0].crash: no such node 'replica.7'; expected one of replica.0,",
            ),
            ('crash = "replika.3"', "did you mean 'replica.3'?"),
            (
                'crash = "replica.3"\nslow = "replica.1"',
                "drift, duplicate, reorder and spike; found crash",
            ),
            ("", "a.toml:9: fault[0]: expected exactly one of crash, partition, one_way, slow, drift"),
            ('partition = [["replica.1"], ["replica.1", "replica.2"]]', "expected every node at most once"),
            ('crash = "replica.1"\nfactor = 3', "fault[0].factor: only a slow or drift fault has a factor"),
            ('crash = "replica.1"\nfor = "0 s"', "fault[0].for: expected a duration"),
            ("crash = [3]", "fault[0].crash: expected a node name or a list of node names; found [3]"),
        ],
    )
    def test_faults(self, refused, fault, expected):
        self.check(refused, "", f'[[fault]]\nat = "1 s"\n{fault}\n', expected)

    def test_a_fault_must_begin_within_the_run(self, refused):
        line = refused(SMALL + '[[fault]]\nat = "day 9"\ncrash = "replica.1"\n')
        assert line.startswith("a.toml:10: fault[0].at: expected a moment within the simulated time")

    def test_one_node_under_two_names_is_one_node(self, refused):
        line = refused(TRADE + '[[fault]]\nat = "1 s"\npartition = [["administrator"], ["replica.0"]]\n')
        assert "'administrator' twice" in line

    @pytest.mark.parametrize(
        ("added", "expected"),
        [
            ("fraud = { F99 = 0.1 }", "workload.fraud.F99: unknown kind of fraud; expected one of F1, F2"),
            ("arms = []", "workload.arms: expected a list of at least 1; found none"),
            ("fraud = { F1 = 1, F2 = 1 }", "workload.fraud: expected rates that sum to at most 1; found 2"),
            ("bank_coverage = 1.5", "workload.bank_coverage: expected at most 1; found 1.5"),
            ('arms = ["papr"]', "workload.arms[0]: expected one of paper, database, chain"),
            ("policy = { ratio = 3 }", "workload.policy.ratio: unknown key; expected one of ratio_bp,"),
        ],
    )
    def test_trade_finance(self, refused, added, expected):
        self.check(refused, "", added + "\n", expected, base=TRADE)

    def test_several_errors_are_counted(self, refused):
        line = refused("seed = -1\ndays = 0\n" + SMALL.replace("nodes = 4", "nodes = 0"))
        assert line == "a.toml:1: seed: expected at least 0; found -1 (and 2 more)"


class TestFiles:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("[nodes\n", "a.toml:1: not TOML: expected ']' at the end of a table declaration, column 7"),
            ("x =\n", "a.toml:1: not TOML: invalid value, column 4"),
            ("[a]\n[a]\n", "a.toml:2: not TOML: cannot declare"),
            ('title = "', "a.toml:1: not TOML: unterminated string, at the end"),
            (b"\xff\xfe", "a.toml: expected UTF-8 text; found byte 0xff at 0"),
            ("", "a.toml: workload: missing; expected what is submitted, and how fast"),
            ("a = " + "[" * 5000 + "]" * 5000, "tables nested too deeply"),
        ],
    )
    def test_texts_that_are_no_scenario(self, refused, text, expected):
        assert expected in refused(text)

    def test_a_byte_order_mark_is_no_part_of_the_scenario(self, write):
        assert load(write(b"\xef\xbb\xbf" + SMALL.encode())) == load(write(SMALL))

    def test_paths_that_are_no_file(self, tmp_path):
        for name, expected in [
            (tmp_path, "expected a scenario file; found a directory"),
            (tmp_path / "none.toml", "no such file"),
            ("guizou", "did you mean 'guizhou'?"),
            ("guizou.toml", "did you mean 'guizhou'?"),
            ("zzz", "built in: bank-outage, changing-members,"),
            ("a\0b", "cannot be read"),
            ("", "found nothing"),
        ]:
            with pytest.raises(ScenarioError, match=expected.replace("[", r"\[")):
                load(name)

    def test_a_file_that_may_not_be_read(self, write, monkeypatch):
        path = write(SMALL)

        def denied(self):
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "read_bytes", denied)
        with pytest.raises(ScenarioError, match="cannot be read: Permission denied"):
            load(path)


@pytest.mark.parametrize(
    ("vary", "says"),
    [
        ('"network.loss" = [0.1, 2]', ":2: vary.network.loss: network.loss: expected at most 1; found 2"),
        ("network.loss = [0.1, 2]", ":2: vary.network.loss: network.loss: expected at most 1; found 2"),
        ('"network.los" = [0.1]', ":2: vary.network.los: network.los: unknown key"),
        ('"keys.loss" = [0.1]', ":2: vary.keys.loss: keys: unknown key"),
        ('"network.topology.kind" = ["mesh"]', "network.topology is 'mesh' and has no keys"),
        (  # each of them alone could run
            '"network.nodes" = [4, 7]\n"fault" = [[], [{at = "1 s", crash = "replica.6"}]]',
            ":2: vary.fault: fault[0].crash: no such node 'replica.6'",
        ),
    ],
)
def test_what_cannot_vary_so_is_said_before_anything_runs(tmp_path, vary, says):
    path = tmp_path / "own.toml"
    path.write_text(
        f'[vary]\n{vary}\n[network]\nnodes = 7\n[workload]\nkind = "synthetic"\n', encoding="utf-8"
    )
    with pytest.raises(ScenarioError) as caught:
        load(path)
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_of_a_scenario_that_varies_its_points_are_remarked_on(tmp_path):
    """One line for each kind of remark, with the first point that it is about, after those on the run itself."""
    path = tmp_path / "own.toml"
    text = '[vary]\n"network.nodes" = [4, 40, 3, 60]\n[network]\nnodes = 2\n[nodes]\ncpu = "measured"\n'
    path.write_text(text + '[workload]\nkind = "synthetic"\n', encoding="utf-8")
    own, long, few = load(path).warnings
    assert own == "2 nodes tolerate no fault: f = 0 below 4 nodes"
    assert long.startswith(
        "at network.nodes = 40: a change of view may take 6.5 s of checking signatures at each of 40"
    )
    assert long.endswith("helps (1 more point as well)")
    assert few == "at network.nodes = 3: 3 nodes tolerate no fault: f = 0 below 4 nodes"
