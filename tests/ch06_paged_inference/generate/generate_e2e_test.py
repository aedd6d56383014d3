#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ch06_generate as people use it: conversations, foreign files, a checkpoint.

DAI_BIN_DIR holds the apps.
"""
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

BIN = pathlib.Path(os.environ["DAI_BIN_DIR"])


def run(app, *words, stdin="", code=0):
    done = subprocess.run([BIN / app, *map(str, words)], input=stdin, text=True,
                          capture_output=True, timeout=300, check=False)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


class Generate(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def test_a_conversation_finds_its_past_in_the_cache(self):
        report = self.dir / "r.json"
        done = run("ch06_generate", "--device", "cpu", "--max-tokens", 8,
                   "--json", report, stdin="Who are you?\n\nAnd where?\n")
        self.assertEqual(done.stdout.count("tokens/s"), 2)
        self.assertIn(" 0 of them cached", done.stdout)
        cached = json.loads(report.read_text())["metrics"]["cached_tokens"]
        self.assertGreaterEqual(cached, 32)

    def test_equal_seeds_say_the_same(self):
        def say(seed):
            return run("ch06_generate", "--device", "cpu", "--max-tokens", 12,
                       "--temperature", 1, "--seed", seed, "--one-row",
                       "--prompt", "Tell me a story.").stdout.split("\n\n")[1]
        self.assertEqual(say(1), say(1))
        self.assertNotEqual(say(1), say(2))

    def test_a_checkpoint_of_chapter_3_is_served(self):
        save = self.dir / "run"
        run("ch03_ddp_train", "--smoke", "--device", "cpu", "--checkpoint-dir",
            save, "--save-every", 5)
        for model in (save, save / "step-000010"):
            done = run("ch06_generate", "--device", "cpu", "--model", model,
                       "--prompt", "A cat is", "--max-tokens", 8)
            self.assertIn("without blocks| = ", done.stdout)
        # Of another text than the dictionary nothing is known.
        text = self.dir / "t.txt"
        text.write_text("to be or not to be, that is the question. " * 9000)
        run("ch03_ddp_train", "--smoke", "--device", "cpu", "--text", text,
            "--text-bytes", 0, "--checkpoint-dir", self.dir / "other",
            "--save-every", 5)
        done = run("ch06_generate", "--model", self.dir / "other", "--prompt",
                   "A", code=2)
        self.assertIn("another text than the dictionary", done.stderr)

    def test_bad_files_and_flags_are_one_line_and_exit_2(self):
        (self.dir / "cut.gguf").write_bytes(b"GGUF" + bytes(3))
        (self.dir / "text.gguf").write_text("no model at all")
        for words, said in (
                (["--model", self.dir / "none.gguf"], "none.gguf"),
                (["--model", self.dir / "cut.gguf"], "cut short"),
                (["--model", self.dir / "text.gguf"], "is no GGUF file"),
                (["--model", self.dir], "is no model"),
                (["--kv-mib", 1], "two at least"),
                (["--max-tokens", 0], "--max-tokens"),
                (["--kv-dtype", "int8"], "int8"),
                (["--prompt", "word " * 9000], "tokens: 1 to")):
            done = run("ch06_generate", "--device", "cpu", "--prompt", "x",
                       *words, code=2)
            self.assertIn(said, done.stderr, words)
            self.assertEqual(len(done.stderr.strip().splitlines()), 1,
                             done.stderr)


if __name__ == "__main__":
    unittest.main()
