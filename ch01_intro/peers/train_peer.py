#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The training step of ch01_train_baseline in Python, paced from outside.

Started by ch01_intro/bench/bench.py. For each line on stdin it trains that
many steps and prints one JSON line: their times, the last loss, peak memory.
The windows are those of ch01_train_baseline --windows-out, in its order.

  train_peer.py --windows FILE --batch 8 --window 128 --mode eager|compile
                --vocab-size V --hidden H --layers L --heads N --kv-heads K
                --ffn F [--threads T]
"""
import argparse
import json
import resource
import sys
import time

import numpy as np
import torch

import decoder


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", required=True,
                        help="int32 [steps x batch, window + 1]")
    parser.add_argument("--mode", choices=["eager", "compile"],
                        default="eager")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lr", type=float, default=3e-4)
    for name in ("batch", "window", "vocab-size", "hidden", "layers",
                 "heads", "kv-heads", "ffn"):
        parser.add_argument("--" + name, type=int, required=True)
    return parser.parse_args()


def main():
    a = arguments()
    torch.set_num_threads(a.threads)
    config = decoder.Config(a.vocab_size, a.hidden, a.layers, a.heads,
                            a.kv_heads, a.ffn)
    model = decoder.Decoder(config)
    adamw = decoder.optimizer(model)
    for group in adamw.param_groups:
        group["lr"] = a.lr
    # What is compiled is the loss, forward and backward; the optimizer is
    # fused already and stays as it is.
    loss_of = torch.compile(model) if a.mode == "compile" else model
    windows = torch.from_numpy(np.fromfile(a.windows, dtype=np.int32).reshape(
        -1, a.window + 1))
    parameters = list(model.parameters())
    step = 0

    def train_step():
        nonlocal step
        rows = windows[step * a.batch:(step + 1) * a.batch].long()
        if len(rows) < a.batch:
            sys.exit(f"{a.windows} has windows for {step} steps")
        step += 1
        inputs, targets = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
        adamw.zero_grad(set_to_none=True)
        loss = loss_of(inputs, targets) / targets.numel()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        adamw.step()
        return loss.item()

    for line in sys.stdin:
        times, loss = [], 0.0
        for _ in range(int(line)):
            start = time.perf_counter()
            loss = train_step()
            times.append(1e3 * (time.perf_counter() - start))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"step_ms": times, "loss": loss,
                          "peak_rss_bytes": peak}), flush=True)


if __name__ == "__main__":
    main()
