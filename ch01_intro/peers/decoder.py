# SPDX-License-Identifier: Apache-2.0
"""The decoder of this chapter in Python, as a PyTorch user writes it.

It shares nothing with the C++ one but the definition: weights come from the
same counter-based formula (ch01_intro/decoder/initialization.h), written here
a second time, so that equal numbers say that both are right.
"""
import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass
class Config:
    vocab_size: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5

    @property
    def head_dim(self):
        return self.hidden // self.heads


NANO = Config(vocab_size=1536, hidden=96, layers=12, heads=12, kv_heads=12,
              ffn=192)


# --- initial weights --------------------------------------------------------

def mix64(x):
    """SplitMix64's finaliser on an array of uint64."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def stream_key(seed, name):
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return mix64(np.uint64(value) ^ mix64(np.uint64(seed)))


def initial(name, shape, layers, seed):
    if name.endswith("norm.weight"):
        return torch.ones(shape)
    deviation = 0.02
    if name.endswith(("o_proj.weight", "down_proj.weight")):
        deviation /= np.sqrt(2.0 * layers)
    count = int(np.prod(shape))
    draws = mix64(stream_key(seed, name) ^
                  mix64(np.arange(count, dtype=np.uint64)))
    parts = [(draws >> np.uint64(16 * i)) & np.uint64(0xFFFF)
             for i in range(4)]
    sums = sum(part.astype(np.int32) for part in parts) - 4 * 65535 // 2
    scale = np.float32(deviation / np.sqrt((65536.0 * 65536.0 - 1) / 3))
    values = sums.astype(np.float32) * scale
    return torch.from_numpy(values.reshape(shape))


# --- the model, with the names of Hugging Face's Llama ----------------------

class RmsNorm(nn.Module):
    def __init__(self, hidden, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(hidden))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def rotate(x, cos, sin):
    """x [batch, heads, seq, head_dim]; cos, sin [seq, head_dim / 2]."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.head_dim = c.head_dim
        kv = c.kv_heads * c.head_dim
        self.q_proj = nn.Linear(c.hidden, c.hidden, bias=False)
        self.k_proj = nn.Linear(c.hidden, kv, bias=False)
        self.v_proj = nn.Linear(c.hidden, kv, bias=False)
        self.o_proj = nn.Linear(c.hidden, c.hidden, bias=False)

    def forward(self, x, cos, sin):
        q, k, v = (proj(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
                   for proj in (self.q_proj, self.k_proj, self.v_proj))
        out = F.scaled_dot_product_attention(
            rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True,
            enable_gqa=q.size(1) != k.size(1))
        return self.o_proj(out.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden, c.ffn, bias=False)
        self.up_proj = nn.Linear(c.hidden, c.ffn, bias=False)
        self.down_proj = nn.Linear(c.ffn, c.hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm = RmsNorm(c.hidden, c.norm_eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RmsNorm(c.hidden, c.norm_eps)
        self.mlp = Mlp(c)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Tied embeddings. forward gives the summed loss over the tokens."""

    def __init__(self, c, seed=1234, positions=1024):
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(c.vocab_size, c.hidden)
        self.model.layers = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.model.norm = RmsNorm(c.hidden, c.norm_eps)
        rates = c.rope_theta ** (-torch.arange(0, c.head_dim, 2,
                                               dtype=torch.float64)
                                 / c.head_dim)
        angles = torch.arange(positions, dtype=torch.float64)[:, None] * rates
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(initial(name, tuple(parameter.shape),
                                        c.layers, seed))

    def forward(self, tokens, targets):
        seq = tokens.size(1)
        cos, sin = self.cos[:seq], self.sin[:seq]
        x = self.model.embed_tokens(tokens)
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        logits = F.linear(self.model.norm(x), self.model.embed_tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(),
                               reduction="sum")


def optimizer(model, weight_decay=0.1):
    """AdamW as ch01_intro/trainer/adamw.h sets it: norms do not decay."""
    decays = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    return torch.optim.AdamW(
        [{"params": decays, "weight_decay": weight_decay},
         {"params": others, "weight_decay": 0.0}],
        lr=0.0, betas=(0.9, 0.95), eps=1e-8, fused=True)
