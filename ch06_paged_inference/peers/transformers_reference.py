#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hugging Face transformers on the weights of a GGUF file, dequantised.

    transformers_reference.py --model m.gguf --folder out/hf     # only write it
    transformers_reference.py --model m.gguf --sample sample.json
    transformers_reference.py --model m.gguf --serve             # for tests

The folder is a checkpoint of Hugging Face's (config.json, model.safetensors),
made from the file by Python's `gguf`, whose rows of q and k are put back in
their order. --serve reads lines of {"ids", "tokens"}, answers each greedily and
writes {"ids"} and then the logits of every answered token, float32, as raw
bytes. --sample writes some of these numbers for a few prompts: what the
repository keeps for machines without transformers.
"""
import argparse
import json
import os
import pathlib
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import gguf  # pylint: disable=wrong-import-position
import numpy as np  # pylint: disable=wrong-import-position
import torch  # pylint: disable=wrong-import-position
from safetensors.numpy import save_file  # pylint: disable=wrong-import-position

IN_LAYER = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj",
            "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj",
            "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
            "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm",
           "output": "lm_head"}
PROMPTS = ["What is the capital of France?",
           "Write one sentence about the sea.",
           "def fibonacci(n):", "List three prime numbers above 100.",
           "Explain what a page table does."]


def write_folder(path, folder):
    reader = gguf.GGUFReader(path)

    def field(name):
        return reader.fields["llama." + name].contents()

    heads, kv_heads = field("attention.head_count"), field(
        "attention.head_count_kv")
    tensors = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        values = np.ascontiguousarray(values, dtype=np.float32)
        parts = tensor.name.split(".")
        if parts[0] == "blk":
            name = f"model.layers.{parts[1]}.{IN_LAYER[parts[2]]}.weight"
        else:
            name = OUTSIDE[parts[0]] + ".weight"
        if parts[0] == "blk" and parts[2] in ("attn_q", "attn_k"):
            n = heads if parts[2] == "attn_q" else kv_heads
            rows, columns = values.shape
            values = values.reshape(n, rows // n // 2, 2, columns).swapaxes(
                1, 2).reshape(rows, columns).copy()
        tensors[name] = values
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "vocab_size": tensors["model.embed_tokens.weight"].shape[0],
        "hidden_size": field("embedding_length"),
        "intermediate_size": field("feed_forward_length"),
        "num_hidden_layers": field("block_count"),
        "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "max_position_embeddings": field("context_length"),
        "rms_norm_eps": 1e-5, "rope_theta": field("rope.freq_base"),
        "hidden_act": "silu", "attention_bias": False,
        "tie_word_embeddings": "lm_head.weight" not in tensors,
        "torch_dtype": "float32",
        "bos_token_id": 1, "eos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def load(folder):
    from transformers import AutoModelForCausalLM  # slow to import
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()


def tokenizer_of(path):
    import tokenizers
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ", 1))
              for m in fields["tokenizer.ggml.merges"].contents()]
    made = tokenizers.Tokenizer(tokenizers.models.BPE(
        vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)])
    made.add_special_tokens(tokens[:17])
    return made


@torch.no_grad()
def answer(model, ids, count):
    """Greedy tokens and the logits that each was taken from, [count, vocab]."""
    rows, tokens, past = [], [], None
    step = torch.tensor([ids])
    for _ in range(count):
        out = model(step, past_key_values=past, use_cache=True)
        past = out.past_key_values
        rows.append(out.logits[0, -1].numpy().copy())
        tokens.append(int(rows[-1].argmax()))
        step = torch.tensor([tokens[-1:]])
    return tokens, np.stack(rows)


def sample(model, tokenizer, path):
    cases = []
    for prompt in PROMPTS:
        ids = tokenizer.encode(f"<|im_start|>user\n{prompt}<|im_end|>\n"
                               "<|im_start|>assistant\n").ids
        tokens, logits = answer(model, ids, 16)
        fixed = list(range(7, logits.shape[1], 4999))
        cases.append({
            "ids": ids, "tokens": tokens, "of": fixed,
            "logits": [[round(float(x), 4) for x in row[fixed]]
                       for row in logits],
            "best": [round(float(row.max()), 4) for row in logits]})
    import transformers
    pathlib.Path(path).write_text(json.dumps({
        "made_by": f"transformers {transformers.__version__}, torch "
                   f"{torch.__version__}, float32", "cases": cases}) + "\n")


def serve(model):
    for line in sys.stdin:
        ask = json.loads(line)
        tokens, logits = answer(model, ask["ids"], ask["tokens"])
        out = sys.stdout.buffer
        out.write((json.dumps({"ids": tokens}) + "\n").encode())
        out.write(logits.astype("<f4").tobytes())
        out.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--folder")
    parser.add_argument("--sample")
    parser.add_argument("--serve", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or temporary
        write_folder(args.model, folder)
        if args.sample:
            sample(load(folder), tokenizer_of(args.model), args.sample)
        if args.serve:
            serve(load(folder))


if __name__ == "__main__":
    main()
