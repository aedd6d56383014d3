#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our logits and greedy tokens against Hugging Face transformers'.

Against numbers of transformers that are kept in transformers_sample.json, and
with DAI_PEER (transformers_reference.py) against transformers itself, every
logit of 50 prompts x 64 tokens. DAI_PROBE names logits_probe, DAI_MODEL the
GGUF file. Greedy tokens have to agree except where the two best logits lie
closer together than the tolerance.
"""
import array
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

MODEL = os.environ["DAI_MODEL"]
PEER = os.environ.get("DAI_PEER")
SAMPLE = pathlib.Path(__file__).parent / "transformers_sample.json"
TOLERANCE = 1e-3


class Program:
    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def ask(self, ids, tokens):
        self.process.stdin.write(
            (json.dumps({"ids": ids, "tokens": tokens}) + "\n").encode())
        self.process.stdin.flush()
        answered = json.loads(self.process.stdout.readline())["ids"]
        vocab = 49152
        logits = array.array("f")
        logits.frombytes(self.process.stdout.read(4 * vocab * len(answered)))
        return answered, [logits[i * vocab:(i + 1) * vocab]
                          for i in range(len(answered))]

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(60)


class Logits(unittest.TestCase):
    def setUp(self):
        self.model = MODEL

    def check_sample(self, model):
        kept = json.loads(SAMPLE.read_text())
        ours = Program(os.environ["DAI_PROBE"], model)
        largest, numbers = 0.0, 0
        for case in kept["cases"]:
            tokens, logits = ours.ask(case["ids"], len(case["tokens"]))
            self.assertEqual(tokens, case["tokens"])
            for row, expected, best in zip(logits, case["logits"],
                                           case["best"]):
                differences = [abs(row[i] - x) for i, x
                               in zip(case["of"], expected)]
                differences.append(abs(max(row) - best))
                largest = max(largest, *differences)
                numbers += len(differences)
        self.assertEqual(ours.close(), 0)
        self.assertGreater(numbers, 800)
        print(f"{numbers} logits of the sample, at most {largest:.2e} off")
        self.assertLess(largest, TOLERANCE)

    def test_the_kept_numbers_of_transformers(self):
        self.check_sample(MODEL)

    @unittest.skipUnless(PEER, "without transformers")
    def test_the_checkpoint_of_the_same_weights(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, PEER, "--model", MODEL,
                            "--folder", folder], check=True)
            self.check_sample(folder)

    @unittest.skipUnless(PEER, "without transformers")
    def test_every_logit_of_transformers(self):
        import numpy as np  # pylint: disable=import-outside-toplevel
        subjects = ["the sea", "a cat", "prime numbers", "an engine", "Paris",
                    "rain", "a compiler", "bread", "the moon", "a queue"]
        forms = ["Tell me about {}.", "Write a poem about {}.",
                 "What is {}, in one sentence?", "{} and then",
                 "def about_{}(x):\n    "]
        theirs = Program(sys.executable, PEER, "--model", MODEL, "--serve")
        ours = Program(os.environ["DAI_PROBE"], MODEL)
        sys.path.insert(0, str(pathlib.Path(PEER).parent))
        import transformers_reference  # pylint: disable=all
        tokenizer = transformers_reference.tokenizer_of(MODEL)
        largest, compared, ties = 0.0, 0, 0
        for form in forms:
            for subject in subjects:
                text = form.format(subject)
                if not form.startswith(("{}", "def")):
                    text = (f"<|im_start|>user\n{text}<|im_end|>\n"
                            "<|im_start|>assistant\n")
                ids = tokenizer.encode(text).ids
                mine, my_logits = ours.ask(ids, 64)
                their, their_logits = theirs.ask(ids, 64)
                for i, (a, b) in enumerate(zip(my_logits, their_logits)):
                    a, b = np.array(a), np.array(b)
                    largest = max(largest, float(np.abs(a - b).max()))
                    compared += 1
                    if mine[i] != their[i]:
                        best = np.sort(b)[-2:]
                        self.assertLess(float(best[1] - best[0]), TOLERANCE)
                        ties += 1
                        break  # another text from here on
        self.assertEqual(ours.close(), 0)
        self.assertEqual(theirs.close(), 0)
        print(f"{compared} x 49152 logits, at most {largest:.2e} off, {ties} "
              "ties")
        self.assertGreater(compared, 50 * 64 * 0.9)
        self.assertLess(largest, TOLERANCE)


if __name__ == "__main__":
    unittest.main()
