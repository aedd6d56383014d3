#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ch01_selfcheck from outside: each fault is put into one rank by the kernel
or the environment, the program is as shipped, and its output must name the
host, the rank and the check.

DAI_BIN_DIR names the folder of the binaries, DAI_FAULTS the library to preload.
Each rank is a "host" of its own: a UTS namespace with its own name, /etc/hosts
and, where the network is at fault, its own network namespace behind a bridge.
Works as root, and as a user who may create user namespaces; elsewhere it fails
and says so.
"""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import sys
import time
import unittest
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
# pylint: disable=wrong-import-position
from support.namespaces import unshare_command  # noqa: E402

BIN = pathlib.Path(os.environ["DAI_BIN_DIR"])
APP = str(BIN / "ch01_selfcheck")
LAUNCH = str(BIN / "dai_launch")
FAULTS = os.environ["DAI_FAULTS"]
LIMIT_S = 60
FOREIGN = re.compile("RANK|WORLD_SIZE|MASTER_|TORCHELASTIC|OMPI_|OMP_|PMIX|"
                     "SLURM|DAI_(LOG|STATUS)")
UNSHARE = unshare_command()
# Inside a namespace of UNSHARE one is root.
NESTED = [word for word in UNSHARE
          if word not in ("--user", "--map-root-user")]
HOSTS = ["node-a", "node-b", "node-c", "node-d"]
ONE_CORE = min(os.sched_getaffinity(0))


def hosts_file(folder, own="", loopback=False):
    """/etc/hosts of a cluster; with `loopback`, as Debian writes it."""
    lines = ["127.0.0.1 localhost"]
    for number, name in enumerate(HOSTS, 1):
        address = f"10.77.0.{number}"
        lines.append(f"{'127.0.1.1' if loopback and name == own else address}"
                     f" {name}")
    path = folder / f"hosts.{own}{loopback}"
    path.write_text("\n".join(lines) + "\n")
    return path


def on_host(folder, name, fault, command, loopback=False, unshare=None,
            boot=None):
    """`command` on the "host" NAME, after the shell lines of `fault`."""
    # A boot of its own: ranks of other hosts do not share its cores.
    boot_id = folder / f"boot.{name}"
    boot_id.write_text(f"{boot or 'boot of ' + name}\n")
    script = (f"hostname {name} && "
              f"mount --bind {hosts_file(folder, name, loopback)} /etc/hosts "
              f"&& mount --bind {boot_id} /proc/sys/kernel/random/boot_id "
              f"|| exit 99\n{fault}\nexec \"$@\"")
    return [*(unshare or UNSHARE), "--uts", "--mount", "sh", "-c", script,
            "sh", *command]


class Run:
    """The ranks of one run, started by hand."""

    def __init__(self, test, size, *args, faults=None, apps=None, node_of=None,
                 absent=(), env=None, loopback=(), timeout_s=0, boot=None):
        self.test, self.ranks = test, {}
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="selfcheck."))
        self.json = self.folder / "report.json"
        node_of = node_of or list(range(size))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = ["--smoke", "--json", str(self.json), *args]
        if timeout_s:
            command += ["--timeout-s", str(timeout_s)]
        for rank in range(size):
            if rank in absent:
                continue
            node = node_of[rank]
            variables = {
                **test.env, "RANK": str(rank), "WORLD_SIZE": str(size),
                "LOCAL_RANK": str(node_of[:rank].count(node)),
                "LOCAL_WORLD_SIZE": str(node_of.count(node)),
                "GROUP_RANK": str(node),
                "GROUP_WORLD_SIZE": str(max(node_of) + 1),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1", **(env or {}).get(rank, {})}
            self.ranks[rank] = subprocess.Popen(
                on_host(self.folder, HOSTS[node], (faults or {}).get(rank, ""),
                        [(apps or {}).get(rank, APP), *command],
                        loopback=rank in loopback, boot=boot),
                env=variables, text=True, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        test.runs.append(self)

    def finish(self, limit=LIMIT_S, kill=()):
        """Waits for all; those in `kill` are ended when the others are."""
        deadline = time.monotonic() + limit
        for rank, process in sorted(self.ranks.items(),
                                    key=lambda one: one[0] in kill):
            if rank in kill:
                process.kill()
            try:
                process.out, process.err = process.communicate(
                    timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.out, process.err = process.communicate()
                self.test.fail(f"rank {rank} still ran after {limit} s\n"
                               f"{process.out}{process.err}")
        return self

    def shown(self):
        return "\n".join(f"--- rank {rank}, exit {p.returncode}\n{p.out}\n"
                         f"{p.err}" for rank, p in self.ranks.items())

    def matrix(self):
        return json.loads(self.json.read_text())["selfcheck"]["matrix"]

    def close(self):
        for process in self.ranks.values():
            if process.poll() is None:
                process.kill()
                process.communicate()
        shutil.rmtree(self.folder)


class Selfcheck(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not shutil.which("ip"):
            raise RuntimeError("this test needs `ip`: install iproute2")

    def setUp(self):
        self.runs = []
        self.token = uuid.uuid4().hex
        self.env = {k: v for k, v in os.environ.items()
                    if not FOREIGN.search(k)}
        self.env["SELFCHECK_TOKEN"] = self.token

    def tearDown(self):
        for run in self.runs:
            run.close()
        self.assertEqual(self.processes(), [], "processes were left behind")

    def processes(self):
        found = []
        for folder in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and self.token.encode() in (
                        folder / "environ").read_bytes():
                    found.append(int(folder.name))
        return found

    def expect(self, run, *texts, failed=None, code=1, others=()):
        """Rank 0's output holds `texts`; its table says FAILED at `failed`,
        [(rank, check)], and nowhere else; its exit code is `code`."""
        shown = run.shown()
        self.assertEqual(run.ranks[0].returncode, code, shown)
        for text in texts:
            self.assertRegex(run.ranks[0].out, text, shown)
        if failed is not None:
            seen = [(row["rank"], check) for row in run.matrix()
                    for check, cell in row.items() if cell == "FAILED"]
            self.assertEqual(seen, list(failed), shown)
        for rank, text in others:
            self.assertRegex(run.ranks[rank].err, text, shown)
            self.assertEqual(run.ranks[rank].returncode, 1, shown)

    # --- no fault, no alarm ------------------------------------------------

    def test_no_fault_no_alarm_at_every_number_of_ranks(self):
        for size in (1, 2, 3, 4):
            with tempfile.NamedTemporaryFile(suffix=".json") as file:
                ran = subprocess.run(
                    [LAUNCH, "--standalone", "--nproc-per-node", str(size),
                     APP, "--smoke", "--json", file.name], env=self.env,
                    text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    timeout=LIMIT_S, check=False)
                shown = ran.stdout + ran.stderr
                self.assertEqual(ran.returncode, 0, shown)
                self.assertNotIn("FAILED", shown)
                report = json.loads(pathlib.Path(file.name).read_text())
                rows = report["selfcheck"]["matrix"]
                self.assertEqual(len(rows), size)
                for row in rows:
                    # More ranks than cores is worth a warning, no more.
                    self.assertIn(row.pop("device"), ("ok", "warning"))
                    self.assertEqual(set(row.values()) - {row["rank"],
                                                          row["host"]},
                                     {"ok"}, shown)

    def test_no_fault_no_alarm_on_several_hosts(self):
        self.expect(Run(self, 3).finish(), "node-a", "node-b", "node-c",
                    failed=[], code=0)

    # --- ranks that do not come or fall silent -----------------------------

    def read_until(self, process, text):
        for line in process.stderr:
            if text in line:
                return
        self.fail(f"never logged {text!r}: {process.stdout.read()}")

    def test_what_ends_by_a_time_out_is_named(self):
        # Side by side, since they mostly wait: long enough for ten processes
        # to start on two cores that others use too.
        log = {1: {"DAI_LOG": "info"}}
        # One machine: rank 0 can look at the state of the others' processes.
        late, master = (
            Run(self, size, "--repeats", "10000000", timeout_s=12, env=log,
                boot="one boot") for size in (3, 2))
        for run, rank in ((late, 1), (master, 0)):
            self.read_until(run.ranks[1], "selfcheck: collectives")
            time.sleep(0.5)
            os.kill(run.ranks[rank].pid, signal.SIGSTOP)
        taken = socket.create_server(("127.0.0.1", 0))
        port = {"MASTER_PORT": str(taken.getsockname()[1])}
        busy = Run(self, 2, timeout_s=4, env={0: port, 1: port})
        absent = Run(self, 3, node_of=[0, 1, 1], absent=[2], timeout_s=20)
        unknown = Run(self, 2, timeout_s=20,
                      env={1: {"MASTER_ADDR": "no-such-host.invalid"}})
        stopped = Run(self, 3, faults={1: "kill -STOP $$"}, timeout_s=20)
        alone = Run(self, 2, absent=[0], timeout_s=4)
        start = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            # The hosts agree on 9000, the switch's port does not.
            lost = pool.submit(self.network, "on switch link set dev port2 "
                               "mtu 1500", "--timeout-s", "10")
            for run in (busy, absent, unknown, alone):
                run.finish()
            stopped.finish(kill=[1])
            late.finish(kill=[1])
            master.finish(kill=[0])
            out, codes = lost.result()
        taken.close()
        self.assertLess(time.monotonic() - start, LIMIT_S)

        self.expect(absent,
                    r"FAILED arrive: host node-b, rank 2: nothing was heard "
                    r"of it; expected: .*; do: ", failed=[(2, "arrive")])
        self.expect(unknown,
                    r"FAILED arrive: host unknown \(node 1\), rank 1",
                    failed=[(1, "arrive")],
                    others=[(1, r"FAILED resolve: host node-b, rank 1: "
                             r"MASTER_ADDR 'no-such-host.invalid': .*; "
                             r"expected: .*; do: ")])
        self.expect(stopped,
                    r"FAILED arrive: host unknown \(node 1\), rank 1",
                    failed=[(1, "arrive")])
        self.expect(late,
                    r"FAILED collectives: host node-b, rank 1: silent since "
                    r"it began this stage; its process is stopped",
                    failed=[(1, "collectives")])
        for run, text in (
                (alone, "FAILED arrive: host node-b, rank 1: .*no store of "
                 "rank 0"),
                (master, "FAILED .*: host node-b, rank 1: .*rank 0")):
            self.assertEqual(run.ranks[1].returncode, 1, run.shown())
            self.assertRegex(run.ranks[1].err, text, run.shown())
        self.assertEqual(busy.ranks[0].returncode, 1, busy.shown())
        self.assertRegex(busy.ranks[0].err, "FAILED bind: host node-a, rank 0: "
                         ".*another process listens there.*do: ")
        self.assertEqual(codes[0], 1, out)
        self.assertRegex(out[0], "FAILED ping: host node-c, rank 2: none of "
                         "the|FAILED ping: host node-., rank .: does not reach"
                         " rank .*small messages pass, .* bytes do not .*MTU")

    def test_different_world_size(self):
        self.expect(Run(self, 2, env={1: {"WORLD_SIZE": "3"}}).finish(),
                    "FAILED arrive: host node-b, rank 1: launched with "
                    "WORLD_SIZE=3; expected: WORLD_SIZE=2",
                    failed=[(1, "arrive")])

    # --- one machine differs -----------------------------------------------

    def test_other_version(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="selfcheck."))
        try:
            image = pathlib.Path(APP).read_bytes()
            version = subprocess.run(  # as the program itself reports it
                ["sh", "-c", f"{APP} --smoke --json v.json >&2 && cat v.json"],
                cwd=folder, env=self.env, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, check=True).stdout
            version = json.loads(version)["version"].encode()
            old = b"9" + version[1:]
            self.assertIn(b"\0" + version + b"\0", image)
            copy = folder / "old_build"
            copy.write_bytes(image.replace(b"\0" + version + b"\0",
                                           b"\0" + old + b"\0"))
            copy.chmod(0o755)
            run = Run(self, 3, apps={2: str(copy)}).finish()
        finally:
            shutil.rmtree(folder)
        self.expect(run, f"FAILED versions: host node-c, rank 2: program "
                    f"{old.decode()}; expected: program {version.decode()} "
                    "as on 2 of 3 ranks; do: ",
                    "FAILED versions: host node-c, rank 2: binary [0-9a-f]+; "
                    "expected: binary [0-9a-f]+ as on 2 of 3",
                    failed=[(2, "versions")],
                    others=[(2, "FAILED versions: host node-c")])

    def test_builds_that_do_not_understand_each_other(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="selfcheck."))
        try:
            image = pathlib.Path(APP).read_bytes()
            ours, old = b"preflight format 2\0", b"preflight format 0\0"
            self.assertTrue(ours in image, "another format: change this test")
            copy = folder / "old_build"
            copy.write_bytes(image.replace(ours, old))
            copy.chmod(0o755)
            run = Run(self, 3, apps={2: str(copy)}, timeout_s=8).finish()
        finally:
            shutil.rmtree(folder)
        self.expect(run, "FAILED versions: host node-c, rank 2: speaks "
                    "preflight format 0; expected: the format of rank 0's "
                    "build; do: copy one build", failed=[(2, "versions")],
                    others=[(2, "FAILED versions: host node-c, rank 2: speaks "
                             "preflight format 0, rank 0 preflight format 2")])

    def preload(self, variables):
        return {"LD_PRELOAD": FAULTS, **variables}

    def test_other_kernel_is_a_warning_and_fails_when_strict(self):
        env = {1: self.preload({"FAULT_KERNEL": "5.10.0-old"})}
        line = ("versions: host node-b, rank 1: kernel 5.10.0-old; expected: "
                "kernel .* as on 2 of 3 ranks")
        plain, strict = Run(self, 3, env=env), Run(self, 3, "--strict", env=env)
        self.expect(plain.finish(), "warning " + line, failed=[], code=0)
        self.expect(strict.finish(),
                    "FAILED " + line, failed=[(1, "versions")])

    def test_clock_skew_names_the_wrong_clock(self):
        env = self.preload({"FAULT_CLOCK_S": "-3600"})
        runs = {rank: Run(self, 3, env={rank: env}) for rank in (0, 2)}
        for rank, run in runs.items():
            self.expect(run.finish(),
                        f"FAILED clock: host {HOSTS[rank]}, rank {rank}: 3600 "
                        "s behind the median of all clocks; expected: within "
                        "0.1 s; do: start a time service",
                        failed=[(rank, "clock")])

    def test_limits_of_one_machine(self):
        run = Run(self, 4, faults={
            1: "ulimit -n 300",
            2: "mount -t tmpfs -o size=1m tmpfs /dev/shm",
            3: f"taskset -pc {ONE_CORE} $$ >/dev/null"},
            env={3: {"OMP_NUM_THREADS": "2"}}).finish()
        self.expect(
            run,
            r"FAILED device: host node-b, rank 1: open-file limit 300; "
            r"expected: at least 1024; do: ulimit",
            r"FAILED device: host node-c, rank 2: /dev/shm holds 1 MiB; "
            r"expected: at least 16 MiB",
            r"FAILED device: host node-d, rank 3: 2 threads on 1 usable core; "
            r"expected: at most 1 thread; do: set OMP_NUM_THREADS",
            failed=[(1, "device"), (2, "device"), (3, "device")])

    def test_own_name_that_means_loopback_is_explained(self):
        self.expect(Run(self, 2, loopback=[1]).finish(),
                    r"warning resolve: host node-b, rank 1: its own name "
                    r"means 127\.0\.1\.1; .*Gloo", failed=[], code=0)

    def test_other_bits_are_a_warning_and_fail_when_strict(self):
        env = {1: {"ATEN_CPU_CAPABILITY": "default"}}
        line = (r"determinism: host node-b, rank 1: softmax gives bits .*"
                r"DEFAULT.*; expected: .* as on 2 of 3 ranks")
        plain, strict = Run(self, 3, env=env), Run(self, 3, "--strict", env=env)
        self.expect(plain.finish(), "warning " + line, failed=[], code=0)
        self.expect(strict.finish(),
                    "FAILED " + line, failed=[(1, "determinism")])

    def test_corrupted_transfers(self):
        self.expect(Run(self, 3, env={1: self.preload({"FAULT_WIRE": "1"})})
                    .finish(), "FAILED collectives: host node-b, rank 1: "
                    "all_reduce sum is off by .*; expected: .* 0; do: take "
                    "node-b out")

    # --- the network -------------------------------------------------------

    def network(self, fault, *args, size=3):
        """Ranks on hosts 10.77.0.1... behind one bridge; `fault` is a line of
        bash that knows each host's namespace as n0, n1, ..."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix="selfcheck."))
        # `ip -n` would remount /, which a chroot does not have.
        lines = ["set -e", "mount -t tmpfs tmpfs /run",
                 "on() { nsenter --net=/run/netns/$1 ip \"${@:2}\"; }",
                 "ip netns add switch",
                 "on switch link add name bridge0 mtu 9000 type bridge",
                 "on switch link set dev bridge0 up"]
        for rank in range(size):
            lines += [
                f"ip netns add n{rank}",
                f"ip link add name port{rank} mtu 9000 type veth peer name "
                f"eth0 mtu 9000 netns n{rank}",
                f"ip link set dev port{rank} netns switch",
                f"on switch link set dev port{rank} master bridge0 up",
                f"on n{rank} addr add 10.77.0.{rank + 1}/24 dev eth0",
                f"on n{rank} link set dev lo up",
                f"on n{rank} link set dev eth0 up"]
        lines += [fault, "set +e"]
        for rank in range(size):
            command = [
                "nsenter", f"--net=/run/netns/n{rank}", "env", f"RANK={rank}",
                f"WORLD_SIZE={size}", "LOCAL_RANK=0", "LOCAL_WORLD_SIZE=1",
                f"GROUP_RANK={rank}", f"GROUP_WORLD_SIZE={size}",
                "MASTER_ADDR=node-a", "MASTER_PORT=29500", "OMP_NUM_THREADS=1",
                *on_host(folder, HOSTS[rank], "", [APP, "--smoke", "--json",
                         str(folder / "report.json"), *args],
                         loopback=rank == 0, unshare=NESTED)]
            lines.append(f"{shlex.join(command)} >{folder}/out.{rank} "
                         f"2>{folder}/err.{rank} & pids[{rank}]=$!")
        lines += [f"wait ${{pids[{r}]}}; echo $? >{folder}/code.{r}"
                  for r in range(size)]
        try:
            ran = subprocess.run(
                [*UNSHARE, "--net", "--mount", "bash", "-c", "\n".join(lines)],
                env=self.env, text=True, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=LIMIT_S, check=False)
            self.assertTrue((folder / f"code.{size - 1}").exists(), ran.stdout)
            out = [(folder / f"out.{r}").read_text()
                   + (folder / f"err.{r}").read_text() for r in range(size)]
            codes = [int((folder / f"code.{r}").read_text())
                     for r in range(size)]
            return out, codes
        finally:
            shutil.rmtree(folder)

    def test_hosts_behind_a_switch(self):
        # Rank 0's own name is 127.0.1.1 on its own host, as Debian has it.
        out, codes = self.network("")
        self.assertEqual(codes, [0, 0, 0], out)
        self.assertRegex(out[0], r"node-c +10\.77\.0\.3")
        self.assertRegex(out[0], "warning resolve: host node-a, rank 0: its "
                         "own name means 127.0.1.1")
        self.assertNotIn("FAILED", out[0])

    def test_blocked_pair_is_named(self):
        # A wrong hardware address: packets to node-c vanish in the switch.
        out, codes = self.network(
            "on n1 neigh add 10.77.0.3 lladdr 02:00:00:00:00:99 dev eth0 "
            "nud permanent")
        self.assertEqual(codes[0], 1, out)
        self.assertRegex(out[0], r"FAILED ping: host node-b, rank 1: does not "
                         r"reach rank 2 on host node-c at 10\.77\.0\.3:\d+: "
                         r"cannot connect: timed out after 2 s; expected: .*; "
                         r"do: check firewall")
        self.assertRegex(out[0], "not run: collectives, determinism: rank 1 "
                         "does not reach all others")

    def test_other_mtu_is_named(self):
        out, codes = self.network("on n2 link set dev eth0 mtu 1500")
        self.assertEqual(codes[0], 1, out)
        self.assertRegex(out[0], "FAILED links: host node-c, rank 2: MTU 1500; "
                         "expected: MTU 9000 as on 2 of 3 ranks; do: ")

    # --- what a launcher makes of it, wrong usage --------------------------

    def test_under_a_launcher_the_table_comes_before_the_end(self):
        ran = subprocess.run(
            [LAUNCH, "--standalone", "--nproc-per-node", "2", "sh", "-c",
             '[ "$RANK" = 0 ] || ulimit -n 300; exec "$0" --smoke', APP],
            env=self.env, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, timeout=LIMIT_S, check=False)
        self.assertEqual(ran.returncode, 1, ran.stdout + ran.stderr)
        self.assertRegex(ran.stdout, "FAILED device: host .*, rank 1: open-file"
                         " limit 300")
        self.assertRegex(ran.stdout, "check: ranks that fail device = 1 .*"
                         "FAILED")

    def test_wrong_interface_is_wrong_usage(self):
        ran = subprocess.run([APP, "--smoke", "--interface", "eth77"],
                             env=self.env, text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, timeout=LIMIT_S,
                             check=False)
        self.assertEqual(ran.returncode, 2, ran.stdout + ran.stderr)
        self.assertRegex(ran.stderr, "--interface eth77: no such interface "
                         ".*there are .*lo")


if __name__ == "__main__":
    unittest.main(verbosity=2)
