#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/vcluster: its three rungs, what a node sees, links that are slowed
and cut, and that nothing of it stays."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
# pylint: disable=wrong-import-position
from support.many_nodes import (  # noqa: E402
    SCRIPTS, VCLUSTER, ManyNodes, main, script)
from support.namespaces import unshare_command  # noqa: E402

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


class Vcluster(ManyNodes):
    def rung(self, mode, *before):
        """Whether `mode` works here; it does as promised, or says why not."""
        ran = self.run_it(*before, VCLUSTER, "--mode", mode, "-N", "2",
                          VCLUSTER, "each", "sh", "-c", "echo $VCLUSTER_NODE "
                          "is $(hostname) $(ip -o -4 addr show eth0)")
        if ran.returncode == 77:
            self.assertRegex(ran.err, f"mode {mode} is not possible: .")
            return False
        self.assertEqual(ran.returncode, 0, ran.shown)
        self.assertRegex(ran.err, f"by mode {mode}")
        for i in (1, 2):
            self.assertRegex(ran.out, f"node-{i} is " if mode == "loopback" else
                             rf"node-{i} is node-{i} .* 10\.77\.0\.{i}/24")
        return True

    def test_the_rungs(self):
        before = self.machine()
        works = {mode: self.rung(mode) for mode in ("user", "root", "loopback")}
        self.assertTrue(works["loopback"])
        # Root needs nothing else than to be root.
        self.assertTrue(works["root"] if os.geteuid() == 0 else
                        not works["root"])
        self.assertEqual(self.machine(), before)

    def machine(self):
        """This machine's own network and name, which nothing may touch."""
        return self.run_it("sh", "-c", "hostname; ip -o link | cut -d: -f2; "
                           "ip -o addr | cut -d' ' -f2-7").out

    def test_a_plain_user_has_the_rung_without_rights(self):
        if os.geteuid():
            return  # then the test above had it
        # A plain user reaches neither /root nor what lies below it.
        copy = self.dir / "scripts/vcluster"
        shutil.copytree(SCRIPTS, copy.parent)
        self.dir.chmod(0o755)
        user = self.run_it(*NOBODY, copy, "--mode", "user", "-N", "2", copy,
                           "exec", "2", "ip", "-o", "-4", "addr")
        allowed = self.run_it(*NOBODY, "unshare", "--user", "--map-root-user",
                              "true").returncode == 0
        if not allowed:  # as in a chroot: the last rung, said aloud
            self.assertEqual(user.returncode, 77, user.shown)
            ran = self.run_it(*NOBODY, copy, "-N", "2", "true")
            self.assertEqual(ran.returncode, 0, ran.shown)
            for text in ("mode user is not possible", "mode root is not "
                         "possible", "by mode loopback"):
                self.assertIn(text, ran.err)
        else:
            self.assertEqual(user.returncode, 0, user.shown)
            self.assertIn("10.77.0.2/24", user.out)

    def test_links_have_their_rates_at_both_ends(self):
        ran = self.run_it(
            VCLUSTER, "-N", "3", "--rate", "100mbit", "--slow", "2=10mbit",
            *script("for i in 1 2 3; do",
                    "  tc qdisc show dev port$i",
                    f"  {VCLUSTER} exec $i tc qdisc show dev eth0", "done",
                    f"{VCLUSTER} link 3 1mbit", "tc qdisc show dev port3"))
        self.assertEqual(ran.returncode, 0, ran.shown)
        rates = [line.split(" rate ")[1].split()[0]
                 for line in ran.out.splitlines()]
        self.assertEqual(rates, ["100Mbit"] * 2 + ["10Mbit"] * 2
                         + ["100Mbit"] * 2 + ["1Mbit"])

    def test_nodes_reach_each_other_until_one_is_unplugged_or_killed(self):
        hears = (f"{VCLUSTER} exec 1 python3 -c 'import socket; "
                 "print(socket.create_connection((\"node-2\", 5000), 3)"
                 ".recv(9).decode())' 2>&1 | tail -1 || true")
        serves = ("import socket\ns = socket.create_server((\"\", 5000))\n"
                  "while True: s.accept()[0].sendall(b\"here\")")
        ran = self.run_it(VCLUSTER, "-N", "2", *script(
            f"{VCLUSTER} exec 2 python3 -c '{serves}' & sleep 0.5", hears,
            f"{VCLUSTER} link 2 down", hears, f"{VCLUSTER} link 2 up", hears,
            f"{VCLUSTER} kill 2", "wait || true", "echo over",
            f"{VCLUSTER} exec 2 true || true"))
        said = ran.out.splitlines()
        self.assertEqual((said[0], said[2], said[3]), ("here", "here", "over"),
                         ran.shown)
        self.assertIn("timed out", said[1])
        self.assertIn("node-2 is dead", ran.err)

    def test_the_first_failure_ends_each(self):
        for code, expected in ((2, 2), (77, 77), (3, 1), (0, 0)):
            ran = self.run_it(
                VCLUSTER, "-N", "3", VCLUSTER, "each", "sh", "-c",
                f"[ $VCLUSTER_NODE = node-2 -o {code} = 0 ] && exit {code}; "
                "sleep 1000")
            self.assertEqual(ran.returncode, expected, ran.shown)

    def test_a_delay_is_there_or_refused_by_name(self):
        ran = self.run_it(VCLUSTER, "-N", "2", "--delay", "5ms", "--rate",
                          "1gbit", "tc", "qdisc", "show", "dev", "port1")
        if ran.returncode:
            self.assertEqual(ran.returncode, 77, ran.shown)
            self.assertIn("this kernel has no netem", ran.err)
        else:
            self.assertRegex(ran.out, r"netem .*delay 5ms .*rate 1Gbit")

    def test_nothing_stays(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            mark = f"3{uuid.uuid4().int % 10**9}"  # a sleep of many years
            folder = self.leaves_nothing(
                number, lambda _, mark=mark: mark, VCLUSTER, "-N", "2",
                *script(f"{VCLUSTER} each sleep {mark} &",
                        "echo $VCLUSTER; wait"))
            if number != signal.SIGKILL:
                self.assertFalse(pathlib.Path(folder).exists(), number)
        # A killed one could not clear up: the next one does.
        self.run_it(VCLUSTER, "-N", "1", "true")
        self.assertFalse(pathlib.Path(folder).exists())

    def test_ctrl_c_is_heard_once(self):
        # Launchers take a second signal for impatience.
        process = subprocess.Popen(
            [VCLUSTER, "-N", "2", VCLUSTER, "each", "sh", "-c",
             "trap 'echo int; sleep 1; exit 3' INT; trap 'echo term' TERM; "
             "echo up; while :; do sleep 0.1; done"], env=self.env,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True)
        self.assertEqual([process.stdout.readline() for _ in "12"],
                         ["up\n"] * 2)
        os.killpg(process.pid, signal.SIGINT)
        self.assertEqual(process.communicate(timeout=20)[0], "int\n" * 2)
        self.assertEqual(process.returncode, 1)

    def test_what_was_mounted_before_stays(self):
        if os.geteuid():
            return  # only root could unmount it
        ran = self.run_it(
            *unshare_command(), "--mount", *script(
                "mount -t tmpfs disk /mnt; touch /mnt/a",
                f"{VCLUSTER} --mode root -N 1 true; {VCLUSTER} -N 1 true",
                "ls /mnt"))
        self.assertEqual((ran.returncode, ran.out), (0, "a\n"), ran.shown)

    def test_wrong_usage_is_one_line(self):
        for words, expected in (
                (("-N", "0", "true"), "1 to 64 nodes"),
                (("-N", "2"), "a command is missing"),
                (("-N", "2", "no-such-command"), "no such command"),
                (("-N", "2", "--rate", "fast", "true"), "such as 100mbit"),
                (("-N", "2", "--slow", "3=1mbit", "true"), "a node of 1 to 2"),
                (("-N", "2", "--slow", "2=", "true"), "a node of 1 to 2"),
                (("-N", "2", "--rate", "0bit", "true"), "such as 100mbit"),
                (("-N", "2", "--delay", "5", "true"), "such as 5ms"),
                (("-N", "2", "--mode", "loopback", "--rate", "1mbit", "true"),
                 "mode loopback has no links"),
                (("exec", "1", "true"), "inside"),
                (("--nodes", "2", "true"), "required: -N")):
            ran = self.refuses(2, expected, VCLUSTER, *words)
            self.assertEqual(len(ran.err.splitlines()), 1, ran.shown)


if __name__ == "__main__":
    main()
