#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ten training steps in Python, for the C++ ones to be compared with.

Writes what ch01_train_baseline compares itself with at every run:
ch01_intro/baseline/reference_nano.json, committed. The data is the text of
LICENSE, a byte a token; the weights are those of seed 1234. Two decoders:
`nano-1m`, and two layers of it whose heads share key-value heads.

  .deps/venv/bin/python ch01_intro/peers/reference_run.py [-o FILE]
"""
import argparse
import dataclasses
import json
import math
import os
import pathlib

import numpy as np
import torch

import decoder

ROOT = pathlib.Path(__file__).resolve().parents[2]
CASES = (decoder.NANO,
         dataclasses.replace(decoder.NANO, layers=2, kv_heads=4))
STEPS, MICROBATCHES, SAMPLES, WINDOW = 10, 2, 4, 64
PEAK, WARMUP, FLOOR, CLIP = 1e-3, 2, 0.1, 1.0
SEED, PROBES = 1234, 64


def learning_rate(step):
    if step < WARMUP:
        return PEAK * (step + 1) / WARMUP
    floor = FLOOR * PEAK
    t = (step - WARMUP) / (STEPS - WARMUP)
    return floor + (PEAK - floor) * (1 + math.cos(math.pi * t)) / 2


def microbatch(text, step, index):
    """inputs, targets [SAMPLES, WINDOW]: windows in the order of the text."""
    first = (step * MICROBATCHES + index) * SAMPLES
    rows = [text[w * WINDOW:w * WINDOW + WINDOW + 1]
            for w in range(first, first + SAMPLES)]
    ids = torch.tensor([list(row) for row in rows])
    return ids[:, :-1], ids[:, 1:]


def probe_elements(name, count):
    """Elements of a gradient to look at, drawn by the name's own stream."""
    draws = decoder.mix64(decoder.stream_key(SEED, "probe." + name) ^
                          decoder.mix64(np.arange(PROBES, dtype=np.uint64)))
    return [int(d % np.uint64(count)) for d in draws]


def digest(name, gradient):
    flat = gradient.flatten()
    elements = probe_elements(name, flat.numel())
    # Ten digits of what is summed in float64, seven of what is float32: both
    # finer than the tolerance, 1e-5 of the largest element.
    return {"name": name,
            "norm": float(f"{flat.double().norm().item():.10g}"),
            "max": float(f"{flat.abs().max().item():.10g}"),
            "values": [float(f"{flat[e].item():.7g}") for e in elements]}


def license_text():
    count = STEPS * MICROBATCHES * SAMPLES * WINDOW + 1
    text = (ROOT / "LICENSE").read_bytes()[:count]
    assert len(text) == count and max(text) < 128
    return text


def train(config, text):
    model = decoder.Decoder(config, SEED)
    adamw = decoder.optimizer(model)
    tokens = MICROBATCHES * SAMPLES * WINDOW
    losses, norms, gradients = [], [], []
    for step in range(STEPS):
        adamw.zero_grad(set_to_none=True)
        total = 0.0
        for index in range(MICROBATCHES):
            loss = model(*microbatch(text, step, index))
            (loss / tokens).backward()
            total += loss.item()
        losses.append(total / tokens)
        if step == 0:
            gradients = [digest(name, p.grad)
                         for name, p in model.named_parameters()]
        # In float64: the float32 norm that clipping takes is off by up to 2e-5.
        norms.append(math.sqrt(sum(p.grad.double().square().sum().item()
                                   for p in model.parameters())))
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        for group in adamw.param_groups:
            group["lr"] = learning_rate(step)
        adamw.step()
    return {"config": vars(config), "losses": losses, "gradient_norms": norms,
            "step1_gradients": gradients}


def common(text):
    return {
        "schema": 2,
        "made_by": "ch01_intro/peers/reference_run.py",
        "torch": torch.__version__.split("+")[0],
        "decoder": "nano-1m", "seed": SEED, "steps": STEPS, "microbatches": MICROBATCHES,
        "samples": SAMPLES, "window": WINDOW,
        "peak": PEAK, "warmup": WARMUP, "floor_fraction": FLOOR, "clip": CLIP,
        "text": text.decode("ascii"),
    }


def lines(case):
    """A case as JSON, a gradient a line."""
    body = dict(case)
    rows = ",\n".join(json.dumps(row) for row in body.pop("step1_gradients"))
    return json.dumps(body, indent=1)[:-2] + \
        f',\n "step1_gradients": [\n{rows}\n]}}'


def main():
    parser = argparse.ArgumentParser(
        description="The reference numbers of ch01_train_baseline.")
    parser.add_argument("-o", default=ROOT / "ch01_intro" / "baseline" /
                        "reference_nano.json", type=pathlib.Path)
    out = parser.parse_args().o
    new = out.with_name(out.name + ".new")
    torch.set_num_threads(1)
    text = license_text()
    cases = [train(config, text) for config in CASES]
    new.write_text(json.dumps(common(text), indent=1)[:-2] +
                   ',\n "cases": [\n' + ",\n".join(map(lines, cases)) +
                   "\n]}\n", encoding="utf-8")
    os.replace(new, out)
    for case in cases:
        print(f"{out.name}: {case['config']['layers']} layers, losses "
              f"{case['losses'][0]:.6f} to {case['losses'][-1]:.6f}")


if __name__ == "__main__":
    main()
