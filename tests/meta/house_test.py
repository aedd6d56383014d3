#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The house rules can fail: each is broken on a copy of the repository.

A rule that nothing can break proves nothing. Every test copies the tree,
damages one thing, and expects the rule (or configure) to name it.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

sys_path = pathlib.Path(__file__).resolve().parent
ROOT = sys_path.parents[1]
MANIFEST = os.environ["DAI_MANIFEST"]
CMAKE = os.environ.get("DAI_CMAKE", "cmake")
APP = "ch01_first_distributed"


class Copy(unittest.TestCase):
    def setUp(self):
        self.temp = tempfile.TemporaryDirectory(prefix="house.")
        self.root = pathlib.Path(self.temp.name) / "repo"
        self.root.mkdir()
        names = subprocess.run(
            ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others",
             "--exclude-standard"], check=True,
            stdout=subprocess.PIPE).stdout.decode().split("\0")
        for name in filter(None, names):
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)

    def tearDown(self):
        self.temp.cleanup()

    def edit(self, name, old, new):
        path = self.root / name
        text = path.read_text()
        self.assertIn(old, text, f"{name} has changed: mend this test")
        path.write_text(text.replace(old, new, 1))

    def rule(self, *rules, manifest=MANIFEST):
        return subprocess.run(
            ["python3", ROOT / "tests/meta/house.py", "--root", self.root,
             "--manifest", manifest, *rules], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def assert_broken(self, rule, words, **more):
        ran = self.rule(rule, **more)
        self.assertEqual(ran.returncode, 1, ran.stdout)
        self.assertRegex(ran.stdout, words)

    def configure(self, *flags):
        return subprocess.run(
            [CMAKE, "-S", self.root, "-B", self.root / "build/copy", "-G",
             "Ninja", "-DDAI_TORCH=OFF", *flags], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def assert_configure_refuses(self, words, *flags):
        ran = self.configure(*flags)
        self.assertNotEqual(ran.returncode, 0, ran.stdout)
        flat = re.sub(r"\s+", " ", ran.stdout)
        self.assertRegex(flat, words)


class RulesCanFail(Copy):
    def test_the_copy_itself_is_clean(self):
        ran = self.rule("top_level", "spdx", "arrows", "golden", "map_rows",
                        "executed", "root_table", "links", "sh_blocks",
                        "small_engine")
        self.assertEqual(ran.returncode, 0, ran.stdout)

    def test_top_level_is_fixed(self):
        (self.root / "extras").mkdir()
        (self.root / "extras/x.txt").write_text("x")
        self.assert_broken("top_level", "extras")

    def test_spdx(self):
        self.edit("common/errors.h", "SPDX-License-Identifier", "Licence")
        self.assert_broken("spdx", "common/errors.h")

    def test_upward_include(self):
        self.edit("common/errors.h", "#include <stdexcept>",
                  '#include "ch03_ddp/bucket.h"')
        self.assert_broken("arrows", "common/errors.h.*later chapter")

    def test_renamed_app(self):
        data = json.loads(pathlib.Path(MANIFEST).read_text())
        data["apps"][0]["name"] = "ch01_renamed"
        other = self.root / "manifest.json"
        other.write_text(json.dumps(data))
        self.assert_broken("golden", "ch01_renamed is missing",
                           manifest=other)

    def test_app_source_without_dai_app(self):
        source = self.root / "ch01_intro/apps/ch01_orphan.cpp"
        source.write_text("int main() {}\n")
        self.assert_broken("golden", "no dai_app.ch01_orphan")

    def test_readme_row_removed(self):
        readme = self.root / "ch01_intro/README.md"
        kept = [line for line in readme.read_text().split("\n")
                if not (line.startswith("|") and f"`{APP}`" in line)]
        readme.write_text("\n".join(kept))
        self.assert_broken("map_rows", f"no Map row for {APP}")

    def test_readme_names_a_wrong_core_function(self):
        readme = self.root / "ch01_intro/README.md"
        text = readme.read_text()
        readme.write_text(re.sub(r"\| `(\w+)` \(\[", r"| `no_such_name` ([",
                                 text, count=1))
        self.assert_broken("map_rows", "no_such_name is not in")

    def test_a_path_that_never_ran_is_not_claimed(self):
        self.edit("ch01_intro/README.md", " (never executed)", "")
        self.assert_broken("executed", "the record says")

    def test_seconds_are_not_typed(self):
        self.edit("ch01_intro/README.md", "(smoke)", "0 (smoke)")
        self.assert_broken("executed", "the record says")

    def test_chapter_claimed_before_it_is_built(self):
        self.edit("README.md", "not yet built", "try it")
        self.assert_broken("root_table", "not marked so")

    def test_broken_link(self):
        with open(self.root / "README.md", "a") as readme:
            readme.write("\n[gone](no/such/file.md)\n")
        self.assert_broken("links", "no/such/file.md")

    def test_shell_block_with_a_wrong_verb(self):
        with open(self.root / "README.md", "a") as readme:
            readme.write("\n```sh\nscripts/book frobnicate\n```\n")
        self.assert_broken("sh_blocks", "no verb frobnicate")

    def test_unformatted_source(self):
        if not (ROOT / ".deps/venv/bin/clang-format").exists():
            self.fail("clang-format is missing: `scripts/book setup --tests`")
        os.environ["DAI_CLANG_FORMAT"] = str(
            ROOT / ".deps/venv/bin/clang-format")
        self.addCleanup(os.environ.pop, "DAI_CLANG_FORMAT")
        self.edit("common/errors.h", "namespace dai {", "namespace   dai {")
        self.assert_broken("cpp_format", "common/errors.h.*not formatted")

    def test_an_engine_that_grows_or_knows_tensors(self):
        engine = self.root / "ch06_paged_inference/engine/engine.cpp"
        engine.write_text(engine.read_text() + "int more();\n" * 1500)
        self.assert_broken("small_engine", r"\d{4} lines of code")
        self.edit("ch06_paged_inference/engine/policy.h", "#include <memory>",
                  "#include <ATen/core/Tensor.h>")
        self.assert_broken("small_engine", "policy.h:.*ATen")

    def test_sloppy_shell(self):
        script = self.root / "scripts/sloppy.sh"
        script.write_text("#!/usr/bin/env bash\ncd $1\nrm -rf $2/*\n")
        self.assert_broken("shell_format", "scripts/sloppy.sh")


class ConfigureRefuses(Copy):
    """What CMake itself must stop. Configured without LibTorch: seconds."""

    def test_the_copy_itself_configures(self):
        ran = self.configure()
        self.assertEqual(ran.returncode, 0, ran.stdout)
        self.assertIn(f"not built: {APP} (needs TORCH)", ran.stdout)

    def test_executable_without_a_smoke_test(self):
        (self.root / "ch01_intro/apps/ch01_new.cpp").write_text(
            "int main() {}\n")
        with open(self.root / "ch01_intro/CMakeLists.txt", "a") as lists:
            lists.write("add_executable(ch01_new apps/ch01_new.cpp)\n")
        self.assert_configure_refuses("ch01_new has no smoke test")

    def test_arrow_that_points_up(self):
        chapter = self.root / "ch02_hardware/early"
        chapter.mkdir()
        (chapter / "ring.cpp").write_text("int ring() { return 0; }\n")
        (chapter / "ring.h").write_text("#pragma once\nint ring();\n")
        (chapter / "CMakeLists.txt").write_text(
            "dai_library(ch02_ring SOURCES ring.cpp HEADERS ring.h)\n")
        with open(self.root / "common/CMakeLists.txt", "a") as lists:
            lists.write("add_subdirectory(../ch02_hardware/early early)\n"
                        "dai_check_arrows(common dai::ch02_ring)\n")
        self.assert_configure_refuses("arrows point down")

    def test_skip_of_a_test_that_needs_no_gpu(self):
        with open(self.root / "tests/allowed_skips.txt", "a") as skips:
            skips.write("unit.app_test\n")
        self.assert_configure_refuses("unit.app_test, which needs no GPU")

    def test_dependency_that_nobody_declares(self):
        with open(self.root / "ch01_intro/CMakeLists.txt", "a") as lists:
            lists.write("dai_app(ch01_new DEPS dai::no_such_library)\n")
        self.assert_configure_refuses("dai::no_such_library")


if __name__ == "__main__":
    unittest.main(verbosity=2)
