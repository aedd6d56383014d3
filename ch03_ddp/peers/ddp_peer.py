#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The training step of ch03_ddp_train in Python, paced from outside.

torch.nn.parallel.DistributedDataParallel over Gloo around chapter 1's decoder
in Python (ch01_intro/peers/decoder.py). Started by ch03_ddp/bench/bench.py,
once a rank, with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. For each line
on rank 0's stdin all ranks train that many steps; rank 0 prints one JSON line.

  ddp_peer.py --windows FILE --batch 4 --window 128 --mode eager|compile
              --vocab-size V --hidden H --layers L --heads N --kv-heads K
              --ffn F
"""
import argparse
import datetime
import json
import os
import pathlib
import resource
import sys
import time

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] /
                       "ch01_intro" / "peers"))
import decoder  # noqa: E402  pylint: disable=wrong-import-position


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", required=True,
                        help="int32 [steps x ranks x batch, window + 1]")
    parser.add_argument("--mode", choices=["eager", "compile"],
                        default="eager")
    parser.add_argument("--lr", type=float, default=3e-4)
    for name in ("batch", "window", "vocab-size", "hidden", "layers",
                 "heads", "kv-heads", "ffn"):
        parser.add_argument("--" + name, type=int, required=True)
    return parser.parse_args()


def main():
    a = arguments()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=900))
    rank, ranks = dist.get_rank(), dist.get_world_size()
    config = decoder.Config(a.vocab_size, a.hidden, a.layers, a.heads,
                            a.kv_heads, a.ffn)
    model = decoder.Decoder(config)
    adamw = decoder.optimizer(model)
    for group in adamw.param_groups:
        group["lr"] = a.lr
    inner = torch.compile(model) if a.mode == "compile" else model
    ddp = DistributedDataParallel(inner, gradient_as_bucket_view=True)
    windows = torch.from_numpy(np.fromfile(a.windows, dtype=np.int32).reshape(
        -1, a.window + 1))
    parameters = list(model.parameters())
    step = 0

    def train_step():
        nonlocal step
        first = (step * ranks + rank) * a.batch
        rows = windows[first:first + a.batch].long()
        if len(rows) < a.batch:
            sys.exit(f"{a.windows} has windows for {step} steps")
        step += 1
        inputs, targets = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
        adamw.zero_grad(set_to_none=True)
        loss = ddp(inputs, targets) / targets.numel()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        adamw.step()
        return loss.detach()

    asked = torch.zeros(1, dtype=torch.long)
    while True:
        line = sys.stdin.readline() if rank == 0 else ""
        asked[0] = int(line) if line else 0
        dist.broadcast(asked, 0)
        if asked.item() == 0:
            break
        times, loss = [], torch.zeros(())
        for _ in range(asked.item()):
            start = time.perf_counter()
            loss = train_step()
            loss.item()
            times.append(1e3 * (time.perf_counter() - start))
        dist.all_reduce(loss)  # the mean over the ranks, as ours prints it
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if rank == 0:
            print(json.dumps({"step_ms": times, "loss": loss.item() / ranks,
                              "peak_rss_bytes": peak}), flush=True)
    # destroy_process_group() now and then ends in "terminate called without an
    # active exception"; all has been said.
    dist.barrier()
    os._exit(0)


if __name__ == "__main__":
    main()
