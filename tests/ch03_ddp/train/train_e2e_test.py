#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ch03_ddp_train from outside: SHA-256 of what it learnt, launchers, two nodes,
bad input, and ranks that die.

DAI_E2E_STEPS: how long the trainings are whose bits are compared.
"""
import hashlib
import json
import os
import pathlib
import re
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
# pylint: disable=wrong-import-position
from support.many_nodes import (  # noqa: E402
    BIN, BOOK, LAUNCH, SCRIPTS, VCLUSTER, ManyNodes, main)

TRAIN = BIN / "ch03_ddp_train"
STEPS = os.environ.get("DAI_E2E_STEPS", "3")


def ranks(number, *launch):
    return (LAUNCH, "--standalone", "--nproc-per-node", str(number), *launch)


class Bits(ManyNodes):
    def learnt(self, *command):
        """SHA-256 of the losses, as printed with all digits, and of the
        weights' file."""
        report, weights = self.dir / "report.json", self.dir / "w.safetensors"
        ran = self.run_it(*command, "--json", report, "--save", weights,
                          limit=600)
        self.assertEqual(ran.returncode, 0, ran.shown)
        losses = json.dumps(json.loads(report.read_text())["curves"])
        return (hashlib.sha256(losses.encode()).hexdigest(),
                hashlib.sha256(weights.read_bytes()).hexdigest())

    def test_canonical_training_depends_on_no_layout(self):
        """Not on ranks, not on the sync, not on the buckets, not on the wire."""
        same = (TRAIN, "--smoke", "--steps", STEPS, "--exchange", "canonical")
        expected = self.learnt(*ranks(1), *same, "--sync", "naive")
        for number, sync, bucket, backend in (
                (1, "reducer", "25", "gloo"),
                (2, "bucketed", "0.05", "gloo"), (2, "reducer", "0.3", "dai"),
                (3, "overlapped", "0.3", "gloo"), (3, "reducer", "2", "gloo"),
                (4, "overlapped", "0.05", "dai")):
            with self.subTest(f"{number} ranks, {sync}, {bucket}, {backend}"):
                self.assertEqual(
                    self.learnt(*ranks(number), *same, "--sync", sync,
                                "--bucket-mb", bucket, "--first-bucket-mb",
                                bucket, "--backend", backend), expected)

    def test_without_it_three_ranks_round_otherwise(self):
        """Or the test above would prove nothing."""
        same = (TRAIN, "--smoke", "--steps", STEPS, "--sync", "bucketed")
        self.assertNotEqual(self.learnt(*ranks(1), *same)[1],
                            self.learnt(*ranks(3), *same)[1])

    def test_pictures_too(self):
        same = (TRAIN, "--smoke", "--steps", STEPS, "--task", "images",
                "--exchange", "canonical")
        self.assertEqual(
            self.learnt(*ranks(1), *same),
            self.learnt(*ranks(2), *same, "--sync", "overlapped"))


class Launches(ManyNodes):
    QUICK = (TRAIN, "--smoke", "--steps", "2")

    def losses_of(self, *command):
        report = self.dir / "report.json"
        ran = self.run_it(*command, "--json", report)
        self.assertEqual(ran.returncode, 0, ran.shown)
        return json.loads(report.read_text())["curves"]

    def test_every_exchange_trains(self):
        for sync, exchange in (("bucketed", "fp16"), ("overlapped", "int8"),
                               ("reducer", "powersgd"), ("reducer", "bf16")):
            with self.subTest(f"{sync} {exchange}"):
                ran = self.run_it(
                    *ranks(2), TRAIN, "--smoke", "--steps", "8", "--sync",
                    sync, "--exchange", exchange, "--powersgd-start", "2",
                    "--bucket-mb", "0.5", "--first-bucket-mb", "0.5")
                self.assertEqual(ran.returncode, 0, ran.shown)
                self.assertIn("last loss / first", ran.out)

    def test_float16_finds_its_scale_whatever_the_exchange(self):
        """The first steps overflow, and what an exchange remembers must not
        carry that into the next ones."""
        for exchange in ("int8", "powersgd"):
            with self.subTest(exchange):
                ran = self.run_it(
                    *ranks(2), TRAIN, "--smoke", "--steps", "12", "--precision",
                    "fp16", "--rung", "naive", "--exchange", exchange,
                    "--powersgd-start", "2", "--microbatch-size", "1",
                    "--window", "32")
                self.assertEqual(ran.returncode, 0, ran.shown)

    def test_mpirun_and_two_nodes_learn_the_same(self):
        expected = self.losses_of(*ranks(2), *self.QUICK)
        self.assertEqual(
            self.losses_of(BOOK, "run", "ch03_ddp_train", "-n", "2",
                           "--launcher", "mpirun", "--", "--backend", "mpi",
                           *self.QUICK[1:]), expected)
        self.assertEqual(
            self.losses_of(VCLUSTER, "-N", "2", VCLUSTER, "each", LAUNCH,
                           "--nnodes", "2", "--node-rank", "{}",
                           "--nproc-per-node", "1", "--rdzv-endpoint",
                           "{first}:29400", *self.QUICK), expected)

    @unittest.skipUnless(os.environ.get("DAI_TORCHRUN"), "no torchrun")
    def test_the_launch_file_for_torchrun(self):
        self.env.update(NNODES="1", NPROC="2", PRESET="smoke")
        launch = SCRIPTS.parent / "ch03_ddp/launch/torchrun_node8x2.sh"
        self.assertEqual(
            self.losses_of(launch, *self.QUICK[2:]),
            self.losses_of(*ranks(2), *self.QUICK))

    def test_wrong_options_are_refused_before_any_work(self):
        for words, says in (
                (("--sync", "naive", "--exchange", "int8"), "no buckets"),
                (("--microbatches", "7"), "--microbatches 7 cannot"),
                (("--bucket-mb", "0"), "a bucket of 0 MiB"),
                (("--validation-windows", "7"), "7 validation windows"),
                (("--exchange", "fp8"), "fp8"),
                (("--task", "images", "--images", "/none"), "/none"),
                (("--precision", "fp16"), "--rung naive"),
                (("--save", "/none/w"), "/none/w"),
                (("--windows-out", "w.bin"), "--paced"),
                (("--validation-windows", "9000"), "held back"),
                (("--exchange", "powersgd", "--powersgd-rank", "0"), "rank")):
            with self.subTest(words):
                self.refused(says, *self.QUICK, *words)

    def refused(self, says, *command):
        ran = self.run_it(*ranks(2), *command)
        self.assertEqual(ran.returncode, 2, ran.shown)
        self.assertRegex(ran.err, re.escape(says), ran.shown)

    def test_so_are_those_of_the_comparing_apps(self):
        for app, words, says in (
                ("ch03_ddp_ladder", ("--steps", "3"), "do not count"),
                ("ch03_bucket_explorer", ("--sizes-mb", "1,x"), "1,x"),
                ("ch03_bucket_explorer", ("--sizes-mb", ","), "numbers of MiB"),
                ("ch03_bucket_explorer", ("--sizes-mb", "0"), "of 0 MiB"),
                ("ch03_comm_hooks", ("--exchanges", "fp16,fp8"), "fp8"),
                ("ch03_comm_hooks", ("--exchanges", "int8,int8"), "twice"),
                ("ch03_comm_hooks", ("--powersgd-start", "99"), "never seen"),
                ("ch03_comm_hooks", ("--validation-windows", "7"), "7 valid"),
                ("ch03_mixed_precision", ("--recipes", "fp8"), "bf16-masters"),
                ("ch03_mixed_precision", ("--overflow-step", "99"), "step 99"),
                ("ch03_mixed_precision", ("--init-scale", "0"), "from 0"),
                ("ch03_mixed_precision", ("--microbatches", "7"), "7")):
            with self.subTest(f"{app} {words}"):
                self.refused(says, BIN / app, "--smoke", *words)

    def test_a_rank_that_dies_in_training_ends_the_run_and_is_named(self):
        process = self.start(*ranks(3), TRAIN, "--smoke", "--steps", "100000",
                             "--timeout-s", "10", "--json",
                             self.dir / "r.json")
        time.sleep(6)
        children = [pathlib.Path(p).parent.name
                    for p in pathlib.Path("/proc").glob("[0-9]*/stat")
                    if self.is_rank(p, process.pid, 1)]
        self.assertEqual(len(children), 1, children)
        os.kill(int(children[0]), 9)
        ran = self.finish(process, limit=30)
        self.assertNotEqual(ran.returncode, 0)
        self.assertRegex(ran.err, "rank 1 .*SIGKILL", ran.shown)

    @staticmethod
    def is_rank(stat, parent, rank):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            words = (stat.parent / "environ").read_bytes().split(b"\0")
        except OSError:
            return False
        return int(fields[1]) == parent and b"RANK=%d" % rank in words


if __name__ == "__main__":
    assert SCRIPTS
    main()
