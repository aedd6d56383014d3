#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of ch03_ddp_train read by Python's safetensors: the shards of
three ranks, put together as the manifest says, are the weights that the run
saved as one file, and one rank's file needs no manifest.

Runs with the Python that has the library. DAI_BIN_DIR: the binaries.
"""
import json
import os
import pathlib
import subprocess
import tempfile
import unittest
import zlib

import numpy
from safetensors import safe_open
from safetensors.numpy import load_file

BIN = pathlib.Path(os.environ["DAI_BIN_DIR"])


def trained(folder, ranks):
    """Weights as saved in the end, and the last checkpoint's folder."""
    run, weights = folder / "run", folder / "w.safetensors"
    subprocess.run(
        [BIN / "dai_launch", "--standalone", "--nproc-per-node", str(ranks),
         BIN / "ch03_ddp_train", "--smoke", "--steps", "2", "--window", "16",
         "--microbatch-size", "1", "--checkpoint-dir", run, "--save", weights],
        check=True, timeout=120, capture_output=True)
    return load_file(weights), run / "step-000002"


class ReadByPython(unittest.TestCase):
    def setUp(self):
        # pylint: disable-next=consider-using-with
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def test_shards_of_three_ranks(self):
        weights, checkpoint = trained(pathlib.Path(self.folder.name), 3)
        manifest = json.loads((checkpoint / "manifest.json").read_text())
        found = {}
        for name, entry in manifest["tensors"].items():
            flat = numpy.full(int(numpy.prod(entry["shape"])), numpy.nan)
            for shard in entry["shards"]:
                with safe_open(checkpoint / shard["file"], "np") as file:
                    part = file.get_tensor(name)
                self.assertEqual(part.size, shard["count"], name)
                self.assertEqual(zlib.crc32(part.tobytes()), shard["crc32"])
                flat[shard["offset"]:shard["offset"] + part.size] = \
                    part.reshape(-1)
            found[name] = flat.reshape(entry["shape"])
        for name, values in weights.items():
            numpy.testing.assert_array_equal(found["model." + name], values)
            self.assertIn("adamw.m." + name, found)
        self.assertEqual(len(found), 4 * len(weights) + 2)
        self.assertEqual(found["history.loss"].shape, (2,))

    def test_one_ranks_file_by_itself(self):
        weights, checkpoint = trained(pathlib.Path(self.folder.name), 1)
        alone = load_file(checkpoint / "rank-00000-of-00001.safetensors")
        for name, values in weights.items():
            numpy.testing.assert_array_equal(alone["model." + name], values)


if __name__ == "__main__":
    unittest.main(verbosity=2)
