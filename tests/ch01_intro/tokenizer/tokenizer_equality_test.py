#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our tokenizer against Python's `tokenizers`: the same file, the same ids.

Python trains and saves a tokenizer of each family; ours reads the file. Both
tokenize the texts of tokenizer_samples.py, learn from the same text, and turn
ids, sensible or not, back into text. DAI_PROBE names tokenizer_probe;
DAI_TOKENIZER_FULL=1 takes several times as much text.
"""
import json
import os
import pathlib
import random
import struct
import subprocess
import tempfile
import unittest

# One thread, in the same process as fork(): the library warns otherwise.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tokenizer_samples  # pylint: disable=wrong-import-position
from tokenizers import (  # pylint: disable=wrong-import-position
    AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors,
    trainers)

PROBE = os.environ["DAI_PROBE"]
FULL = os.environ.get("DAI_TOKENIZER_FULL") == "1"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
END = "<|endoftext|>"
# About how much text all samples have to be: an empty list must not pass.
LEAST_BYTES = 6_000_000 if FULL else 1_000_000


def byte_level(prefix_space=False, use_regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix_space,
                                    use_regex=use_regex)


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def sequence(*steps):
    return pre_tokenizers.Sequence(list(steps))


# Name in pre_tokenizer_steps(): what it stands for, without and with a space.
FAMILIES = {
    "gpt-2": lambda space: byte_level(space),
    "llama-bpe": lambda space: sequence(split(LLAMA3),
                                        byte_level(space, False)),
    "qwen2": lambda space: sequence(split(QWEN2), byte_level(space, False)),
    "smollm": lambda space: sequence(
        pre_tokenizers.Digits(individual_digits=True), byte_level(space)),
}


def training_text():
    texts = tokenizer_samples.SENTENCES * 3
    texts += tokenizer_samples.repository(1_500_000 if FULL else 200_000)
    rng = random.Random(99)
    for first, last in tokenizer_samples.BLOCKS:
        alphabet = [chr(c) for c in range(first, last + 1)
                    if tokenizer_samples.is_scalar(c)][:60]
        texts.append(tokenizer_samples.words_of(rng, alphabet, 80))
    texts.append("ab" * 300 + " " + "aaaa aaa aa a " * 50)
    return "\n".join(texts)


def trained(pre_tokenizer, text, vocab, special=(END,), minimum=0, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=vocab, min_frequency=minimum, show_progress=False,
        special_tokens=list(special),
        initial_alphabet=[] if "unk_token" in model
        else pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


def gpt2(text):
    tokenizer = trained(byte_level(), text, 3000)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def llama3(text):
    tokenizer = trained(FAMILIES["llama-bpe"](False), text, 4000,
                        ("<|begin_of_text|>", "<|end_of_text|>"))
    tokenizer.model.ignore_merges = True
    tokenizer.add_special_tokens(
        [f"<|reserved_special_token_{i}|>" for i in range(250)])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(
            single="<|begin_of_text|> $A",
            pair="<|begin_of_text|> $A <|begin_of_text|> $B:1",
            special_tokens=[("<|begin_of_text|>", 0)])])
    return tokenizer


def smollm(text):
    special = [END, "<|im_start|>", "<|im_end|>", "<repo_name>", "<file_sep>"]
    return trained(FAMILIES["smollm"](False), text, 3500, special)


def qwen2(text):
    tokenizer = trained(FAMILIES["qwen2"](False), text, 3500)
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False),
                          AddedToken("</tool_call>", normalized=False)])
    return tokenizer


def stripping(text):
    """Every flag of an added token, tokens inside tokens, a prefix space."""
    tokenizer = trained(sequence(
        split(LLAMA3, "removed", True), byte_level(True, False)), text, 2000)
    tokenizer.add_special_tokens([
        AddedToken("<mask>", lstrip=True), AddedToken("<sep>", rstrip=True),
        AddedToken("<both>", lstrip=True, rstrip=True), "<a", "<ab>", "b><c"])
    tokenizer.add_tokens([
        AddedToken("  two", normalized=False), "thing", "things", "<c>",
        AddedToken(" x", rstrip=True), "ünï", "< é >"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<mask> <sep> $A {END}", special_tokens=[
            (t, tokenizer.token_to_id(t)) for t in ("<mask>", "<sep>", END)])
    return tokenizer


def unknown_bytes(text):
    """No piece for most bytes: they become the unk token."""
    return trained(sequence(pre_tokenizers.Digits(), byte_level(True)),
                   text[:300].encode("ascii", "ignore").decode(), 300,
                   ("<unk>",), unk_token="<unk>")


TOKENIZERS = [gpt2, llama3, smollm, qwen2, stripping, unknown_bytes]


def write_records(path, records):
    with open(path, "wb") as file:
        for record in records:
            file.write(struct.pack("<I", len(record)) + record)


def read_records(path):
    data = pathlib.Path(path).read_bytes()
    at, records = 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        records.append(data[at + 4:at + 4 + length])
        at += 4 + length
    return records


def ids_of(record):
    return list(struct.unpack(f"<{len(record) // 4}i", record))


def bytes_of(ids):
    return struct.pack(f"<{len(ids)}i", *ids)


class Equality(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.text = training_text()
        cls.folder = tempfile.TemporaryDirectory(prefix="tokenizer_equality.")
        cls.dir = pathlib.Path(cls.folder.name)
        cls.tokenizers = {}
        for make in TOKENIZERS:
            tokenizer = make(cls.text)
            tokenizer.save(str(cls.file(make.__name__)))
            cls.tokenizers[make.__name__] = tokenizer

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def file(cls, name):
        return cls.dir / f"{name}.json"

    def probe(self, *words):
        ran = subprocess.run([PROBE, *map(str, words)], stderr=subprocess.PIPE,
                             text=True, timeout=600, check=False)
        self.assertEqual(ran.returncode, 0, ran.stderr)

    def ours(self, verb, file, records, *options):
        write_records(self.dir / "in", records)
        self.probe(verb, *([file] if file else []), self.dir / "in",
                   self.dir / "out", *options)
        return read_records(self.dir / "out")

    def compare(self, name, tokenizer, file, sets, **kwargs):
        """All texts of all sets, the first difference shown."""
        texts = [(kind, t) for kind, some in sets.items() for t in some]
        options = [] if kwargs.get("add_special_tokens", True) else ["plain"]
        if tokenizer.encode_special_tokens:
            options.append("text-only")
        got = self.ours("encode", file, [t.encode() for _, t in texts],
                        *options)
        self.assertEqual(len(got), len(texts))
        ids = 0
        for (kind, text), record in zip(texts, got):
            want = tokenizer.encode(text, **kwargs).ids
            have = ids_of(record)
            ids += len(have)
            if want != have:
                at = next((i for i, (a, b) in enumerate(zip(want, have))
                           if a != b), min(len(want), len(have)))
                before = tokenizer.decode(want[:at], False)[-40:]
                self.fail(f"{name}, {kind}: id {at} of {ascii(text[:60])} "
                          f"behind {ascii(before)}: Python {want[at:at + 8]}, "
                          f"ours {have[at:at + 8]}")
        return sum(len(t.encode()) for _, t in texts), ids

    def added(self, tokenizer):
        return [t.content for t in tokenizer.get_added_tokens_decoder().values()
                ][:40]

    def test_same_ids(self):
        for name, tokenizer in self.tokenizers.items():
            with self.subTest(name):
                sets = tokenizer_samples.samples(self.added(tokenizer), FULL)
                size, ids = self.compare(name, tokenizer, self.file(name), sets)
                print(f"{name}: {size} bytes, {ids} ids equal", flush=True)
                self.assertGreater(size, LEAST_BYTES)

    def test_same_words(self):
        """Ids alone would hide many a wrong cut: where nothing merges."""
        sets = tokenizer_samples.samples([], FULL)
        texts = [(kind, t) for kind, some in sets.items() for t in some if t]
        for name, tokenizer in self.tokenizers.items():
            with self.subTest(name):
                got = self.ours("words", self.file(name),
                                [t.encode() for _, t in texts])
                self.assertEqual(len(got), len(texts))
                for (kind, text), record in zip(texts, got):
                    want = [word for word, _ in
                            tokenizer.pre_tokenizer.pre_tokenize_str(text)]
                    have = record.decode().split("\n")[:-1]
                    for a, b in zip(want, have):
                        self.assertEqual(a, b, f"{kind}: {ascii(text[:60])}")
                    self.assertEqual(len(want), len(have), kind)

    def test_same_ids_without_special_tokens(self):
        for name, tokenizer in self.tokenizers.items():
            with self.subTest(name):
                sets = tokenizer_samples.samples(self.added(tokenizer), False)
                sets = {k: sets[k] for k in ("sentences", "added tokens",
                                             "nothing")}
                self.compare(name, tokenizer, self.file(name), sets,
                             add_special_tokens=False)
                tokenizer.encode_special_tokens = True
                self.compare(name, tokenizer, self.file(name), sets)
                tokenizer.encode_special_tokens = False

    def test_same_text_from_any_ids(self):
        rng = random.Random(7)
        for name, tokenizer in self.tokenizers.items():
            ids = sorted(tokenizer.get_vocab(True).values())
            lists = [rng.choices(ids, k=rng.randint(0, 40))
                     for _ in range(6000 if FULL else 1000)]
            lists += [rng.choices(ids[:300], k=30) for _ in range(500)]
            records = [bytes_of(some) for some in lists]
            for skip in (False, True):
                with self.subTest(name, skip=skip):
                    got = self.ours("decode", self.file(name), records,
                                    *(["skip"] if skip else []))
                    for some, record in zip(lists, got):
                        self.assertEqual(
                            record.decode(),
                            tokenizer.decode(some, skip_special_tokens=skip),
                            some)

    def test_same_replacement_of_bytes(self):
        strings = tokenizer_samples.byte_strings(FULL)
        for raw, got in zip(strings, self.ours("replace", "", strings)):
            self.assertEqual(got.decode(), raw.decode(errors="replace"), raw)

    def test_bytes_that_are_no_text_come_back(self):
        strings = tokenizer_samples.byte_strings(False)
        for name in ("gpt2", "llama3", "smollm", "qwen2"):
            ids = self.ours("encode", self.file(name), strings, "plain")
            got = self.ours("decode", self.file(name), ids)
            for raw, text in zip(strings, got):
                self.assertEqual(text.decode(), raw.decode(errors="replace"))

    def learn(self, family, space, vocab, minimum, special, text):
        python = trained(FAMILIES[family](space), text, vocab, special, minimum)
        (self.dir / "text").write_bytes(text.encode())
        self.probe("train", self.dir / "text", self.dir / "ours.json", vocab,
                   minimum, family, int(space), *special)
        ours = json.loads((self.dir / "ours.json").read_text())
        want = json.loads(python.to_str())
        for key in ("vocab", "merges"):
            self.assertEqual(ours["model"][key], want["model"][key])
        self.assertEqual(ours["added_tokens"], want["added_tokens"])
        return python, len(want["model"]["merges"])

    def test_same_merges_learnt(self):
        for family in FAMILIES:
            for space, vocab, minimum, special in (
                    (False, 5000, 0, (END,)), (True, 1200, 0, ()),
                    (False, 9000, 3, ("<|a|>", "b", END, "the"))):
                with self.subTest(family, space=space, vocab=vocab):
                    self.learn(family, space, vocab, minimum, special,
                               self.text)

    def test_same_merges_learnt_until_nothing_is_left(self):
        rng = random.Random(5)
        for seed in range(40):
            letters = "ab" if seed % 2 else "abcde"
            text = " ".join("".join(rng.choices(letters, k=rng.randint(1, 12)))
                            for _ in range(rng.randint(1, 80)))
            with self.subTest(text=text[:40]):
                self.learn("gpt-2", False, 2000, 0, (), text)
        self.learn("gpt-2", False, 2000, 0, (), "")

    def test_what_ours_writes_python_reads(self):
        sets = tokenizer_samples.samples([END, "<mask>", "things"], False)
        sets = {k: sets[k] for k in ("sentences", "white space", "emoji",
                                     "contractions", "numbers", "added tokens",
                                     "nothing")}
        for name in self.tokenizers:
            with self.subTest(name):
                copy = self.file("copy")
                self.probe("rewrite", self.file(name), copy)
                tokenizer = Tokenizer.from_file(str(copy))
                self.compare(name, tokenizer, self.file(name), sets)
                self.compare(name, tokenizer, copy, sets)
                self.probe("rewrite", copy, self.file("again"))
                self.assertEqual(copy.read_bytes(),
                                 self.file("again").read_bytes())


if __name__ == "__main__":
    unittest.main()
