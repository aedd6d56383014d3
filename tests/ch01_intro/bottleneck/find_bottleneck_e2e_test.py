#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ch01_find_bottleneck while it is really disturbed, once for each kind.

What it finds on a machine that others use as well is not asserted (the nightly
test does that): only that it runs to its end, says what it found, and shows
why. DAI_BIN_DIR names the binaries, DAI_INJECT the folder of inject.py.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

BIN = pathlib.Path(os.environ["DAI_BIN_DIR"])
INJECT = str(pathlib.Path(os.environ["DAI_INJECT"], "inject.py"))
KINDS = ("none", "slow-reader", "stopped-rank", "cache-thrasher", "slow-link")
VERDICTS = {"none", "input", "compute", "memory", "communication"}


def inject(*words):
    return subprocess.run([sys.executable, INJECT, *words], text=True,
                          capture_output=True, timeout=120,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})


class FindBottleneck(unittest.TestCase):
    def disturbed(self, kind, *more):
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder) / "report.json"
            done = inject(
                kind, "--seed", "1", "--when", "watching", "--",
                str(BIN / "dai_launch"), "--standalone", "--nproc-per-node",
                "1" if kind == "cache-thrasher" else "2",
                str(BIN / "ch01_find_bottleneck"), "--smoke",
                "--reference-steps", "8", "--window", "8",
                "--json", str(report), *more)
            said = done.stdout + done.stderr
            self.assertEqual(done.returncode, 0, said)
            whole = json.loads(report.read_text())
        self.assertEqual(whole["check"], "ok")
        self.assertIn(whole["verdict"]["resource"], VERDICTS)
        self.assertIn(f"verdict: {whole['verdict']['resource']}", said)
        for evidence in ("data_ms", "wire_ms", "stream_us_per_mb", "to do: "):
            self.assertIn(evidence, said)
        self.assertIn("[inject] ", said)
        self.assertNotIn("nothing was done", said)

    def test_runs_to_its_end_while_nothing_is_done(self):
        self.disturbed("none")

    def test_runs_to_its_end_with_a_slow_reader(self):
        self.disturbed("slow-reader", "--input", "{feed}")

    def test_runs_to_its_end_with_a_rank_that_is_stopped_again_and_again(self):
        self.disturbed("stopped-rank")

    def test_runs_to_its_end_beside_a_cache_thrasher(self):
        self.disturbed("cache-thrasher")

    def test_runs_to_its_end_over_a_slow_link(self):
        self.disturbed("slow-link")


class Inject(unittest.TestCase):
    def test_returns_the_exit_code_of_its_command(self):
        self.assertEqual(inject("none", "--", "sh", "-c", "exit 3").returncode,
                         3)

    def test_says_so_when_it_never_began(self):
        done = inject("none", "--when", "tomorrow", "--", "echo", "today")
        self.assertEqual(done.stdout, "today\n")
        self.assertIn("nothing was done", done.stderr)

    def test_refuses_wrong_usage(self):
        for words in (["none"], ["noise", "--", "true"], ["none", "--"],
                      ["slow-reader", "--", "true"],
                      ["none", "--when", "(", "--", "true"]):
            done = inject(*words)
            self.assertEqual(done.returncode, 2, (words, done.stderr))
            self.assertNotIn("Traceback", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
