#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A node of a cluster is unplugged or loses its power in the middle of a run:
everyone ends in time and is told which node it was, or the rest starts again
and computes what so many ranks always compute."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
# pylint: disable=wrong-import-position
from support.many_nodes import (  # noqa: E402
    APP, ENDLESS, FREEZE, LAUNCH, STEPS, TRAINS, VCLUSTER, ManyNodes,
    expected_curves, main, script)


class NodeLoss(ManyNodes):
    def lose(self, change, begun, app, flags=""):
        """The app on two nodes of one rank; at the line `begun`, `change`.
        Each node by itself, since `vcluster each` would end the second one
        to notice. Node 1's code is the run's."""
        nodes = [f"{VCLUSTER} exec {i + 1} {LAUNCH} {flags} --node-rank {i} "
                 f"--nproc-per-node 1 --rdzv-endpoint node-1:29400 {app} "
                 f">> log.{i} 2>&1 & run{i}=$!" for i in range(2)]
        return self.run_it(
            VCLUSTER, "-N", "2", *script(
                FREEZE, *nodes, f"until grep -q '{begun}' log.0; do",
                "  kill -0 $run0; sleep 0.1", "done", change,
                "wait $run1 || true", "code=0; wait $run0 || code=$?",
                "for i in 0 1; do sed \"s/^/node $i: /\" log.$i; done",
                "exit $code"))

    def test_an_unplugged_node_ends_everyone_and_is_named(self):
        ran = self.lose(f"{VCLUSTER} link 2 down", "watching the", ENDLESS,
                        "--nnodes 2 --heartbeat-s 4")
        self.assertEqual(ran.returncode, 1, ran.shown)
        self.assertRegex(ran.out, r"node 0: .*node node-2 \(rank 1\) was lost")
        self.assertRegex(ran.out, r"node 1: .*lost the rendezvous", ran.shown)

    def test_the_rest_of_an_elastic_run_starts_again(self):
        report = self.dir / "report.json"
        ran = self.lose(f"freeze $({VCLUSTER} exec 2 readlink "
                        f"/proc/self/ns/net); {VCLUSTER} kill 2", TRAINS,
                        f"{APP} {' '.join(STEPS)} --json {report}",
                        "--nnodes 1:2 --max-restarts 1 --last-call-s 2 "
                        "--heartbeat-s 3")
        self.assertEqual(ran.returncode, 0, ran.shown)
        self.assertRegex(ran.out, r"node 0: .*node node-2 \(rank 1\) was lost")
        found = json.loads(report.read_text())
        self.assertEqual(found["ranks"]["world_size"], 1)
        self.assertEqual(found["curves"], expected_curves(1, STEPS))


if __name__ == "__main__":
    main()
