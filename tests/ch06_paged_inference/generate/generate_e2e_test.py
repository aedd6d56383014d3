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
    codes = code if isinstance(code, tuple) else (code,)
    assert done.returncode in codes, (done.returncode, done.stdout, done.stderr)
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

    def test_a_stop_string_ends_an_answer_and_is_not_said(self):
        done = run("ch06_generate", "--device", "cpu", "--prompt",
                   "What is the capital of France?", "--stop", " Paris")
        self.assertIn("is\n\n", done.stdout)
        self.assertNotIn("Paris", done.stdout)
        self.assertIn("ended by stop", done.stdout)

    def test_penalties_that_no_client_may_ask_for_are_named(self):
        done = run("ch06_generate", "--device", "cpu", "--prompt", "x",
                   "--presence-penalty", 3, code=2)
        self.assertIn("presence_penalty: in [-2, 2]", done.stderr)

    def test_a_trace_is_served_as_the_clock_goes(self):
        report = self.dir / "r.json"
        # Which is faster is the machine's: 0 or 1.
        done = run("ch06_continuous_batching", "--smoke", "--device", "cpu",
                   "--real-time", "both", "--requests", 10, "--per-second", 5,
                   "--prompt", 12, "--output", 8, "--json", report,
                   code=(0, 1))
        self.assertRegex(done.stdout, r"static, \d+, in real time")
        self.assertIn("continuous, in real time", done.stdout)
        metrics = json.loads(report.read_text())["metrics"]
        self.assertGreater(metrics["continuous_ttft_p50_ms_real"], 0)
        self.assertGreater(metrics["static_ttft_p50_ms_real"], 0)

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
