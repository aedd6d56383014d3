#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ch03_ddp_doctor on four ranks: each bug gets its verdict, which names the
rank, on every rank; healthy trainings get none; PyTorch's own fr_trace reads
what was recorded, and names the same rank. No time is asserted.
"""
import json
import os
import pathlib
import pickle
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
# pylint: disable=wrong-import-position
from support.many_nodes import (  # noqa: E402
    BIN, BOOK, LAUNCH, VCLUSTER, ManyNodes, main)

DOCTOR, TRAIN = BIN / "ch03_ddp_doctor", BIN / "ch03_ddp_train"
RANKS, ODD, STEP = 4, 2, 5
VENV = pathlib.Path(__file__).resolve().parents[3] / ".deps/venv/bin/python"


class Doctor(ManyNodes):
    def four(self, *words, code=0):
        ran = self.run_it(LAUNCH, "--standalone", "--nproc-per-node",
                          str(RANKS), *words, limit=120)
        self.assertEqual(ran.returncode, code, ran.shown)
        return ran

    def patient(self, fault, *words):
        return self.four(DOCTOR, "--device", "cpu", "--rank", str(ODD),
                         "--at-step", str(STEP), "--fault", fault, *words)

    def expect(self, fault, *says):
        """Every rank checks that it heard the verdict; here, what it says."""
        ran = self.patient(fault)
        for one in says:
            self.assertIn(one, ran.err, ran.shown)


class Verdicts(Doctor):
    def test_skipped_call(self):
        self.expect("skipped-call", "rank 2 has left out all_reduce #23 "
                    "(float32[], sum, at patient.cpp:", "step 5")

    def test_extra_call(self):
        self.expect("extra-call", "rank 2 makes one call more",
                    "rank 2: all_reduce #24", "ranks 0, 1, 3: broadcast #24")

    def test_swapped_order(self):
        self.expect("swapped-order", "rank 2 makes another call first",
                    "rank 2: all_reduce #21 (float32[2, 256, 16], sum, bucket "
                    "0: up, gate)")

    def test_shape(self):
        self.expect("shape", "float32[1, 257]", "float32[1, 256]",
                    "bucket 1: out")

    def test_dtype(self):
        self.expect("dtype", "float64", "float32")

    def test_reduce_operation(self):
        self.expect("reduce-op", "rank 2: all_reduce #21 (float32[1, 256], max",
                    "ranks 0, 1, 3: all_reduce #21 (float32[1, 256], sum")

    def test_root(self):
        self.expect("root", "rank 2: broadcast #24 (float32[1], root 2",
                    "ranks 0, 1, 3: broadcast #24 (float32[1], root 0")

    def test_branch(self):
        self.expect("branch", "rank 2: barrier #24 (at patient.cpp:")

    def test_inputs_exhausted(self):
        self.expect("inputs-exhausted", "rank 2 has ended its training",
                    "the group's end")

    def test_process_stopped(self):
        self.expect("process-stopped", "is stopped",
                    "rank 2 does not come to all_reduce #21")

    def test_rank_absent(self):
        self.expect("rank-absent", "rank 2 does not come to all_reduce #21",
                    "step 5, backward for")

    def test_slow_rank(self):
        self.expect("slow-rank", "the others wait for rank 2 in every step")

    def test_unused_parameter(self):
        self.expect("unused-parameter", "gate.weight",
                    "the first module not reached is gate")

    def test_drift(self):
        self.expect("drift", "before step 5, rank 2 has other weights in "
                    "gate.weight (1 of 3 parameters)")

    def test_initialisation(self):
        self.expect("initialisation", "before step 0, rank 2 has other weights",
                    "3 of 3 parameters")

    def test_overlapping_data(self):
        self.expect("overlapping-data",
                    "ranks 2, 3 train on the same data in step 5")

    def test_nan(self):
        self.expect("nan", "the loss of rank 2 is not finite in step 5: "
                    "aten::linear of gate.weight")

    def test_process_dead(self):
        """Under no launcher: dai_launch would end the others at once."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        ranks = []
        for rank in range(RANKS):
            env = dict(self.env, RANK=str(rank), LOCAL_RANK=str(rank),
                       WORLD_SIZE=str(RANKS), LOCAL_WORLD_SIZE=str(RANKS),
                       MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            ranks.append(subprocess.Popen(
                [DOCTOR, "--device", "cpu", "--fault", "process-dead",
                 "--rank", str(ODD)], env=env, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        said = [process.communicate(timeout=90)[0] for process in ranks]
        for rank, process in enumerate(ranks):
            expected = -9 if rank == ODD else 0
            self.assertEqual(process.returncode, expected, said[rank])
        self.assertIn("process dead: rank 2 ", said[0])
        self.assertIn("is dead", said[0])


class TwoRanks(Doctor):
    """One against one: what was usual before tells who is wrong."""

    def test_rank_0_can_be_wrong(self):
        for fault, says in (
                ("dtype", "dtype: rank 0 differs"),
                ("reduce-op", "reduce operation: rank 0 differs"),
                ("skipped-call", "skipped call: rank 0 has left out"),
                ("extra-call", "extra call: rank 0 makes one call more"),
                ("branch", "branch: rank 0 takes"),
                ("inputs-exhausted", "exhausted: rank 0 has ended"),
                ("drift", "drift: before step 5, ranks 0, 1 have different "
                 "weights in gate.weight")):
            with self.subTest(fault):
                ran = self.run_it(
                    LAUNCH, "--standalone", "--nproc-per-node", "2", DOCTOR,
                    "--device", "cpu", "--rank", "0", "--fault", fault)
                self.assertEqual(ran.returncode, 0, ran.shown)
                self.assertIn(says, ran.err, ran.shown)

    def test_rank_0_can_be_stopped(self):
        """It serves the store: nobody can be asked, and rank 1 speaks."""
        ran = self.run_it(LAUNCH, "--standalone", "--nproc-per-node", "2",
                          DOCTOR, "--device", "cpu", "--rank", "0", "--fault",
                          "process-stopped")
        self.assertEqual(ran.returncode, 0, ran.shown)
        self.assertRegex(ran.err, "doctor: process stopped: rank 0 .*store")
        self.assertIn("doctor: it goes on", ran.err)


class TwoNodes(Doctor):
    """The side channel is the store's, so another host's rank is named too."""

    def test_the_culprit_is_on_the_other_node(self):
        for fault, says in (("reduce-op", "reduce operation: rank 3 differs"),
                            ("process-stopped", "process stopped: rank 3 ")):
            with self.subTest(fault):
                ran = self.run_it(
                    VCLUSTER, "-N", "2", "sh", "-c",
                    f"DAI_SSH=$VCLUSTER_RSH {BOOK} run ch03_ddp_doctor -n 2 "
                    "--hosts node-1,node-2 --no-preflight -- --device cpu "
                    f"--rank 3 --fault {fault}")
                self.assertEqual(ran.returncode, 0, ran.shown)
                self.assertIn(says, ran.err, ran.shown)


class Healthy(Doctor):
    def test_a_thousand_steps_with_a_long_pause(self):
        ran = self.patient("data-pause", "--steps", "1000", "--pause-s", "5")
        self.assertIn("the doctor: no verdict", ran.out)

    def test_a_training_that_saves(self):
        ran = self.four(TRAIN, "--smoke", "--watch", "--checkpoint-dir",
                        self.dir / "run", "--save-every", "2")
        self.assertNotIn("doctor:", ran.out + ran.err)

    def test_a_restart_is_watched_again(self):
        for _ in range(2):
            ran = self.four(TRAIN, "--smoke", "--watch", "--checkpoint-dir",
                            self.dir / "run")
            self.assertNotIn("doctor:", ran.out + ran.err)


class FlightRecorder(Doctor):
    def record(self, fault):
        folder = self.dir / fault
        self.patient(fault, "--flight-recorder", folder)
        return folder

    def fr_trace(self, folder, *words):
        ran = subprocess.run(
            [VENV, "-m", "torch.distributed.flight_recorder.fr_trace", folder,
             *words], capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        return ran.stdout + ran.stderr

    def test_json_and_pickle_say_the_same(self):
        folder = self.record("none")
        for rank in range(RANKS):
            with open(folder / f"calls_{rank}", "rb") as file:
                record = pickle.load(file)
            text = (folder / f"record_{rank}.json").read_text()
            self.assertEqual(record, json.loads(text))
            self.assertEqual(record["version"], "2.10")
            self.assertTrue(all(entry["state"] == "completed"
                                for entry in record["entries"]))

    @unittest.skipUnless(VENV.exists(), "the wheel's tool is not set up")
    def test_pytorchs_own_tool_finds_the_same(self):
        database = self.dir / "healthy"
        quiet = self.fr_trace(self.record("none"), "-o", database)
        self.assertNotIn("Culprit", quiet)
        self.assertTrue(database.stat().st_size > 1000)
        for fault, error in (("shape", "SIZE_OR_SYNTAX_MISMATCH"),
                             ("dtype", "COLLECTIVE_DTYPE_MISMATCH"),
                             ("skipped-call", "COLLECTIVE_TYPE_MISMATCH")):
            with self.subTest(fault):
                self.assertRegex(self.fr_trace(self.record(fault)),
                                 f"Culprit rank {ODD}; Error type: {error}")


class WrongWords(Doctor):
    def test_are_refused_by_name(self):
        for words, says in (
                (("--rank", "9"), "--rank 9: there are 4 ranks"),
                (("--at-step", "20"), "of 20 steps"),
                (("--fault", "shap"), "shape")):
            ran = self.four(DOCTOR, *words, code=2)
            self.assertIn(says, ran.out + ran.err)
        ran = self.four(TRAIN, "--smoke", "--flight-recorder",
                        self.dir / "fr", code=2)
        self.assertIn("belong to --watch", ran.out + ran.err)


if __name__ == "__main__":
    main()
