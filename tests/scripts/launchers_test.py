#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every launcher and backend computes the same losses, bit for bit, on one
node and on clusters of two and three (scripts/vcluster): dai_launch, torchrun
and mpirun here, srun in slurm_test.py, ssh in on_hosts_test.py.

DAI_TORCHRUN is a torchrun, or empty where its Python packages are not there.
"""
import os
import pathlib
import signal
import socket
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
# pylint: disable=wrong-import-position
from support.many_nodes import (  # noqa: E402
    APP, BOOK, ENDLESS, LAUNCH, NAME, QUICK, SCRIPTS, SHARE_CORES, VCLUSTER,
    ManyNodes, main, script)

TORCHRUN = os.environ["DAI_TORCHRUN"]


def lives(pid):
    """Not dead, nor a zombie that nobody has buried yet."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return state.rpartition(")")[2].split()[0] not in "ZX"


class OneNode(ManyNodes):
    def test_mpirun(self):
        self.env.update(SHARE_CORES)
        self.equal(2, SCRIPTS / "launch_mpirun.sh", app=(NAME,))
        for ranks in (2, 3):
            self.env["NPROC"] = str(ranks)
            self.equal_mpi(ranks, SCRIPTS / "launch_mpirun.sh", app=(NAME,))

    def test_torchrun(self):
        if TORCHRUN:
            self.equal(2, SCRIPTS / "launch_torchrun.sh", app=(NAME,))

    def test_the_book_starts_each(self):
        for launcher in ("mpirun", "torchrun") if TORCHRUN else ("mpirun",):
            self.equal(2, BOOK, "run", "-n", "2", "--launcher", launcher,
                       app=(NAME, "--"))
        self.equal_mpi(2, BOOK, "run", "-n", "2", "--launcher", "mpirun",
                       app=(NAME, "--"))

    def test_mpi_without_mpirun_is_refused_with_the_line_to_type(self):
        for launcher in (LAUNCH, TORCHRUN) if TORCHRUN else (LAUNCH,):
            ran = self.run_it(
                launcher, *(("--no-python",) if launcher == TORCHRUN else ()),
                "--standalone", "--nproc-per-node", "2", APP, *QUICK,
                "--backend", "mpi")
            # torchrun answers 1 to any failure, and shows the ranks' own.
            self.assertEqual(ran.returncode, 2 if launcher == LAUNCH else 1,
                             ran.shown)
            self.assertRegex(ran.out + ran.err, r"mpirun -n 2 ")


class DyingRanks(ManyNodes):
    """MPI carries the tensors of a run without end; rank 1 is taken away."""

    def without(self, number):
        ranks = [self.dir / f"pid.{r}" for r in (0, 1)]
        process = self.start(
            "mpirun", "-n", "2", "sh", "-c",
            f"echo $$ > {self.dir}/pid.$OMPI_COMM_WORLD_RANK; exec {ENDLESS} "
            "--backend mpi --timeout-s 4")
        while "watching the" not in process.stdout.readline():
            self.assertIsNone(process.poll())
        pids = [int(path.read_text()) for path in ranks]
        os.kill(pids[1], number)
        self.finish(process)
        self.assertNotEqual(process.returncode, 0, process.shown)
        deadline = time.monotonic() + 10
        while any(map(lives, pids)) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertFalse(any(map(lives, pids)), process.shown)
        return process

    def test_a_killed_rank_ends_all_and_is_named(self):
        ran = self.without(signal.SIGKILL)
        self.assertRegex(ran.out + ran.err, r"(?s)process rank 1 .*exited\s+on"
                         r"\s+signal\s+9")

    def test_a_stopped_rank_ends_all_by_the_time_out(self):
        ran = self.without(signal.SIGSTOP)
        self.assertRegex(ran.out + ran.err, r"timed out")


class Clusters(ManyNodes):
    def test_nodes_that_are_only_names(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.equal(2, VCLUSTER, "--mode", "loopback", "-N", "2", VCLUSTER,
                   "each", LAUNCH, "--nnodes", "2", "--node-rank", "{}",
                   "--nproc-per-node", "1", "--rdzv-endpoint",
                   f"{{first}}:{port}", nodes=2)

    def test_dai_launch(self):
        for nodes, ranks in ((2, 2), (3, 1)):
            self.equal(nodes * ranks, BOOK, "run", "-n", ranks, "--nodes",
                       nodes, "--launcher", "vcluster", app=(NAME, "--"),
                       nodes=nodes)

    def test_torchrun(self):
        for nodes in (2, 3) if TORCHRUN else ():
            self.equal(nodes, VCLUSTER, "-N", nodes, VCLUSTER, "each", "env",
                       f"NNODES={nodes}", "NODE_RANK={}", "NPROC=1",
                       "MASTER_ADDR=node-1", "IFNAME=eth0",
                       SCRIPTS / "launch_torchrun.sh", app=(NAME,),
                       nodes=nodes)

    def test_mpirun(self):
        # Where readers have ssh, these clusters have their own remote shell.
        start = script(
            'export OMPI_MCA_plm_rsh_agent="$VCLUSTER_RSH"',
            'export PRTE_MCA_plm_ssh_agent="$VCLUSTER_RSH"',
            f'exec {SCRIPTS}/launch_mpirun.sh "$@"') + ("bash",)
        for nodes, ranks in ((2, 2), (3, 1)):
            self.env["HOSTS"] = ",".join(f"node-{i + 1}:{ranks}"
                                         for i in range(nodes))
            self.env["IFNAME"] = "eth0"
            cluster = (VCLUSTER, "-N", nodes, *start)
            self.equal(nodes * ranks, *cluster, app=(NAME,), nodes=nodes)
            self.equal_mpi(nodes * ranks, *cluster, app=(NAME,), nodes=nodes)


if __name__ == "__main__":
    main()
