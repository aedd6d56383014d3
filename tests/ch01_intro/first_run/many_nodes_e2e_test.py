#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ch01_first_distributed on many nodes: every launcher and backend computes the
same losses, bit for bit; a node that dies or is unplugged ends the run in time
and is named. The nodes are network namespaces (scripts/vcluster) and Slurm's
own daemons (scripts/slurm_lab).

DAI_BIN_DIR names the folder of the binaries, DAI_SCRIPTS that of the scripts,
DAI_TORCHRUN a torchrun (or nothing).
"""
import contextlib
import functools
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import unittest

BIN = pathlib.Path(os.environ["DAI_BIN_DIR"])
SCRIPTS = pathlib.Path(os.environ["DAI_SCRIPTS"])
APP, LAUNCH = str(BIN / "ch01_first_distributed"), str(BIN / "dai_launch")
VCLUSTER, LAB = str(SCRIPTS / "vcluster"), str(SCRIPTS / "slurm_lab")
QUICK = ("--smoke", "--steps", "3")
# All ranks train together from the first step on, and on.
ENDLESS = f"{BIN}/ch01_find_bottleneck --smoke --windows 1000000"
LIMIT_S = 90
FOREIGN = re.compile("RANK|WORLD_SIZE|MASTER_|TORCHELASTIC|OMPI_|PMIX|SLURM|"
                     "VCLUSTER|DAI_SSH")
NET = "10.77.0.0/24"


def clean_environment():
    env = {k: v for k, v in os.environ.items() if not FOREIGN.search(k)}
    env.update(OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1",
               OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
               OMPI_MCA_rmaps_base_oversubscribe="1",
               PRTE_MCA_rmaps_default_mapping_policy=":oversubscribe")
    return env


class ManyNodes(unittest.TestCase):
    """What the tests below share."""

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="many_nodes."))
        self.env = clean_environment()

    def tearDown(self):
        shutil.rmtree(self.dir)

    def start(self, *command):
        return subprocess.Popen(command, env=self.env, text=True, cwd=self.dir,
                                stdin=subprocess.DEVNULL, stdout=-1, stderr=-1)

    def finish(self, process, limit=LIMIT_S):
        try:
            process.out, process.err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            process.out, process.err = process.communicate(timeout=30)
            self.fail(f"still running after {limit} s\n{process.out}\n"
                      f"{process.err}")
        process.shown = (f"exit {process.returncode}\nstdout:\n{process.out}\n"
                         f"stderr:\n{process.err}")
        return process

    def run_it(self, *command, limit=LIMIT_S):
        return self.finish(self.start(*command), limit)

    def curves(self, *command):
        """Of a run that must succeed: both loss curves, as written."""
        report = self.dir / "report.json"
        report.unlink(missing_ok=True)
        ran = self.run_it(*command, "--json", str(report))
        self.assertEqual(ran.returncode, 0, ran.shown)
        return json.loads(report.read_text())["curves"]

    @staticmethod
    @functools.lru_cache
    def expected(ranks):
        """The curves of gloo under dai_launch on one node."""
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder, "report.json")
            subprocess.run(
                [LAUNCH, "--standalone", "--nproc-per-node", str(ranks), APP,
                 *QUICK, "--json", str(report)], check=True, timeout=LIMIT_S,
                env=clean_environment(), stdout=subprocess.DEVNULL)
            return json.loads(report.read_text())["curves"]

    def equal(self, ranks, *command):
        with self.subTest(shlex.join(command)):
            self.assertEqual(self.curves(*command, APP, *QUICK),
                             self.expected(ranks))

    def equal_mpi(self, ranks, *command):
        with self.subTest(shlex.join(command) + " mpi"):
            self.assertEqual(self.curves(*command, APP, *QUICK, "--backend",
                                         "mpi"), self.expected(ranks))


class Nodes(ManyNodes):
    """One node and vclusters of several."""

    def test_launchers_and_backends_of_one_node_compute_the_same(self):
        self.equal(2, "mpirun", "-n", "2")
        self.equal_mpi(2, "mpirun", "-n", "2")
        self.equal_mpi(3, "mpirun", "-n", "3")
        if os.environ.get("DAI_TORCHRUN"):
            self.equal(2, os.environ["DAI_TORCHRUN"], "--no-python",
                       "--standalone", "--nproc-per-node", "2")

    def test_mpi_without_mpirun_is_refused_with_the_line_to_type(self):
        ran = self.run_it(LAUNCH, "--standalone", "--nproc-per-node", "2", APP,
                          *QUICK, "--backend", "mpi")
        self.assertEqual(ran.returncode, 2, ran.shown)
        self.assertRegex(ran.shown, r"mpirun -n 2 ")

    def each(self, nodes, ranks, *cluster):
        """dai_launch on every node of a vcluster."""
        return (VCLUSTER, "-N", str(nodes), *cluster, VCLUSTER, "each", LAUNCH,
                "--nnodes", str(nodes), "--node-rank", "{}",
                "--nproc-per-node", str(ranks), "--rdzv-endpoint",
                "node-1:29400")

    def mpirun_across(self, nodes, ranks):
        hosts = ",".join(f"node-{i + 1}:{ranks}" for i in range(nodes))
        script = (
            "exec mpirun -x MASTER_ADDR=node-1 -x MASTER_PORT=29500 "
            "-x OMP_NUM_THREADS --mca plm_rsh_agent \"$VCLUSTER_RSH\" "
            "--prtemca plm_ssh_agent \"$VCLUSTER_RSH\" "
            f"--mca oob_tcp_if_include {NET} --prtemca oob_tcp_if_include {NET}"
            f" --mca btl_tcp_if_include {NET} --host {hosts} "
            f"-n {nodes * ranks} \"$@\"")
        if "4." in subprocess.run(["mpirun", "--version"], text=True,
                                  stdout=-1, check=True).stdout.split("\n")[0]:
            script = re.sub(r"--prtemca \S+ \S+ ", "", script)
        return (VCLUSTER, "-N", str(nodes), "sh", "-c", script, "sh")

    def test_vclusters_of_two_and_three_nodes_compute_the_same(self):
        self.equal(4, *self.each(2, 2))
        self.equal(3, *self.each(3, 1))
        self.equal(2, *self.mpirun_across(2, 1))
        self.equal_mpi(4, *self.mpirun_across(2, 2))
        self.equal_mpi(3, *self.mpirun_across(3, 1))

    def test_the_rungs_of_vcluster(self):
        tried = 0
        for mode in ("user", "root", "loopback"):
            ran = self.run_it(VCLUSTER, "--mode", mode, "-N", "2", VCLUSTER,
                              "each", "sh", "-c", "echo on $VCLUSTER_NODE")
            if ran.returncode == 77:
                self.assertRegex(ran.err, f"mode {mode} is not possible")
                continue
            tried += 1
            self.assertEqual(ran.returncode, 0, ran.shown)
            self.assertEqual(sorted(ran.out.split("\n")[:2]),
                             ["on node-1", "on node-2"])
            self.assertRegex(ran.err, f"by mode {mode}")
        self.assertGreaterEqual(tried, 2)

    def interrupted(self, change, *expected):
        """A run without end on two nodes, of which `change` takes one away."""
        # Each node by itself: `each` would end the second one to notice.
        nodes = "".join(
            f"{VCLUSTER} exec {i + 1} {LAUNCH} --nnodes 2 --node-rank {i} "
            f"--nproc-per-node 1 --rdzv-endpoint node-1:29400 {ENDLESS} & "
            f"run{i}=$!; " for i in range(2))
        script = (nodes + f"while ! grep -q 'watching the' {self.dir}/log; do "
                  f"sleep 0.1; done; {change}; wait $run1; wait $run0")
        with open(self.dir / "log", "wb") as log:
            process = subprocess.Popen(
                [VCLUSTER, "-N", "2", "sh", "-c", script], env=self.env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LIMIT_S)
            if process.poll() is None:
                process.terminate()
                process.wait(30)
                self.fail((self.dir / "log").read_text(errors="replace"))
        shown = (self.dir / "log").read_text(errors="replace")
        self.assertNotEqual(process.returncode, 0, shown)
        for text in expected:
            self.assertRegex(shown, text)

    def test_an_unplugged_node_ends_everyone_and_is_named(self):
        self.interrupted(f"{VCLUSTER} link 2 down",
                         r"node node-2 \(rank 1\) was lost")


class Slurm(ManyNodes):
    """srun in ssh's and mpirun's place."""

    def test_slurm_computes_the_same(self):
        self.equal(2, LAB, "-N", "2", "srun", "-N2", "--ntasks-per-node=1",
                   "--kill-on-bad-exit=1")
        self.equal(4, LAB, "-N", "2", "srun", "-N2", "--ntasks-per-node=2",
                   "--kill-on-bad-exit=1")
        self.equal_mpi(2, LAB, "-N", "2", "srun", "--mpi=pmix", "-N1", "-n2",
                       "--kill-on-bad-exit=1")
        if os.geteuid() == 0:
            self.equal(3, VCLUSTER, "--mode", "root", "-N", "3", LAB, "srun",
                       "-N3", "--ntasks-per-node=1")
            self.equal_mpi(2, VCLUSTER, "--mode", "root", "-N", "2", LAB,
                           "srun", "--mpi=pmix", "-N2", "--ntasks-per-node=1")

    def test_slurm_without_munge_is_named(self):
        ran = self.run_it(LAB, "sh", "-c",
                          f"{LAB} munge stop; sleep 0.5; srun -N2 true")
        self.assertNotEqual(ran.returncode, 0, ran.shown)
        self.assertRegex(ran.err, "[Mm]unge")


if __name__ == "__main__":
    unittest.main(verbosity=2)  # of a class: many_nodes_e2e_test.py Slurm
