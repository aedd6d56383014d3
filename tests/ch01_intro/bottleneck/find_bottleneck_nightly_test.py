#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ten seeds of each kind of trouble, live: at least nine are found.

About five minutes on a machine that has nothing else to do, which it must have.
DAI_BIN_DIR names the binaries, DAI_INJECT the folder of record_jobs.py.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

RECORD = str(pathlib.Path(os.environ["DAI_INJECT"], "record_jobs.py"))
LINE = re.compile(r"^(\w+) seed (\d+), try \d+ .*: verdict: (\w+)", re.M)


class FindBottleneck(unittest.TestCase):
    def test_nine_of_ten_of_each_kind_are_found(self):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, RECORD, "--seeds", "1-10", "--out", folder,
                 "--bin", os.environ["DAI_BIN_DIR"]],
                text=True, stdout=subprocess.PIPE, check=False)
        print(done.stdout)
        self.assertEqual(done.returncode, 0)
        # Of several tries of a seed the last one counts.
        said = {(kind, seed): verdict
                for kind, seed, verdict in LINE.findall(done.stdout)}
        self.assertEqual(len(said), 50)
        for kind in ("none", "input", "compute", "memory", "communication"):
            right = sum(said[kind, str(seed)] == kind
                        for seed in range(1, 11))
            with self.subTest(kind):
                self.assertGreaterEqual(right, 9)


if __name__ == "__main__":
    unittest.main(verbosity=2)
