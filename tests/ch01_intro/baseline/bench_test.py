#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What bench.py refuses, and how it counts; the programs are not started."""
import pathlib
import sys
import types
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] /
                       "ch01_intro" / "bench"))
# pylint: disable=wrong-import-position
import bench  # noqa: E402


def programs(*losses):
    return [types.SimpleNamespace(label=f"program {i}", loss=loss)
            for i, loss in enumerate(losses)]


class Bench(unittest.TestCase):
    def test_equal_losses_pass(self):
        bench.refuse_other_losses(programs(7.0, 7.0 * (1 + 5e-4)))

    def test_another_loss_or_nan_is_no_result(self):
        for other in (7.0 * (1 + 2e-3), float("nan"), 0.0):
            with self.assertRaisesRegex(SystemExit, "program 1"):
                bench.refuse_other_losses(programs(7.0, other))
            with self.assertRaisesRegex(SystemExit, "program 1"):
                bench.refuse_other_losses(programs(other, 7.0))

    def test_the_interval_holds_the_ratio_and_pairs_cancel(self):
        ours = [1.0, 2.0, 4.0, 1.0, 3.0, 2.0, 5.0]
        low, high = bench.bootstrap(ours, [2 * o for o in ours])
        self.assertEqual((low, high), (2, 2))
        low, high = bench.bootstrap(ours, [3.0] * 7)
        self.assertLess(low, 1.5)
        self.assertGreater(high, 1.5)


if __name__ == "__main__":
    unittest.main()
