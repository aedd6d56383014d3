#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints from outside: ch03_ddp_train is killed at every kind of moment,
its files are damaged, its disk is full; what it learns in the end has the bits
of a run that nobody disturbed.

DAI_E2E_POINTS: how many moments of the run's saves are tried; "all" is each
call of the second save of a small network, and each step of thirty.
"""
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
# pylint: disable=wrong-import-position
from support.many_nodes import (  # noqa: E402
    BIN, LAUNCH, VCLUSTER, ManyNodes, main, script)

TRAIN = BIN / "ch03_ddp_train"
FAULTS = os.environ["DAI_FAULTS"]
POINTS = os.environ.get("DAI_E2E_POINTS", "6")
STEPS, EVERY = 9, 3
RUN = (TRAIN, "--smoke", "--steps", str(STEPS), "--microbatch-size", "1",
       "--window", "16", "--exchange", "canonical", "--timeout-s", "20")
_EXPECTED = {}


def ranks(number, *launch):
    return (LAUNCH, "--standalone", "--nproc-per-node", str(number), *launch)


class Checkpoints(ManyNodes):
    task = ()

    def setUp(self):
        super().setUp()
        self.run_dir = self.dir / "run"

    def train(self, number=2, *words, launch=(), env=None, code=0):
        """Returns the run and what it has learnt."""
        weights, report = self.dir / "w.safetensors", self.dir / "r.json"
        for file in (weights, report):
            file.unlink(missing_ok=True)
        self.env.update(env or {})
        try:
            ran = self.run_it(*ranks(number, *launch), *RUN, *self.task,
                              "--save", weights, "--json", report, *words,
                              limit=200)
        finally:
            for key in env or {}:
                del self.env[key]
        self.assertEqual(ran.returncode, code, ran.shown)
        return ran, None if code else self.learnt(weights, report)

    @staticmethod
    def learnt(weights, report):
        losses = json.dumps(json.loads(report.read_text())["curves"])
        return (hashlib.sha256(losses.encode()).hexdigest(),
                hashlib.sha256(weights.read_bytes()).hexdigest())

    @property
    def saving(self):
        return ("--checkpoint-dir", self.run_dir, "--save-every", str(EVERY))

    @property
    def expected(self):
        if self.task not in _EXPECTED:
            _EXPECTED[self.task] = self.train()[1]
        return _EXPECTED[self.task]

    def faults(self, at, how, rank, where=""):
        return {"LD_PRELOAD": FAULTS, "FAULT_UNDER": str(self.run_dir),
                "FAULT_AT": str(at), "FAULT_HOW": how, "FAULT_IN": where,
                "FAULT_RANK": str(rank)}

    def steps(self):
        return sorted(p.name for p in self.run_dir.glob("step-*"))

    def calls_of(self, rank, where):
        """How many calls of a rank touch the folder in an undisturbed run."""
        log = self.dir / f"calls{rank}"
        env = {**self.faults(0, "before", rank, where), "FAULT_LOG": str(log)}
        _, learnt = self.train(2, *self.saving, env=env)
        self.assertEqual(learnt, self.expected)
        shutil.rmtree(self.run_dir)
        return int(log.read_text().split()[0])


    def killed_at(self, calls, points, where=""):
        """A rank dies at a call, the launcher starts all again."""
        for rank, at, how in points:
            with self.subTest(f"rank {rank}, {how} call {at} of {calls}"):
                shutil.rmtree(self.run_dir, ignore_errors=True)
                ran, learnt = self.train(
                    2, *self.saving, launch=("--max-restarts", "1"),
                    env=self.faults(at, how, rank, where))
                self.assertRegex(ran.err, f"rank {rank} .*SIGKILL", ran.shown)
                self.assertEqual(learnt, self.expected, ran.shown)
                self.assertEqual(
                    [p.name for p in self.run_dir.glob(".step-*")], [],
                    ran.shown)
                self.assertEqual(self.steps()[-1], f"step-{STEPS:06}")

    @staticmethod
    def moments(calls):
        """Of a call: instead of it, behind it, and in the middle of it."""
        return [(rank, at, how) for rank in (0, 1)
                for at in range(1, calls[rank] + 1)
                for how in ("before", "after", "half")]


class Killed(Checkpoints):
    def test_in_the_middle_of_a_save(self):
        calls = [self.calls_of(0, ""), self.calls_of(1, "")]
        self.assertGreater(min(calls), 50, calls)
        self.killed_at(calls, random.Random(1234).sample(
            self.moments(calls), int(POINTS)))

    def test_and_goes_on_with_fewer_ranks(self):
        """Four, then three, then two; each dies in the save after that."""
        for number, dies_in, before in ((4, 6, 3), (3, 9, 6)):
            ran, _ = self.train(
                number, *self.saving, code=1, env=self.faults(
                    5, "before", 1, where=f"step-{dies_in:06}"))
            self.assertRegex(ran.err, "rank 1 .*SIGKILL", ran.shown)
            self.assertEqual(self.steps()[-1], f"step-{before:06}", ran.shown)
        ran, learnt = self.train(2, *self.saving)
        self.assertIn("went on from step 6", ran.out)
        self.assertEqual(learnt, self.expected)


if POINTS == "all":
    class EveryCall(Checkpoints):
        task = ("--task", "images")  # few tensors, so few calls

        def test_of_a_save_is_survived(self):
            where = f"step-{2 * EVERY:06}"
            calls = [self.calls_of(0, where), self.calls_of(1, where)]
            self.assertGreater(min(calls), 10, calls)
            self.killed_at(calls, self.moments(calls), where)

    class EveryStep(Checkpoints):
        def test_of_thirty_is_survived(self):
            """A rank dies as soon as the step is done, before it is saved."""
            steps = ("--steps", "30", "--save-every", "1", "--keep-last", "2",
                     "--checkpoint-dir", self.run_dir)
            expected = self.train(2, "--steps", "30")[1]
            for step in range(1, 31):
                with self.subTest(step):
                    shutil.rmtree(self.run_dir, ignore_errors=True)
                    ran, learnt = self.train(
                        2, *steps, launch=("--max-restarts", "1"),
                        env=self.faults(1, "before", step % 2,
                                        where=f"step-{step:06}"))
                    self.assertRegex(ran.err, f"rank {step % 2} .*SIGKILL",
                                     ran.shown)
                    self.assertEqual(learnt, expected, ran.shown)


class LostNode(Checkpoints):
    def test_the_rest_of_an_elastic_run_goes_on(self):
        """Two nodes, of which one loses its power after the first save."""
        long = [*map(str, RUN), "--steps", "80"]
        weights, report = self.dir / "w.safetensors", self.dir / "r.json"
        into = ["--save", str(weights), "--json", str(report)]
        ran = self.run_it(*ranks(1), *long, *into)
        self.assertEqual(ran.returncode, 0, ran.shown)
        expected = self.learnt(weights, report)
        app = " ".join(map(str, [*long, *into, *self.saving]))
        nodes = [f"{VCLUSTER} exec {i + 1} {LAUNCH} --nnodes 1:2 "
                 f"--max-restarts 1 --last-call-s 2 --heartbeat-s 3 "
                 f"--node-rank {i} --nproc-per-node 1 --rdzv-endpoint "
                 f"node-1:29400 {app} > log.{i} 2>&1 & run{i}=$!"
                 for i in range(2)]
        ran = self.run_it(
            VCLUSTER, "-N", "2", *script(
                f"cd {self.dir}", *nodes,
                f"until [ -d {self.run_dir}/step-000003 ]; do",
                "  kill -0 $run0; sleep 0.05", "done", f"{VCLUSTER} kill 2",
                "wait $run1 || true", "code=0; wait $run0 || code=$?",
                "cat log.0", "exit $code"))
        self.assertEqual(ran.returncode, 0, ran.shown)
        self.assertRegex(ran.out, r"node node-2 \(rank 1\) was lost", ran.shown)
        self.assertRegex(ran.out, "went on from step [1-9]", ran.shown)
        found = json.loads(report.read_text())
        self.assertEqual(found["ranks"]["world_size"], 1)
        self.assertEqual(self.learnt(weights, report), expected)


class Told(Checkpoints):
    def test_to_stop_it_saves_and_ends(self):
        for name in ("SIGTERM", "SIGUSR1"):
            with self.subTest(name):
                shutil.rmtree(self.run_dir, ignore_errors=True)
                endless = [str(w) for w in RUN]
                endless[endless.index("--steps") + 1] = "100000"
                process = self.start(*ranks(2), *endless, *self.saving,
                                     "--json", self.dir / "r.json")
                deadline = time.monotonic() + 60
                while not self.steps() and time.monotonic() < deadline:
                    time.sleep(0.1)
                os.kill(self.rank_of(process.pid, 1), getattr(signal, name))
                ran = self.finish(process, limit=60)
                self.assertEqual(ran.returncode, 0, ran.shown)
                self.assertRegex(ran.out, f"stopped by ({name}|another)")
                last = int(self.steps()[-1].split("-")[1])
                done = json.loads((self.dir / "r.json").read_text())["curves"]
                self.assertEqual(len(done["text"]), last)

    @staticmethod
    def rank_of(launcher, rank):
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                words = (stat.parent / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if parent == launcher and b"RANK=%d" % rank in words:
                return int(stat.parent.name)
        raise AssertionError("no such rank")


class Damaged(Checkpoints):
    def test_checkpoints_are_named_and_passed_over(self):
        self.train(2, *self.saving, "--keep-last", "9")
        self.assertEqual(self.steps(), [f"step-{s:06}" for s in (3, 6, 9)])
        whole = self.dir / "whole"
        shutil.copytree(self.run_dir, whole)
        shard = "rank-00001-of-00002.safetensors"
        size = (whole / "step-000009" / shard).stat().st_size

        def cut(path, at):
            with open(path, "r+b") as file:
                file.truncate(at)

        def flip(path, at):
            with open(path, "r+b") as file:
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 1]))
        newest = self.run_dir / "step-000009"
        damages = {
            "no manifest": lambda: (newest / "manifest.json").unlink(),
            "a manifest cut off": lambda: cut(newest / "manifest.json", 4096),
            "a shard cut off": lambda: cut(newest / shard, size // 4096 * 4096),
            "an empty shard": lambda: cut(newest / shard, 0),
            "a shard missing": lambda: (newest / shard).unlink(),
            "a bit": lambda: flip(newest / shard, size - 5),
        }
        for what, damage in damages.items():
            with self.subTest(what):
                shutil.rmtree(self.run_dir)
                shutil.copytree(whole, self.run_dir)
                damage()
                ran, learnt = self.train(2, *self.saving)
                self.assertRegex(ran.err, "step-000009 is damaged", ran.shown)
                self.assertIn("went on from step 6", ran.out, ran.shown)
                self.assertEqual(learnt, self.expected, ran.shown)

    def test_another_runs_checkpoint_is_refused_by_name(self):
        self.train(2, *self.saving)
        for words, says in ((("--lr", "0.5"), "made with lr=\"0.01\""),
                            (("--steps", "12"), "steps=\"9\""),
                            (("--model", "small-5m"), "model=\"nano-1m\""),
                            (("--precision", "bf16"), "precision=\"fp32\"")):
            with self.subTest(words):
                ran, _ = self.train(2, *self.saving, *words, code=2)
                self.assertRegex(ran.err, re.escape(says), ran.shown)

    def test_a_folder_that_cannot_be(self):
        (self.dir / "file").write_text("")
        ran, _ = self.train(2, "--checkpoint-dir", self.dir / "file", code=2)
        self.assertIn("no folder", ran.err)


class FullDisk(Checkpoints):
    def test_the_run_goes_on_and_says_so(self):
        ran, learnt = self.train(2, *self.saving,
                                 env=self.faults(3, "enospc", 1,
                                                 where="step-000006"))
        self.assertEqual(learnt, self.expected, ran.shown)
        self.assertRegex(ran.err, "no checkpoint of step 6: rank 1: .*No space",
                         ran.shown)
        self.assertIn("the last one is of step 3", ran.err)
        # There was room again.
        self.assertEqual(self.steps(), ["step-000003", "step-000009"])
        self.assertEqual([p.name for p in self.run_dir.glob(".step-*")], [])


if __name__ == "__main__":
    main()
