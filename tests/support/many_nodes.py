# SPDX-License-Identifier: Apache-2.0
"""What the tests of many nodes share: runs with a limit, an environment that
no launcher has touched, and the losses that every launcher must compute.

DAI_BIN_DIR names the folder of the binaries, DAI_SCRIPTS that of the scripts.
"""
import functools
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BIN = pathlib.Path(os.environ["DAI_BIN_DIR"])
SCRIPTS = pathlib.Path(os.environ["DAI_SCRIPTS"])
BOOK, VCLUSTER = str(SCRIPTS / "book"), str(SCRIPTS / "vcluster")
NAME = "ch01_first_distributed"
APP, LAUNCH = str(BIN / NAME), str(BIN / "dai_launch")
# All ranks train together from the first step on, and on.
ENDLESS = f"{BIN}/ch01_find_bottleneck --smoke --windows 1000000"
QUICK = ("--smoke", "--steps", "2")
# Long enough to be interrupted, short enough to be done again; and the line
# after which the app trains.
STEPS = ("--smoke", "--steps", "12")
TRAINS = "mean by naive_canonical_sum"
# Shell: `freeze [NETWORK]` stops the app's ranks (of one network namespace),
# so that no machine is quick enough to end before it is interrupted.
FREEZE = """freeze() {
  local p name
  for p in /proc/[0-9]*; do
    read -r name 2>/dev/null <"$p/comm" || continue
    [ "$name" = ch01_first_dist ] || continue
    [ -z "${1:-}" ] || [ "$(readlink "$p/ns/net")" = "$1" ] || continue
    kill -STOP "${p#/proc/}"
  done
}"""
LIMIT_S = 90
FOREIGN = re.compile("RANK|WORLD_SIZE|MASTER_|TORCHELASTIC|OMPI_|PMIX|SLURM|"
                     "VCLUSTER|DAI_SSH|SOCKET_IFNAME")
CANNOT_RUN_HERE = 77


def clean_environment():
    env = {k: v for k, v in os.environ.items() if not FOREIGN.search(k)}
    env.update(OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1",
               OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", DAI_PRESET=BIN.parent.name, DAI_NO_BUILD="1")
    return env


# More ranks than cores, for Open MPI 4 and 5. On several hosts 5 would put all
# of them on the first one.
SHARE_CORES = {"OMPI_MCA_rmaps_base_oversubscribe": "1",
               "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}


@functools.lru_cache
def expected_curves(ranks, steps=QUICK):
    """The losses of gloo under dai_launch on one node."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder, "report.json")
        ran = subprocess.run(
            [LAUNCH, "--standalone", "--nproc-per-node", str(ranks), APP,
             *steps, "--json", str(report)], check=False, timeout=LIMIT_S,
            env=clean_environment(), capture_output=True, text=True)
        if ran.returncode:
            raise AssertionError(ran.stdout + ran.stderr)
        return json.loads(report.read_text())["curves"]


def commands_with(mark):
    """How many processes of this machine have `mark` in their words or in
    their environment."""
    count = 0
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes() + (path.parent / "environ").read_bytes()
            count += mark in words.decode(errors="replace")
        except OSError:
            pass  # gone already
    return count


class ManyNodes(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="many_nodes.",
                                                 dir="/tmp"))
        self.env = clean_environment()

    def tearDown(self):
        shutil.rmtree(self.dir)

    def start(self, *command):
        return subprocess.Popen(
            [str(word) for word in command], env=self.env, text=True,
            cwd=self.dir, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)

    def finish(self, process, limit=LIMIT_S):
        late = False
        try:
            process.out, process.err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            late = True
            process.send_signal(signal.SIGTERM)
            process.out, process.err = process.communicate(timeout=30)
        process.shown = (f"{shlex.join(process.args)}\n"
                         f"exit {process.returncode}\nstdout:\n{process.out}\n"
                         f"stderr:\n{process.err}")
        self.assertFalse(late, f"still ran after {limit} s: {process.shown}")
        return process

    def run_it(self, *command, limit=LIMIT_S):
        return self.finish(self.start(*command), limit)

    def leaves_nothing(self, number, mark_of, *command):
        """`command` prints a line, which is returned; signal `number` then
        ends all processes that have the mark, mark_of(line), about them."""
        process = subprocess.Popen(
            command, env=self.env, cwd=self.dir, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True)
        line = process.stdout.readline().strip()
        mark = mark_of(line)
        self.assertGreater(commands_with(mark), 1)
        if number == signal.SIGINT:  # Ctrl-C means the whole group
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        try:
            process.communicate(timeout=20)
        finally:
            process.kill()
        deadline = time.monotonic() + 10
        while commands_with(mark) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertEqual(commands_with(mark), 0, number)
        return line

    def refuses(self, code, pattern, *command):
        """Ends with `code`, after a line that `pattern` finds, and before
        any training."""
        ran = self.run_it(*command)
        self.assertEqual(ran.returncode, code, ran.shown)
        self.assertRegex(ran.out + ran.err, pattern)
        self.assertNotRegex(ran.out, r"step +1 rank")
        return ran

    def equal(self, ranks, *command, app=(APP,), args=(), nodes=1):
        """`command APP ...` computes the losses of so many ranks, bit for
        bit, on so many nodes."""
        report = self.dir / "report.json"
        report.unlink(missing_ok=True)
        with self.subTest(shlex.join(map(str, (*command, *args)))):
            ran = self.run_it(*command, *app, *QUICK, *args, "--json", report)
            self.assertEqual(ran.returncode, 0, ran.shown)
            found = json.loads(report.read_text())
            self.assertEqual((found["ranks"]["world_size"],
                              found["ranks"]["nodes"]), (ranks, nodes),
                             ran.shown)
            self.assertEqual(found["curves"], expected_curves(ranks))

    def equal_mpi(self, ranks, *command, app=(APP,), nodes=1):
        self.equal(ranks, *command, app=app, args=("--backend", "mpi"),
                   nodes=nodes)


def script(*lines):
    """The words that run shell lines, at their first failure no further."""
    return ("bash", "-c", "set -euo pipefail\n" + "\n".join(lines))


def main(needs=()):
    """Runs the tests of __main__; 77 where it cannot run and set-up cannot
    help: what it needs are pairs (whether it is here, what it is)."""
    for here, what in needs:
        if not here:
            print(f"cannot run here: needs {what}")
            sys.exit(CANNOT_RUN_HERE)
    unittest.main(verbosity=2)
