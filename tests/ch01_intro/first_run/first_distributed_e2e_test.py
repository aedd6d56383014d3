#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ch01_first_distributed from outside: launchers, bad input and faults.

DAI_BIN_DIR names the folder of the binaries, DAI_TORCHRUN a torchrun (or
nothing). Whatever is done to a run, it must end in time, say why in one line,
and leave no process behind.
"""
import contextlib
import fcntl
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import uuid

BIN = pathlib.Path(os.environ["DAI_BIN_DIR"])
APP = str(BIN / "ch01_first_distributed")
LAUNCH = str(BIN / "dai_launch")
# Smaller than the smoke run, which is a test of its own.
QUICK = ("--smoke", "--steps", "3")
LIMIT_S = 60  # of any single run; nothing here should come near it
FOREIGN = re.compile("RANK|WORLD_SIZE|MASTER_|TORCHELASTIC|OMPI_|PMIX|SLURM")


def processes(token):
    """{pid: environment} of the living processes that carry `token`."""
    found = {}
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            text = (folder / "environ").read_bytes().decode(errors="replace")
            pairs = dict(p.split("=", 1) for p in text.split("\0") if "=" in p)
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if pairs.get("DAI_E2E_TOKEN") == token and state != "Z":
                found[int(folder.name)] = pairs
    return found


def cpu_ticks(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return sum(map(int, fields.split()[11:13]))


class FirstDistributed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # The text's tokens are kept on disk: no test below pays for them, and
        # none fails where the disk is made small.
        subprocess.run([APP, "--smoke", "--steps", "1"], check=True,
                       stdout=subprocess.DEVNULL, timeout=LIMIT_S,
                       env={k: v for k, v in os.environ.items()
                            if not FOREIGN.search(k)})

    def setUp(self):
        self.token = uuid.uuid4().hex
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="first_distributed."))
        self.env = {k: v for k, v in os.environ.items()
                    if not FOREIGN.search(k)}
        self.env["DAI_E2E_TOKEN"] = self.token

    def tearDown(self):
        # Orphans first: they are the failure, and must not stay in any case.
        deadline = time.monotonic() + 5
        while processes(self.token) and time.monotonic() < deadline:
            time.sleep(0.05)
        left = processes(self.token)
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.dir)
        self.assertEqual(list(left), [], "processes were left behind")

    def start(self, *command, env=None, **options):
        return subprocess.Popen(
            command, env={**self.env, **(env or {})}, text=True,
            stdin=subprocess.DEVNULL, stdout=options.pop("stdout", -1),
            stderr=subprocess.PIPE, cwd=self.dir, **options)

    def finish(self, process, limit=LIMIT_S):
        try:
            process.out, process.err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            for pid in processes(self.token):
                os.kill(pid, signal.SIGKILL)
            process.out, process.err = process.communicate()
            self.fail(f"still running after {limit} s\n{process.out}"
                      f"\n{process.err}")
        return process

    def run_app(self, *args, ranks=0, size=QUICK, **options):
        """`ranks` processes under dai_launch; 0: the app by itself."""
        command = [APP, *size, *args]
        if ranks:
            command = [LAUNCH, "--standalone", "--nproc-per-node", str(ranks),
                       *command]
        return self.finish(self.start(*command, **options))

    def expect(self, process, code, *texts):
        shown = f"stdout:\n{process.out}\nstderr:\n{process.err}"
        self.assertEqual(process.returncode, code, shown)
        for text in texts:
            self.assertRegex(shown, text)

    def said_by_app(self, process):
        """The app's own lines on stderr, without the launcher's."""
        return [line for line in process.err.splitlines()
                if line.startswith("ch01_first_distributed:")]

    def wait_for(self, condition, what, limit=LIMIT_S):
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            time.sleep(0.01)
        return self.fail(f"waited {limit} s for {what}")

    def pid_of_rank(self, rank):
        def look():
            for pid, env in processes(self.token).items():
                with contextlib.suppress(OSError):
                    exe = os.readlink(f"/proc/{pid}/exe")
                    if env.get("RANK") == str(rank) and exe == APP:
                        return pid
            return None
        return self.wait_for(look, f"rank {rank}")

    # --- launchers ---------------------------------------------------------

    OK = ("check: max.loss of all ranks - of one.* = 0 .*ok",
          "check: bits of the parameters off one rank's = 0 .*ok")

    def test_plain_is_one_rank(self):
        self.expect(self.run_app(), 0, "gloo.* 1 rank,",
                    "one rank has nothing to scale against", *self.OK)

    def test_curve_is_the_same_at_every_number_of_ranks(self):
        curves = []
        for ranks in (1, 2, 3, 4):
            file = self.dir / f"{ranks}.json"
            self.expect(self.run_app("--json", str(file), ranks=ranks), 0,
                        *self.OK)
            report = json.loads(file.read_text())
            self.assertEqual(report["check"], "ok")
            self.assertEqual(report["ranks"]["world_size"], ranks)
            curves.append(report["curves"]["one_rank"])
            curves.append(report["curves"]["all_ranks"])
            for run in report["breakdown_ms"].values():
                parts = sum(v for k, v in run.items() if k != "step")
                self.assertAlmostEqual(parts, run["step"], places=6)
        self.assertTrue(all(curve == curves[0] for curve in curves), curves)

    def test_all_reduce_agrees_up_to_rounding(self):
        self.expect(self.run_app("--reduction", "all_reduce", ranks=2), 0,
                    r"max.loss of all ranks - of one.*tolerance 0\.0\d*\) ok")

    def test_trace_holds_every_rank(self):
        file = self.dir / "trace.json"
        self.expect(self.run_app("--trace", str(file), ranks=2), 0)
        events = json.loads(file.read_text())["traceEvents"]
        for name in ("data", "forward", "backward", "sync", "optimizer"):
            self.assertEqual({e["pid"] for e in events if e["name"] == name},
                             {0, 1}, name)

    @unittest.skipUnless(shutil.which("mpirun"), "mpirun is not installed")
    def test_mpirun(self):
        allow = {"OMPI_ALLOW_RUN_AS_ROOT": "1",
                 "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        self.expect(self.finish(self.start(
            "mpirun", "--oversubscribe", "-n", "2", APP, *QUICK,
            env=allow)), 0, "gloo.* 2 ranks", *self.OK)

    @unittest.skipUnless(os.environ.get("DAI_TORCHRUN"),
                         "torchrun is not installed (scripts/book setup "
                         "--tests)")
    def test_torchrun(self):
        self.expect(self.finish(self.start(
            os.environ["DAI_TORCHRUN"], "--standalone", "--nproc-per-node",
            "2", "--no-python", APP, *QUICK)), 0, "gloo.* 2 ranks",
            *self.OK)

    def two_by_hand(self, *args, rank_args=((), ()), stdout=-1):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        return [self.start(APP, *QUICK, *args, *rank_args[rank], env={
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port)}, stdout=stdout if rank == 0 else -1)
            for rank in (0, 1)]

    def test_environment_set_by_hand(self):
        rank0, rank1 = map(self.finish, self.two_by_hand())
        self.expect(rank0, 0, "gloo.* 2 ranks", *self.OK)
        self.expect(rank1, 0)
        self.assertEqual(rank1.out, "", "only rank 0 prints")

    # --- bad input ---------------------------------------------------------

    def test_wrong_flag(self):
        for ranks in (0, 2):
            ran = self.run_app("--stpes", "3", ranks=ranks, size=("--smoke",))
            self.expect(ran, 2, "--stpes.*did you mean --steps")
            self.assertEqual(len(self.said_by_app(ran)), 1, ran.err)

    def test_microbatches_that_the_ranks_cannot_share(self):
        ran = self.run_app("--microbatches", "12", ranks=5)
        self.expect(ran, 2, "--microbatches 12 .* 5 ranks")
        self.assertEqual(len(self.said_by_app(ran)), 1, ran.err)

    def refused(self, *args, why, ranks=(0, 2)):
        """Every rank ends with 2, one line says why."""
        for count in ranks:
            ran = self.run_app(*args, ranks=count)
            self.expect(ran, 2, why)
            self.assertEqual(len(self.said_by_app(ran)), 1, ran.err)

    def bad_text(self, content, why):
        file = self.dir / "book.txt"
        if content is not None:
            file.write_bytes(content)
        self.refused("--text", str(file), why=why)

    def test_missing_text(self):
        self.bad_text(None, "book.txt.*: No such file or directory")

    def test_text_that_is_no_text(self):
        self.bad_text(b"a book\xff", r"book.txt: not UTF-8.* 0xff at offset 6")

    def test_text_too_short(self):
        self.bad_text(b"To be, or not to be. " * 500,
                      r"the text has \d+ tokens, \d+ are needed")

    def test_unknown_model(self):
        self.refused("--model", "nano", why="no decoder nano.*nano-1m")

    def test_windows_longer_than_the_decoder_reads(self):
        self.refused("--window", "513", "--text-bytes", "3000000",
                     why="windows of 513 tokens: decoder nano-1m has 512")

    def test_ranks_that_read_different_texts(self):
        words = [b"one two three four five six seven eight nine ten. ",
                 b"eins zwei drei vier fuenf sechs sieben acht neun zehn. "]
        texts = [self.dir / f"{rank}.txt" for rank in (0, 1)]
        for text, word in zip(texts, words):
            text.write_bytes(b"".join(b"%d " % n + word for n in range(9000)))
        out = ("--out", str(self.dir))
        for ran in map(self.finish, self.two_by_hand(
                *out, rank_args=[("--text", str(t)) for t in texts])):
            self.expect(ran, 2, "rank 0 has .* tokens of hash .*, rank 1 has "
                        ".*: do all nodes read the same text")

    def full_disk(self, target, **options):
        target.write_text("the report of an earlier run")
        ran = self.run_app("--json", str(target), **options)
        self.expect(ran, 1, f"{target}.*(No space|File too large)")
        self.assertEqual(len(self.said_by_app(ran)), 1, ran.err)
        self.assertEqual(target.read_text(), "the report of an earlier run")
        self.assertEqual(list(target.parent.iterdir()), [target])

    def test_file_size_limit(self):
        # SIGXFSZ stays ignored, as Python has it: the write then fails.
        (self.dir / "out").mkdir()
        self.full_disk(self.dir / "out" / "report.json",
                       restore_signals=False, preexec_fn=lambda:
                       resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512)))

    @unittest.skipUnless(os.geteuid() == 0, "a small tmpfs needs root")
    def test_lost_lines_are_a_failure(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            self.expect(self.run_app(stdout=full), 1,
                        "cannot write to standard output")
        closed = self.start("sh", "-c", 'exec "$@" >&-', "sh", APP, *QUICK,
                            "--json", str(self.dir / "report.json"))
        self.expect(self.finish(closed), 1, "cannot write to standard output")
        # What would have been said is not in the file instead.
        self.assertIn("checks", json.loads(
            (self.dir / "report.json").read_text()))

    def test_disk_full(self):
        disk = self.dir / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs",
                           disk], stderr=-1, check=False).returncode:
            self.skipTest("not allowed to mount here")
        try:
            self.full_disk(disk / "report.json")
        finally:
            subprocess.run(["umount", disk], check=True)

    # --- faults ------------------------------------------------------------

    LONG = ("--smoke", "--steps", "100000")

    def start_long(self, *args):
        return self.start(LAUNCH, "--standalone", "--nproc-per-node", "2",
                          APP, *self.LONG, *args)

    def read_until(self, process, text):
        for line in process.stdout:
            if text in line:
                return
        self.fail(f"never printed {text!r}: {process.stderr.read()}")

    def expect_death_of_rank1(self, process, sent_at):
        self.finish(process)
        self.assertLess(time.monotonic() - sent_at, 10)
        self.expect(process, 1, "rank 1 .*(SIGKILL|signal 9)")

    def test_rank_killed_at_start(self):
        process = self.start_long()
        os.kill(self.pid_of_rank(1), signal.SIGKILL)
        self.expect_death_of_rank1(process, time.monotonic())

    def test_rank_killed_while_rank0_is_alone(self):
        process = self.start_long()
        self.read_until(process, "mean by naive_canonical_sum")
        time.sleep(0.5)
        os.kill(self.pid_of_rank(1), signal.SIGKILL)
        self.expect_death_of_rank1(process, time.monotonic())

    def test_rank_killed_in_a_collective(self):
        # Few steps alone, then as many together.
        process = self.start(
            LAUNCH, "--standalone", "--nproc-per-node", "2", APP, "--smoke",
            "--steps", "30")
        self.read_until(process, "mean by naive_canonical_sum")
        rank1 = self.pid_of_rank(1)
        idle = cpu_ticks(rank1)
        # While rank 0 is alone, rank 1 sleeps; then it starts to work.
        self.wait_for(lambda: cpu_ticks(rank1) > idle + 20, "rank 1 to train")
        os.kill(rank1, signal.SIGKILL)
        self.expect_death_of_rank1(process, time.monotonic())

    def test_rank_killed_at_exit(self):
        # A full pipe holds rank 0 at its last lines while rank 1 waits for
        # the common farewell; there it is killed.
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        rank0, rank1 = self.two_by_hand(stdout=writer)
        seen = b""
        while b"mean by naive_canonical_sum" not in seen:
            seen += os.read(reader, 4096)
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(writer, b"#"):
                pass
        os.set_blocking(writer, True)  # one open file, shared with rank 0
        os.close(writer)

        def quiet():
            before = [cpu_ticks(p.pid) for p in (rank0, rank1)]
            time.sleep(0.7)
            return before == [cpu_ticks(p.pid) for p in (rank0, rank1)]
        self.wait_for(quiet, "both ranks to be done")
        self.assertIsNone(rank1.poll(), "rank 1 left before rank 0")
        rank1.kill()
        with os.fdopen(reader, "rb") as rest:
            rest.read()
        self.finish(rank0)
        self.finish(rank1)
        self.expect(rank0, 1, "barrier .* on rank 0: peer closed")
        self.assertEqual(len(self.said_by_app(rank0)), 1, rank0.err)

    def test_rank_stopped_past_the_timeout(self):
        process = self.start_long("--timeout-s", "3")
        self.read_until(process, "mean by naive_canonical_sum")
        os.kill(self.pid_of_rank(1), signal.SIGSTOP)
        stopped_at = time.monotonic()
        self.finish(process)
        self.assertLess(time.monotonic() - stopped_at, 3 + 10)
        self.expect(process, 1, "rank 0.* timed out after 3 s",
                    "stopped by a signal at that time: rank 1")

    def test_rank0_alone_may_take_longer_than_the_timeout(self):
        start = time.monotonic()
        ran = self.run_app("--timeout-s", "3", ranks=2,
                           size=("--smoke", "--steps", "20"))
        self.assertGreater(time.monotonic() - start, 3)
        self.expect(ran, 0, *self.OK)


if __name__ == "__main__":
    unittest.main(verbosity=2)
