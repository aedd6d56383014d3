# SPDX-License-Identifier: Apache-2.0
"""Whole launchers with small shell and Python programs as their ranks.

    python3 launch_e2e_test.py PATH/TO/dai_launch [TestCase.test ...]

Each test ends by checking that none of its processes is left: the ranks carry
a mark of their test in their environment, and /proc shows who still has it.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

LAUNCH = os.path.abspath(
    sys.argv.pop(1) if len(sys.argv) > 1 else os.environ["DAI_LAUNCH"])
PYTHON = sys.executable
LIMIT_S = 60  # for anything that ends by itself


def alive(pid):
    """Running, that is neither gone nor a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pids_with(mark):
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{name}/environ", "rb") as f:
                if mark.encode() in f.read() and alive(name):
                    found.append(int(name))
    return found


def eventually(condition, limit_s=LIMIT_S):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class LaunchTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = folder.name
        self.mark = f"DAI_E2E_MARK={uuid.uuid4()}"
        self.started = []

    def tearDown(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=10)
        gone = eventually(lambda: not pids_with(self.mark), 10)
        for pid in pids_with(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.assertTrue(gone, "a process of this test was left behind")
        left = [n for n in os.listdir(self.dir) if n.startswith("dai_launch.")]
        self.assertEqual(left, [], "a scratch folder was left behind")

    def start(self, *arguments, env=None, **options):
        environment = dict(os.environ, TMPDIR=self.dir)
        environment.pop("OMP_NUM_THREADS", None)
        name, _, value = self.mark.partition("=")
        environment[name] = value
        environment.update(env or {})
        process = subprocess.Popen(
            [LAUNCH, *map(str, arguments)], env=environment, cwd=self.dir,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
               "stdin": subprocess.DEVNULL, "text": True, "errors": "replace",
               **options})
        self.started.append(process)
        return process

    def end(self, process, limit_s=LIMIT_S):
        out, err = process.communicate(timeout=limit_s)
        return process.returncode, out, err

    def run_sh(self, ranks, script, *flags, env=None):
        return self.end(self.start("--standalone", "--nproc-per-node", ranks,
                                   *flags, "sh", "-c", script, env=env))

    def wait_for_file(self, name, lines=1):
        path = os.path.join(self.dir, name)

        def there():
            with contextlib.suppress(FileNotFoundError):
                with open(path, encoding="utf-8") as f:
                    return f.read().count("\n") >= lines
            return False

        self.assertTrue(eventually(there), f"{name} did not appear")
        with open(path, encoding="utf-8") as f:
            return f.read().split()


NAMES = ("RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK "
         "GROUP_WORLD_SIZE ROLE_RANK ROLE_WORLD_SIZE ROLE_NAME "
         "TORCHELASTIC_RESTART_COUNT TORCHELASTIC_MAX_RESTARTS "
         "TORCHELASTIC_RUN_ID TORCHELASTIC_USE_AGENT_STORE MASTER_ADDR "
         "MASTER_PORT").split()
PRINT_ENV = "echo " + " ".join(f"{n}=${n}" for n in NAMES)


def parse_env(out):
    """{rank: {name: value}} from the lines of PRINT_ENV."""
    rows = [dict(word.split("=", 1) for word in line.split())
            for line in out.splitlines()]
    return {int(row["RANK"]): row for row in rows}


class Environment(LaunchTest):
    def test_one_node(self):
        for ranks in (1, 2, 3):
            code, out, err = self.run_sh(ranks, PRINT_ENV, "--max-restarts", 2)
            self.assertEqual(code, 0, err)
            rows = parse_env(out)
            self.assertEqual(sorted(rows), list(range(ranks)))
            for rank, row in rows.items():
                port = row.pop("MASTER_PORT")
                self.assertGreater(int(port), 0)
                r, n = str(rank), str(ranks)
                self.assertEqual(row, {
                    "RANK": r, "LOCAL_RANK": r, "ROLE_RANK": r,
                    "WORLD_SIZE": n, "LOCAL_WORLD_SIZE": n,
                    "ROLE_WORLD_SIZE": n, "GROUP_RANK": "0",
                    "GROUP_WORLD_SIZE": "1", "ROLE_NAME": "default",
                    "TORCHELASTIC_RESTART_COUNT": "0",
                    "TORCHELASTIC_MAX_RESTARTS": "2",
                    "TORCHELASTIC_RUN_ID": "none",
                    "TORCHELASTIC_USE_AGENT_STORE": "False",
                    "MASTER_ADDR": "127.0.0.1"})
            self.assertEqual(err.count("OMP_NUM_THREADS"), 1)

    def two_nodes(self, first, second):
        a = self.start(*first, "sh", "-c", PRINT_ENV)
        b = self.start(*second, "sh", "-c", PRINT_ENV)
        outs = ""
        for process in (a, b):
            code, out, err = self.end(process)
            self.assertEqual(code, 0, err)
            outs += out
        rows = parse_env(outs)
        self.assertEqual(sorted(rows), [0, 1, 2])
        self.assertEqual({row["WORLD_SIZE"] for row in rows.values()}, {"3"})
        self.assertEqual(len({(row["MASTER_ADDR"], row["MASTER_PORT"])
                              for row in rows.values()}), 1)
        return rows

    def test_two_nodes_with_unequal_counts(self):
        common = ["--nnodes=2", f"--rdzv-endpoint=127.0.0.1:{free_port()}"]
        rows = self.two_nodes(
            [*common, "--node-rank=1", "--nproc-per-node=2"],
            [*common, "--node-rank=0", "--nproc-per-node=1"])
        self.assertEqual([rows[r]["GROUP_RANK"] for r in range(3)],
                         ["0", "1", "1"])
        self.assertEqual([rows[r]["LOCAL_RANK"] for r in range(3)],
                         ["0", "0", "1"])

    def test_static_form(self):
        common = ["--nnodes=2", "--master-addr=127.0.0.1",
                  f"--master-port={free_port()}"]
        self.two_nodes([*common, "--node-rank=0", "--nproc-per-node=1"],
                       [*common, "--node-rank=1", "--nproc-per-node=2"])

    def test_omp_num_threads(self):
        _, out, err = self.run_sh(1, "echo $OMP_NUM_THREADS")
        self.assertEqual(int(out), len(os.sched_getaffinity(0)))
        _, out, err = self.run_sh(2, "echo $OMP_NUM_THREADS",
                                  env={"OMP_NUM_THREADS": "7"})
        self.assertEqual(out.split(), ["7", "7"])
        self.assertNotIn("OMP", err)

    def test_rank0_inherits_a_listening_socket(self):
        program = ("import os, socket\n"
                   "fd = os.environ.get('DAI_MASTER_LISTEN_FD')\n"
                   "if os.environ['RANK'] == '0':\n"
                   "    s = socket.socket(fileno=int(fd))\n"
                   "    assert s.getsockopt(socket.SOL_SOCKET,\n"
                   "                        socket.SO_ACCEPTCONN) == 1\n"
                   "    assert s.getsockname()[1] == "
                   "int(os.environ['MASTER_PORT'])\n"
                   "    s.settimeout(30)\n"
                   "    s.accept()[0].sendall(b'hello')\n"
                   "else:\n"
                   "    assert fd is None\n"
                   "    s = socket.create_connection((\n"
                   "        os.environ['MASTER_ADDR'],\n"
                   "        int(os.environ['MASTER_PORT'])), 30)\n"
                   "    assert s.recv(5) == b'hello'\n")
        # The values of a launcher around us must not reach the ranks.
        code, _, err = self.end(self.start(
            "--standalone", "--nproc-per-node=2", PYTHON, "-c", program,
            env={"DAI_MASTER_LISTEN_FD": "0", "RANK": "9"}))
        self.assertEqual(code, 0, err)


class Output(LaunchTest):
    # Of an address sanitizer's build: do not keep what was freed.
    PLAIN_MEMORY = {"ASAN_OPTIONS": "quarantine_size_mb=1"}

    def test_lines_of_chatty_ranks_stay_whole(self):
        program = ("import os, sys\n"
                   "r = os.environ['RANK']\n"
                   "for i in range(3000):\n"
                   "    os.write(1, (r * (i % 300)).encode())\n"
                   "    os.write(1, b'.\\n')\n"
                   "os.write(1, b'no newline ' + r.encode())\n")
        code, out, err = self.end(self.start(
            "--standalone", "--nproc-per-node=4", PYTHON, "-c", program))
        self.assertEqual(code, 0, err)
        lines = out.splitlines()
        for rank in "0123":
            mine = [l for l in lines if l.strip(rank) == "."]
            self.assertGreaterEqual(len(mine), 2990)
            self.assertIn(f"no newline {rank}", lines)
        self.assertEqual(len(lines), 4 * 3001)
        for line in lines:
            if not line.startswith("no newline"):
                self.assertEqual(line[-1], ".")
                self.assertLessEqual(len(set(line[:-1])), 1, line)

    def test_both_streams_into_one_pipe(self):
        script = ("i=0; while [ $i -lt 400 ]; do echo out$RANK;"
                  " echo err$RANK >&2; i=$((i+1)); done")
        code, out, _ = self.end(self.start(
            "--standalone", "--nproc-per-node=3", "sh", "-c", script,
            stderr=subprocess.STDOUT))
        self.assertEqual(code, 0)
        for rank in range(3):
            self.assertEqual(out.splitlines().count(f"out{rank}"), 400)
            self.assertEqual(out.splitlines().count(f"err{rank}"), 400)

    def test_a_line_without_end_does_not_fill_memory(self):
        process = self.start("--standalone", "--nproc-per-node=1", "sh", "-c",
                             "head -c 300000000 /dev/zero", text=False,
                             errors=None, env=self.PLAIN_MEMORY)
        total, peak = 0, 0
        while piece := process.stdout.read(1 << 20):
            total += len(piece)
            with contextlib.suppress(OSError):
                with open(f"/proc/{process.pid}/statm", encoding="utf-8") as f:
                    peak = max(peak, int(f.read().split()[1]) * 4096)
        self.assertEqual(process.wait(LIMIT_S), 0)
        self.assertGreaterEqual(total, 300_000_000)
        self.assertLess(peak, 150_000_000)

    def test_a_slow_reader_brakes_the_rank(self):
        process = self.start("--standalone", "--nproc-per-node=1", "sh", "-c",
                             "yes | head -c 50000000; echo done >&2",
                             env=self.PLAIN_MEMORY)
        time.sleep(1)  # nobody reads: pipes and the queue fill up
        with open(f"/proc/{process.pid}/statm", encoding="utf-8") as f:
            resident = int(f.read().split()[1]) * 4096
        self.assertLess(resident, 150_000_000)
        self.assertIsNone(process.poll())
        code, out, err = self.end(process)
        self.assertEqual(code, 0)
        self.assertEqual(len(out), 50_000_000)
        self.assertIn("done", err)

    def test_closed_stdout_ends_everything(self):
        process = self.start("--standalone", "--nproc-per-node=2", "sh", "-c",
                             "while :; do echo x; sleep 0.05; done")
        process.stdout.readline()
        process.stdout.close()
        self.assertEqual(process.wait(LIMIT_S), 128 + signal.SIGPIPE)

    def test_full_disk_behind_stdout(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            code, _, err = self.end(self.start(
                "--standalone", "--nproc-per-node=2", "sh", "-c",
                "echo x; sleep 100", stdout=full))
        self.assertEqual(code, 1)
        self.assertIn("No space left", err)

    def test_signals_are_heard_while_stdout_is_blocked(self):
        process = self.start("--standalone", "--nproc-per-node=2", "yes")
        time.sleep(1)
        begin = time.monotonic()
        process.terminate()
        self.assertEqual(process.wait(LIMIT_S), 128 + signal.SIGTERM)
        self.assertLess(time.monotonic() - begin, 10)

    def test_tee_and_redirects(self):
        code, out, err = self.run_sh(
            2, "echo out $RANK; echo err $RANK >&2", "--tee=1",
            "--redirects=2", f"--log-dir={self.dir}/logs")
        self.assertEqual(code, 0, err)
        self.assertEqual(sorted(out.splitlines()),
                         ["[rank 0]:out 0", "[rank 1]:out 1"])
        self.assertNotIn("err", err)
        for rank in "01":
            for stream in ("out", "err"):
                path = f"{self.dir}/logs/attempt_0/{rank}/std{stream}.log"
                with open(path, encoding="utf-8") as f:
                    self.assertEqual(f.read(), f"{stream} {rank}\n")

    def test_unwritable_log_dir(self):
        code, _, err = self.run_sh(1, "echo x", "--tee=3",
                                   "--log-dir=/dev/null/x")
        self.assertEqual(code, 2)
        self.assertIn("--log-dir", err)


# A rank that leaves its state as common/rank_status.h does, then acts.
STATUS = """
import os, struct, time, signal
rank = os.environ['RANK']
text = f'all_reduce #{17 + int(rank)} (float32, 16384 elements)'.encode()
with open(os.environ['DAI_STATUS_DIR'] + f'/rank_{rank}.status', 'wb') as f:
    f.write(struct.pack('<QQqII240s', 0x31535453494144, 2,
                        time.monotonic_ns() - 3_000_000_000, 1, len(text),
                        text))
"""


class Failures(LaunchTest):
    def test_line_names_rank_host_code_collective_and_tail(self):
        program = STATUS + (
            "import sys\n"
            "if rank == '1':\n"
            "    time.sleep(0.5)\n"
            "    for i in range(50): print('last words', i, file=sys.stderr)\n"
            "    sys.exit(9)\n"
            "time.sleep(100)\n")
        code, _, err = self.end(self.start(
            "--standalone", "--nproc-per-node=3", PYTHON, "-c", program))
        self.assertEqual(code, 1)
        self.assertRegex(
            err, rf"dai_launch: rank 1 \(host {socket.gethostname()}, pid \d+\)"
            r" exited with code 9 after \d+\.\d s in all_reduce #18 "
            r"\(float32, 16384 elements\) for 3\.\d s\n")
        for rank in (0, 2):
            self.assertRegex(err, rf"rank {rank} \(running\) in all_reduce "
                             rf"#{17 + rank} .* for 3\.\d s\n")
        tail = [l for l in err.splitlines() if l.startswith("  | ")]
        self.assertEqual(tail, [f"  | last words {i}" for i in range(30, 50)])

    def test_killed_rank(self):
        code, _, err = self.run_sh(
            3, "[ $RANK = 2 ] && kill -9 $$; sleep 100")
        self.assertEqual(code, 1)
        self.assertRegex(err, r"rank 2 \(.*\) was killed by signal 9 "
                         r"\(SIGKILL\)")

    def assert_ends_in_time(self, script):
        process = self.start("--standalone", "--nproc-per-node=3", "sh", "-c",
                             script)
        self.wait_for_file("ready", lines=2)
        begin = time.monotonic()
        open(os.path.join(self.dir, "go"), "w").close()
        code, _, err = self.end(process)
        # Promised are 5 s; the rest is for a machine under load.
        self.assertLess(time.monotonic() - begin, 10)
        self.assertEqual(code, 1)
        return err

    FAIL_ON_GO = ("if [ $RANK = 0 ]; then "
                  "while [ ! -e go ]; do sleep 0.05; done; exit 3; fi; ")

    def test_rank_that_ignores_sigterm(self):
        self.assert_ends_in_time(
            self.FAIL_ON_GO + "trap '' TERM; echo x >> ready; "
            "while :; do sleep 1; done")

    def test_stopped_rank(self):
        err = self.assert_ends_in_time(
            self.FAIL_ON_GO + "trap '' TERM; echo x >> ready; "
            "[ $RANK = 1 ] && kill -STOP $$; sleep 100")
        self.assertRegex(err, r"rank 1 \(stopped by a signal\)")

    def test_a_rank_may_succeed_before_the_others(self):
        code, out, err = self.run_sh(
            2, "[ $RANK = 0 ] && exit 0; sleep 1; echo late")
        self.assertEqual((code, out), (0, "late\n"), err)

    def test_children_that_ranks_leave_behind_end_with_the_job(self):
        code, _, err = self.run_sh(2, "sleep 1000 & exit 0")
        self.assertEqual(code, 0, err)  # tearDown looks for the sleepers

    def test_exit_codes(self):
        for script, expected in (
                ("exit 2", 2), ("exit 77", 77), ("exit 42", 1),
                ("[ $RANK = 1 ] && exit 77; exit 0", 77),
                ("[ $RANK = 1 ] && exit 2; exit 77", 2),
                ("[ $RANK = 1 ] && exit 77; sleep 100", 77)):
            with self.subTest(script=script):
                code, _, err = self.run_sh(2, script, "--max-restarts=3")
                self.assertEqual(code, expected, err)
                if expected != 1:
                    self.assertNotIn("on stderr", err)
                    self.assertNotIn("attempt", err)

    def test_a_refusal_of_all_ranks_is_read_once(self):
        code, _, err = self.run_sh(
            4, "echo \"app: unknown flag --stpes\" >&2; exit 2",
            env={"OMP_NUM_THREADS": "1"})
        self.assertEqual(code, 2)
        lines = err.splitlines()
        self.assertEqual(len(lines), 2, err)
        self.assertEqual(lines[0], "app: unknown flag --stpes")
        self.assertRegex(lines[1],
                         r"dai_launch: rank \d exited with 2 \(wrong usage\)")

    def test_a_refusal_is_laid_at_the_rank_that_explained_it(self):
        code, _, err = self.run_sh(
            3, "[ $RANK = 1 ] && { sleep 0.2; echo \"app: no data\" >&2; }; "
            "exit 2", env={"OMP_NUM_THREADS": "1"})
        self.assertEqual(code, 2)
        self.assertEqual(err.splitlines(), [
            "app: no data", "dai_launch: rank 1 exited with 2 (wrong usage)"])

    def test_equal_lines_of_ranks_that_go_on_are_all_shown(self):
        _, _, err = self.run_sh(3, "echo same >&2; sleep 0.5")
        self.assertEqual(err.splitlines().count("same"), 3)
        _, _, err = self.run_sh(3, "echo same >&2; exit 1")
        self.assertGreaterEqual(err.splitlines().count("same"), 1)

    def test_restarts(self):
        script = ("echo $TORCHELASTIC_RESTART_COUNT $MASTER_PORT; "
                  "[ $TORCHELASTIC_RESTART_COUNT = 2 ] || exit 1")
        code, out, err = self.run_sh(1, script, "--max-restarts=2")
        self.assertEqual(code, 0, err)
        self.assertEqual([l.split()[0] for l in out.splitlines()],
                         ["0", "1", "2"])
        code, _, err = self.run_sh(2, script, "--max-restarts=1")
        self.assertEqual(code, 1)
        self.assertIn("--max-restarts 1 is used up", err)


class Signals(LaunchTest):
    TREE = "sh -c 'echo $$ >> pids; exec sleep 1000' & echo $$ >> pids; wait"

    def start_tree(self):
        """Two ranks with a child each; returns launcher and the four pids."""
        process = self.start("--standalone", "--nproc-per-node=2", "sh", "-c",
                             self.TREE)
        pids = [int(p) for p in self.wait_for_file("pids", lines=4)]
        return process, pids

    def test_sigkill_of_the_launcher_leaves_nothing(self):
        process, pids = self.start_tree()
        process.kill()
        process.wait(LIMIT_S)
        self.assertTrue(eventually(lambda: not any(map(alive, pids)), 5))
        # The guardian takes the scratch folder along; tearDown checks it.
        self.assertTrue(eventually(lambda: not any(
            n.startswith("dai_launch.") for n in os.listdir(self.dir)), 5))

    def test_signals_end_everything_in_time(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signal=number.name):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(os.path.join(self.dir, "pids"))
                process, pids = self.start_tree()
                begin = time.monotonic()
                process.send_signal(number)
                code, _, err = self.end(process)
                self.assertEqual(code, 128 + number)
                self.assertLess(time.monotonic() - begin, 10)
                self.assertIn(number.name, err)
                self.assertFalse(any(map(alive, pids)))

    def test_the_signal_itself_is_passed_on(self):
        process = self.start(
            "--standalone", "--nproc-per-node=1", "sh", "-c",
            "trap 'echo got it; exit 0' INT; echo x > ready; "
            "while :; do sleep 0.1; done")
        self.wait_for_file("ready")
        process.send_signal(signal.SIGINT)
        code, out, _ = self.end(process)
        self.assertEqual((code, out), (130, "got it\n"))

    def test_second_signal_kills_at_once(self):
        process = self.start("--standalone", "--nproc-per-node=1", "sh", "-c",
                             "trap '' INT TERM; echo x > ready; "
                             "while :; do sleep 0.1; done")
        self.wait_for_file("ready")
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        self.assertEqual(self.end(process)[0], 130)


class Usage(LaunchTest):
    def refused(self, *arguments):
        code, out, err = self.end(self.start(*arguments))
        self.assertEqual(len(err.splitlines()), 1, err)
        self.assertEqual(out, "")
        return code, err

    def test_one_line_and_exit_2(self):
        text = os.path.join(self.dir, "script.py")
        with open(text, "w", encoding="utf-8") as f:
            f.write("print()\n")
        bad = os.path.join(self.dir, "no_interpreter")
        with open(bad, "w", encoding="utf-8") as f:
            f.write("#!/no/such/interpreter\n")
        os.chmod(bad, 0o755)
        for arguments, expected in (
                (["--nproc-per-node=0", "true"], "--nproc-per-node"),
                (["--nproc_per_nod=1", "true"], "did you mean"),
                (["--standalone"], "no program"),
                (["no-such-program"], "not found"),
                ([text], "not executable")):
            code, err = self.refused(*arguments)
            self.assertEqual(code, 2, err)
            self.assertIn(expected, err)
        code, _, err = self.end(self.start(bad))
        self.assertEqual(code, 2)
        self.assertIn("cannot start", err)

    def test_master_port_in_use(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            code, err = self.refused("--master-addr=127.0.0.1",
                                     f"--master-port={port}", "true")
        self.assertEqual(code, 2)
        self.assertIn(f"--master-port {port}", err)
        self.assertIn("in use", err)

    def test_master_port_is_honoured_and_reused_by_restarts(self):
        port = free_port()
        code, out, err = self.run_sh(
            2, "echo $MASTER_PORT; [ $TORCHELASTIC_RESTART_COUNT = 1 ]",
            f"--master-port={port}", "--max-restarts=1")
        self.assertEqual(code, 0, err)
        self.assertLessEqual(set(out.split()), {str(port)})

    def test_unresolvable_master(self):
        code, err = self.refused("--master-addr=no-such-host.invalid", "true")
        self.assertEqual(code, 1)
        self.assertIn("no-such-host.invalid", err)
        code, err = self.refused(
            "--nnodes=2", "--node-rank=1", "--join-timeout-s=1",
            "--master-addr=no-such-host.invalid", "--master-port=1", "true")
        self.assertEqual(code, 1)
        self.assertIn("no-such-host.invalid", err)

    def test_unreachable_endpoint(self):
        code, err = self.refused(
            "--nnodes=2", "--node-rank=1", "--join-timeout-s=1",
            f"--rdzv-endpoint=127.0.0.1:{free_port()}", "true")
        self.assertEqual(code, 1)
        self.assertIn("cannot reach the rendezvous", err)

    def test_help(self):
        code, out, _ = self.end(self.start("--help"))
        self.assertEqual(code, 0)
        self.assertIn("dai_launch --standalone --nproc-per-node 2", out)


class SeveralNodes(LaunchTest):
    def setUp(self):
        super().setUp()
        self.endpoint = f"--rdzv-endpoint=127.0.0.1:{free_port()}"

    def agent(self, *flags, script="sleep 100", ranks=2):
        return self.start(self.endpoint, f"--nproc-per-node={ranks}", *flags,
                          "sh", "-c", script)

    def test_failure_on_one_node_ends_both_and_is_told_on_both(self):
        script = "[ $RANK = 3 ] && { sleep 0.3; exit 5; }; sleep 100"
        a = self.agent("--nnodes=2", "--node-rank=0", script=script)
        b = self.agent("--nnodes=2", "--node-rank=1", script=script)
        for process in (a, b):
            code, _, err = self.end(process)
            self.assertEqual(code, 1)
            self.assertRegex(err, rf"rank 3 \(host {socket.gethostname()}, pid "
                             r"\d+\) exited with code 5")
            for rank in (0, 1, 2):  # of both nodes, on each of them
                self.assertEqual(err.count(f"rank {rank} (running)"), 1, err)

    def test_refusal_on_both_nodes(self):
        agents = [self.agent("--nnodes=2", script="exit 77") for _ in "ab"]
        for process in agents:
            self.assertEqual(self.end(process)[0], 77)

    ELASTIC = ("--nnodes=1:2", "--last-call-s=2", "--max-restarts=1",
               "--heartbeat-s=10")
    WORLD = ("echo $TORCHELASTIC_RESTART_COUNT $WORLD_SIZE >> world; "
             "[ $WORLD_SIZE = {} ] && exit 0; sleep 100")

    def test_lost_agent_leads_to_a_restart_on_the_rest(self):
        script = self.WORLD.format(2)
        a = self.agent(*self.ELASTIC, "--node-rank=0", script=script)
        b = self.agent(*self.ELASTIC, "--node-rank=1", script=script)
        self.wait_for_file("world", lines=4)
        b.kill()
        code, _, err = self.end(a)
        self.assertEqual(code, 0, err)
        self.assertIn("ranks 2-3) was lost", err)
        self.assertEqual(self.wait_for_file("world", lines=6)[-4:],
                         ["1", "2", "1", "2"])

    def test_lost_agent_without_restarts_left_ends_the_job(self):
        a = self.agent("--nnodes=1:2", "--node-rank=0",
                       script="echo x >> ready; sleep 100")
        b = self.agent("--nnodes=1:2", "--node-rank=1",
                       script="echo x >> ready; sleep 100")
        self.wait_for_file("ready", lines=4)
        b.kill()
        code, _, err = self.end(a)
        self.assertEqual(code, 1)
        self.assertIn("was lost", err)

    def test_lost_rendezvous_ends_the_other_node(self):
        a = self.agent("--nnodes=2", "--node-rank=0",
                       script="echo x >> ready; sleep 100")
        b = self.agent("--nnodes=2", "--node-rank=1",
                       script="echo x >> ready; sleep 100")
        self.wait_for_file("ready", lines=4)
        a.kill()
        code, _, err = self.end(b)
        self.assertEqual(code, 1)
        self.assertIn("lost the rendezvous", err)

    def test_latecomer_is_admitted_by_a_restart(self):
        script = self.WORLD.format(4)
        flags = ("--nnodes=1:2", "--last-call-s=0.2")
        a = self.agent(*flags, script=script)
        self.wait_for_file("world", lines=2)
        b = self.agent(*flags, script=script)
        for process in (a, b):
            code, _, err = self.end(process)
            self.assertEqual(code, 0, err)
        self.assertEqual(sorted(self.wait_for_file("world", lines=6)),
                         sorted("0 2 0 2 1 4 1 4 1 4 1 4".split()))

    def test_node_that_comes_back_is_taken_again(self):
        script = ("echo $TORCHELASTIC_RESTART_COUNT >> world; "
                  "[ $TORCHELASTIC_RESTART_COUNT = 1 ] && exit 0; sleep 100")
        flags = ("--nnodes=2", "--max-restarts=1")
        a = self.agent(*flags, "--node-rank=0", script=script)
        b = self.agent(*flags, "--node-rank=1", script=script)
        self.wait_for_file("world", lines=4)
        b.kill()
        b.wait(LIMIT_S)
        again = self.agent(*flags, "--node-rank=1", script=script)
        for process in (a, again):
            code, _, err = self.end(process)
            self.assertEqual(code, 0, err)

    def test_sigterm_of_one_agent_is_told_to_the_other(self):
        agents = [self.agent("--nnodes=2", f"--node-rank={r}",
                             script="echo x >> ready; sleep 100")
                  for r in (0, 1)]
        self.wait_for_file("ready", lines=4)
        agents[0].terminate()
        self.assertEqual(self.end(agents[0])[0], 128 + signal.SIGTERM)
        code, _, err = self.end(agents[1])
        self.assertEqual(code, 1)
        self.assertIn("SIGTERM on host", err)

    def test_join_timeout_names_who_is_there(self):
        code, _, err = self.end(
            self.agent("--nnodes=2", "--join-timeout-s=1"))
        self.assertEqual(code, 1)
        self.assertIn(f"1 of 2 nodes joined within 1 s (--join-timeout-s): "
                      f"{socket.gethostname()} (2 ranks)", err)

    def test_mismatch_is_refused(self):
        a = self.agent("--nnodes=2", "--node-rank=0", "--rdzv-id=one",
                       script="true")
        for flags, expected in (
                (("--nnodes=2", "--rdzv-id=two"), "--rdzv-id"),
                (("--nnodes=2:3", "--rdzv-id=one"), "--nnodes")):
            code, _, err = self.end(self.agent(*flags, "--node-rank=1"))
            self.assertEqual(code, 1)
            self.assertIn("refused this node", err)
            self.assertIn(expected, err)
        a.terminate()  # it still waits for its second node
        self.assertEqual(self.end(a)[0], 128 + signal.SIGTERM)

    def test_garbage_on_the_port_disturbs_nobody(self):
        port = int(self.endpoint.rpartition(":")[2])
        a = self.agent("--nnodes=2", "--node-rank=0", script=PRINT_ENV)

        def connected():
            with contextlib.suppress(OSError):
                with socket.create_connection(("127.0.0.1", port), 1):
                    return True
            return False

        self.assertTrue(eventually(connected))
        with contextlib.ExitStack() as stack:
            for bytes_ in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100_000,
                           b"{" * 1_000_000, b'{"type":"join"}\n', b"silent"):
                s = stack.enter_context(
                    socket.create_connection(("127.0.0.1", port), 5))
                with contextlib.suppress(OSError):  # cut while we send
                    s.sendall(bytes_)
            b = self.agent("--nnodes=2", "--node-rank=1", script=PRINT_ENV)
            for process in (a, b):
                code, _, err = self.end(process)
                self.assertEqual(code, 0, err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
