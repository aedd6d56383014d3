#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The chapter's apps on one GPU that 1, 2 and 4 ranks share, over NCCL: each
rank poses as a host of its own (NCCL_HOSTID), so that NCCL goes by sockets.
Whatever an app checks on the CPU it checks here. Exits 77 without a GPU.
"""
import os
import pathlib
import subprocess
import sys

BIN = pathlib.Path(os.environ["DAI_BIN_DIR"])
AS_A_HOST = ("sh", "-c", 'NCCL_HOSTID=$RANK exec "$0" "$@"')
ON_GPU = ("--smoke", "--device", "cuda", "--backend", "nccl")
RUNS = (
    (1, "ch03_ddp_ladder"), (2, "ch03_ddp_ladder"), (4, "ch03_ddp_ladder"),
    (2, "ch03_ddp_ladder", "--exchange", "canonical"),
    (2, "ch03_ddp_train"), (4, "ch03_ddp_train", "--precision", "bf16"),
    (2, "ch03_ddp_train", "--precision", "fp16", "--rung", "naive"),
    (2, "ch03_ddp_train", "--task", "images", "--precision", "fp16"),
    (2, "ch03_ddp_train", "--exchange", "powersgd", "--powersgd-start", "3"),
    (3, "ch03_ddp_train", "--exchange", "canonical", "--sync", "overlapped"),
    (2, "ch03_comm_hooks"), (4, "ch03_comm_hooks"),
    (2, "ch03_mixed_precision"), (4, "ch03_mixed_precision"),
    (2, "ch03_bucket_explorer"))


def main():
    failed = []
    for number, app, *words in RUNS:
        command = (BIN / "dai_launch", "--standalone", "--nproc-per-node",
                   str(number), *AS_A_HOST, BIN / app, *ON_GPU, *words)
        ran = subprocess.run(command, capture_output=True, text=True,
                             timeout=300, check=False)
        print(f"== {app} on {number} ranks {' '.join(words)}: {ran.returncode}"
              f"\n{ran.stdout}{ran.stderr}", flush=True)
        if ran.returncode == 77:
            return 77
        if ran.returncode != 0:
            failed.append((number, app, *words))
    for one in failed:
        print("FAILED:", *one)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
