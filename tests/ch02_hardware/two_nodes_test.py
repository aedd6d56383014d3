#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Chapter 2 between nodes (scripts/vcluster): memory within, TCP across."""
import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
# pylint: disable=wrong-import-position
from support.many_nodes import (  # noqa: E402
    APP, BIN, LAUNCH, SHARE_CORES, VCLUSTER, ManyNodes, main)

PERF = BIN / "ch02_collective_perf"
NETWORK = BIN / "ch02_network_perf"
EXPLORER = BIN / "ch02_collective_explorer"
LAST_SEND = BIN.parent / "tests" / "last_send_probe"


def each(nodes, ranks, *cluster):
    """Words that start a launcher on each node of a cluster."""
    return (VCLUSTER, "-N", str(nodes), *cluster, VCLUSTER, "each", LAUNCH,
            "--nnodes", str(nodes), "--node-rank", "{}", "--nproc-per-node",
            str(ranks), "--rdzv-endpoint", "{first}:29400")


class TwoNodes(ManyNodes):
    def report_of(self, *command):
        report = self.dir / "report.json"
        ran = self.run_it(*command, "--json", report)
        self.assertEqual(ran.returncode, 0, ran.shown)
        return json.loads(report.read_text()), ran

    def test_collectives_are_right_within_and_across(self):
        for algorithm in ("auto", "hierarchical", "ring"):
            with self.subTest(algorithm):
                report, ran = self.report_of(
                    *each(2, 2), PERF, "--smoke", "--collective", "all_reduce",
                    "--algorithm", algorithm)
                self.assertRegex(ran.out, "shm in 2 nodes, tcp across, 4 ranks "
                                          "on 2 nodes")
                self.assertEqual(report["check"], "ok")

    def test_training_on_them_equals_gloos(self):
        for ranks in (1, 2):
            self.equal(2 * ranks, *each(2, ranks), app=(APP,),
                       args=("--backend", "dai"), nodes=2)

    def test_the_slow_link_is_named(self):
        report, ran = self.report_of(
            *each(3, 1, "--rate", "200mbit", "--slow", "2=20mbit"),
            NETWORK, "--smoke")
        names = report["verdict"]["node_names"]
        slow = [names[i] for i in report["verdict"]["slow_nodes"]]
        self.assertEqual(slow, ["node-2"], ran.shown)
        self.assertIn("the link of node-2 is slow", ran.out)

    def test_links_that_are_equal_are_not_blamed(self):
        report, ran = self.report_of(*each(3, 1, "--rate", "100mbit"),
                                     NETWORK, "--smoke")
        self.assertEqual(report["verdict"]["slow_nodes"], [], ran.shown)

    def test_what_a_rank_sends_last_arrives_after_it_has_left(self):
        """Its goodbye travels beside the data, on a slow link far ahead."""
        for rate, way, size in (("20mbit", "naive", 400000),
                                ("20mbit", "pipelined", 400000),
                                ("20mbit", "binomial_tree", 1000000),
                                ("5mbit", "message", 400000)):
            with self.subTest(f"{way} at {rate}"):
                meeting = self.dir / f"{way}.meeting"
                meeting.mkdir()
                ran = self.run_it(
                    VCLUSTER, "-N", "2", "--rate", rate, VCLUSTER, "each",
                    "bash", "-c", "set -- $VCLUSTER_ADDRESSES; "
                    f"n=$(({{}} + 1)); exec {LAST_SEND} {{}} ${{!n}} "
                    f"{meeting} {way} {size}")
                self.assertEqual(ran.returncode, 0, ran.shown)
                self.assertIn(f"rank 1: 0 of {size} bytes wrong", ran.out)

    def test_a_node_whose_cable_is_pulled_is_named_by_its_rank(self):
        """No connection is closed: the others find out by asking, within the
        time-out."""
        command = each(2, 1)
        at = command.index(VCLUSTER, 1)
        ran = self.run_it(
            *command[:at], "bash", "-c",
            f"(sleep 4; {VCLUSTER} link 2 down) & {VCLUSTER} each {LAUNCH} "
            "--nnodes 2 --node-rank {} --nproc-per-node 1 --rdzv-endpoint "
            f"{{first}}:29400 {PERF} --collective all_reduce -b 1M -e 1M "
            "-n 1000000 -c 0 --timeout-s 3")
        self.assertNotEqual(ran.returncode, 0, ran.shown)
        self.assertRegex(ran.err, r"all_reduce\(float32\[262144\], sum\) "
                         r"#\d+ on rank 0: rank 1 (stopped answering|did not "
                         r"call it)", ran.shown)


class OneNode(ManyNodes):
    def test_wrong_options_are_refused_before_any_work(self):
        for words, says in (
                (("--algorithm", "magic"), "for all_reduce there are naive"),
                (("-b", "8KB"), "expected a number of bytes"),
                (("-b", "2", "-e", "1"), "is more than"),
                (("--collective", "all", "--algorithm", "ring"),
                 "needs one --collective"),
                (("--algorithm", "one_shot"), "goes up to -e 16384"),
                (("--algorithm", "canonical", "-o", "avg"), "is a sum"),
                (("-r", "7"), "there are ranks 0 to 1"),
                (("-d", "bool", "-o", "avg"), "bool has no average"),
                (("--backend", "gloo", "--algorithm", "ring"),
                 "need --backend dai"),
                (("--via", "c10d", "--medium", "tcp"), "need --via direct"),
                (("--backend", "gloo", "-d", "bool"), "adds bools as bytes"),
                (("--algorithm", "one_shot", "--medium", "tcp", "-b", "4",
                  "-e", "1K"), "needs shared memory"),
                (("--collective-model", "/dev/zero"), "not valid JSON"),
                (("--collective-model", "/dev/null"), "/dev/null")):
            with self.subTest(words):
                self.refuses(2, re.escape(says), LAUNCH, "--standalone",
                             "--nproc-per-node", "2", PERF, *words)
        self.refuses(2, "a link has two ends", NETWORK)
        for words, says in ((("--max-bytes", "63"), "no size is left"),
                            (("--fit", "/none/such"), "/none/such"),
                            (("--svg", "x.svg"), "picture of --explain")):
            with self.subTest(words):
                self.refuses(2, re.escape(says), LAUNCH, "--standalone",
                             "--nproc-per-node", "2", EXPLORER, "--smoke",
                             *words)
        self.env["DAI_MEDIUM"] = "tcp"
        self.refuses(2, "is for --via c10d", LAUNCH, "--standalone",
                     "--nproc-per-node", "2", PERF)
        del self.env["DAI_MEDIUM"]
        for name, value, says in (
                ("DAI_MEDIUM", "pigeon", "accepted are auto, shm and tcp"),
                ("DAI_ALGORITHM", "all_reduce=magic", "there are naive"),
                ("DAI_COLLECTIVE_MODEL", "/none/such", "/none/such")):
            with self.subTest(name):
                self.env[name] = value
                self.refuses(2, re.escape(says), LAUNCH, "--standalone",
                             "--nproc-per-node", "2", APP, "--smoke",
                             "--backend", "dai")
                del self.env[name]

    def test_every_backend_prints_the_same_table(self):
        for words in (("--backend", "gloo"), ("--backend", "dai", "--via",
                                              "c10d")):
            with self.subTest(words):
                ran = self.run_it(LAUNCH, "--standalone", "--nproc-per-node",
                                  "2", PERF, "--smoke", *words)
                self.assertEqual(ran.returncode, 0, ran.shown)
                self.assertRegex(ran.out, "through c10d")
                self.assertEqual(ran.out.count("redop"), 8)

    def test_over_mpi(self):
        self.env.update(SHARE_CORES)
        for ranks in (1, 2, 3, 4):
            for words in (("--backend", "mpi"), ("--medium", "mpi")):
                with self.subTest((ranks, words)):
                    ran = self.run_it("mpirun", "-n", str(ranks), PERF,
                                      "--smoke", *words)
                    self.assertEqual(ran.returncode, 0, ran.shown)
                    self.assertRegex(ran.out, "mpi")
        self.refuses(2, "needs MPI's own launcher", LAUNCH, "--standalone",
                     "--nproc-per-node", "2", PERF, "--medium", "mpi")


if __name__ == "__main__":
    main()
