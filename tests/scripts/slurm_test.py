#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Slurm's own daemons (scripts/slurm_lab): srun and sbatch compute the losses
of every other launcher, on one machine and on the nodes of a cluster; a job
that is preempted or loses a node is told, requeued and ends as if nothing had
been; what is missing is named before anything is trained."""
import json
import os
import pathlib
import shutil
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
# pylint: disable=wrong-import-position
from support.many_nodes import (  # noqa: E402
    APP, BOOK, FREEZE, NAME, QUICK, SCRIPTS, STEPS, TRAINS, VCLUSTER,
    ManyNodes, expected_curves, main, script)

LAB = str(SCRIPTS / "slurm_lab")
BATCH = SCRIPTS / "launch_slurm.sbatch"
DDP_BATCH = SCRIPTS.parent / "ch03_ddp/launch/slurm_node8x2.sbatch"
DAEMONS = ("munged", "slurmctld", "slurmd", "srun")
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


class SameLosses(ManyNodes):
    def test_srun_on_one_machine(self):
        self.equal(2, LAB, "-N", "2", "srun", "-N2", "--ntasks-per-node=1",
                   "--kill-on-bad-exit=1", nodes=2)
        self.equal(3, LAB, "-N", "1", "srun", "-n3", "--kill-on-bad-exit=1")
        self.equal_mpi(2, LAB, "-N", "1", "srun", "--mpi=pmix", "-n2",
                       "--kill-on-bad-exit=1")

    def test_the_book_on_clusters(self):
        # As a plain user Slurm cannot run in a cluster, and says why.
        if os.geteuid():
            self.refuses(77, "drop their groups", VCLUSTER, "-N", "2", LAB,
                         "true")
            return
        for nodes in (2, 3):
            lab = (VCLUSTER, "--mode", "root", "-N", nodes, LAB, BOOK, "run",
                   "-n", 1, "--nodes", nodes, "--launcher", "srun")
            self.equal(nodes, *lab, app=(NAME, "--"), nodes=nodes)
            self.equal_mpi(nodes, *lab, "--no-preflight", app=(NAME, "--"),
                           nodes=nodes)


class Jobs(ManyNodes):
    """`lab` runs shell lines beside two idle nodes; there `submit ARGS...`
    queues our batch script, `says TEXT` waits until the job's log has it, and
    `over` until the queue is empty."""

    def lab(self, *lines):
        log = self.dir / "job.log"
        log.touch()
        return self.run_it(LAB, "-N", "2", *script(
            f"cd {SCRIPTS.parent}", FREEZE,
            f"submit() {{ sbatch --parsable -o {log} -N 2 "
            f"--ntasks-per-node 1 \"$@\"; }}",
            "wait_for() {  # at most 60 s",
            "  for try in $(seq 300); do \"$@\" && return; sleep 0.2; done",
            f"  echo \"never: $*\"; squeue; sinfo; cat {log}; exit 9", "}",
            f"has() {{ grep -q -- \"$1\" {log}; }}",
            "says() { wait_for has \"$1\"; }",
            "empty() { [ -z \"$(squeue -h)\" ]; }",
            "over() { wait_for empty; }",
            *lines, f"cat {log}"), limit=150)

    def test_one_task_a_rank_and_one_task_a_node(self):
        report = self.dir / "report.json"
        words = f"{BATCH} {NAME} {' '.join(QUICK)} --json {report}"
        for before, launcher in (("", "srun"), ("PER_NODE=1 ", "torchrun")):
            with self.subTest(before):
                ran = self.lab(f"{before}submit {words}", "over")
                self.assertEqual(ran.returncode, 0, ran.shown)
                self.assertIn("+ srun", ran.out)
                found = json.loads(report.read_text())
                self.assertEqual(found["ranks"]["nodes"], 2, ran.shown)
                self.assertEqual(found["ranks"]["launcher"], launcher)
                self.assertEqual(found["curves"], expected_curves(2))
                report.unlink()

    def test_chapter_3s_job(self):
        report = self.dir / "report.json"
        words = (f"{DDP_BATCH} --steps 2 --exchange canonical "
                 f"--json {report}")
        ran = self.lab(f"PRESET=smoke submit {words}", "over")
        self.assertEqual(ran.returncode, 0, ran.shown)
        found = json.loads(report.read_text())
        self.assertEqual(found["ranks"]["nodes"], 2, ran.shown)
        self.assertEqual(found["app"], "ch03_ddp_train")
        self.assertEqual(found["check"], "ok")

    def requeued(self, *lines):
        """The job of STEPS, `lines` once it trains; it must start a second
        time and end with everybody's losses."""
        report = self.dir / "report.json"
        ran = self.lab(
            f"submit {BATCH} {NAME} {' '.join(STEPS)} --json {report}",
            f"says '{TRAINS}'", "freeze", *lines, "says 'start 1:'", "over")
        self.assertEqual(ran.returncode, 0, ran.shown)
        self.assertIn(", start 0:", ran.out)
        found = json.loads(report.read_text())
        self.assertEqual(found["ranks"]["world_size"], 2)
        self.assertEqual(found["curves"], expected_curves(2, STEPS))
        return ran

    def test_a_preempted_job_is_told_and_runs_again(self):
        ran = self.requeued("sbatch -p urgent -N 2 -o /dev/null --wrap true")
        self.assertRegex(ran.out, "preempted, goes back into the queue")

    def test_a_preempted_training_goes_on_where_it_was(self):
        report, run = self.dir / "report.json", self.dir / "run"
        words = (f"{DDP_BATCH} --steps 240 --window 16 --microbatch-size 1 "
                 f"--checkpoint-dir {run} --save-every 20 --json {report}")
        ran = self.lab(
            f"PRESET=smoke submit {words}",
            f"saved() {{ [ -d {run}/step-000020 ]; }}", "wait_for saved",
            "sbatch -p urgent -N 2 -o /dev/null --wrap true",
            "says 'start 1:'", "over")
        self.assertEqual(ran.returncode, 0, ran.shown)
        self.assertIn("stopped by SIGTERM, with a checkpoint", ran.out)
        self.assertRegex(ran.out, "went on from step [1-9]", ran.shown)
        found = json.loads(report.read_text())
        self.assertEqual(found["check"], "ok", ran.shown)
        self.assertEqual(len(found["curves"]["text"]), 240)
        self.assertGreater(found["metrics"]["resumed_at_steps"], 19)

    def test_a_job_that_loses_a_node_runs_again_when_there_are_two(self):
        self.requeued(
            f"{LAB} node n2 kill",
            "down() { sinfo -h -N -p main -o '%N %T' | grep -q '^n2 down'; }",
            "wait_for down", f"{LAB} node n2 start")


class Teardown(ManyNodes):
    def test_nothing_stays(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            # Daemons and tasks have the lab's folder in SLURM_CONF.
            self.leaves_nothing(number, lambda line: line, LAB, "-N", "2",
                                "sh", "-c", "srun -N2 sleep 1000 & "
                                "sleep 0.5; echo $SLURM_LAB; wait")


class Missing(ManyNodes):
    def test_munge_that_is_down_is_named(self):
        self.refuses(1, "[Mm]unge", LAB, *script(
            f"{LAB} munge stop; sleep 0.5; cd {self.dir}",
            f"srun -N2 {APP} {' '.join(QUICK)}"))

    def test_no_srun_is_named(self):
        self.env["PATH"] = str(self.dir)
        for tool in ("bash", "env", "dirname", "python3", "sed", "nproc",
                     "readlink", "sort", "head", "tail", "cut", "grep", "cat",
                     "mkdir", "uname"):
            (self.dir / tool).symlink_to(shutil.which(tool))
        self.refuses(77, "srun is not installed", BOOK, "run", NAME,
                     "--nodes", "2", "--launcher", "srun")

    def test_wrong_usage_of_the_lab_is_one_line(self):
        for words, expected in ((("-N", "0", "true"), "1 to 64 nodes"),
                                (("-N", "2"), "a command is missing"),
                                (("node", "n1", "kill"), "inside"),
                                (("-N", "2", "no-such-command"),
                                 "no such command")):
            ran = self.refuses(2, expected, LAB, *words)
            self.assertEqual(len(ran.err.splitlines()), 1, ran.shown)


if __name__ == "__main__":
    main([(all(shutil.which(name, path=PATH) for name in DAEMONS) or
           shutil.which("apt-get"), "slurm-wlm and munge")])
