"""A training step of a causal transformer in plain PyTorch: ``scaled_dot_product_attention``, AdamW, cross-entropy.

Its shape is told by our side: GPT-2 (Radford et al. 2019), or with what else papers of in-context RL used: RMSNorm,
rotary positions, SwiGLU, norms behind the residual sum, ReLU attention over the number of visible positions (Lin et al.
2023), which no fused kernel has. ``compiled`` asks for ``torch.compile``, ``autocast`` for bfloat16.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from turns import serve, settings


class Attention(nn.Module):
    def __init__(self, shape: dict[str, Any]):
        super().__init__()
        width, bias = shape["width"], shape["attention_bias"]
        self.heads, self.kind, self.rotary = shape["heads"], shape["attention"], shape["positions"] == "rotary"
        self.qkv, self.mix = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.rotary:
            q, k = turned(q), turned(k)
        if self.kind == "relu":
            seen = torch.arange(1, length + 1, device=x.device, dtype=x.dtype)
            mixed = (torch.relu(q @ k.transpose(-1, -2)).tril() / seen[:, None]) @ v
        else:
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.mix(mixed.transpose(1, 2).reshape(batch, length, width))


def turned(x: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021) of x [B, H, T, d]."""
    half = x.shape[-1] // 2
    speed = 10_000.0 ** (-torch.arange(half, device=x.device) / half)
    angle = torch.arange(x.shape[-2], device=x.device)[:, None] * speed
    cos, sin, a, b = angle.cos(), angle.sin(), *x.split(half, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1).to(x.dtype)


class MLP(nn.Module):
    def __init__(self, shape: dict[str, Any]):
        super().__init__()
        width, hidden = shape["width"], shape["hidden"]
        self.kind, bias = shape["mlp"], shape["mlp"] != "swiglu"
        self.expand, self.contract = nn.Linear(width, hidden, bias=bias), nn.Linear(hidden, width, bias=bias)
        self.gate = None if bias else nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        up = self.expand(x)
        if self.gate is not None:
            return self.contract(functional.silu(self.gate(x)) * up)
        return self.contract(functional.relu(up) if self.kind == "relu" else functional.gelu(up, approximate="tanh"))


class Block(nn.Module):
    def __init__(self, shape: dict[str, Any]):
        super().__init__()
        self.norm_first, self.attention, self.mlp = shape["norm_first"], Attention(shape), MLP(shape)
        self.norm_attention, self.norm_mlp = new_norm(shape), new_norm(shape)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm_first:
            x = x + self.attention(self.norm_attention(x))
            return x + self.mlp(self.norm_mlp(x))
        x = self.norm_attention(x + self.attention(x))
        return self.norm_mlp(x + self.mlp(x))


def new_norm(shape: dict[str, Any]) -> nn.Module:
    return (nn.RMSNorm if shape["norm"] == "rms" else nn.LayerNorm)(shape["width"], eps=1e-5)


class Transformer(nn.Module):
    def __init__(self, shape: dict[str, Any]):
        super().__init__()
        width = shape["width"]
        self.embed, self.head = nn.Linear(shape["token_dim"], width), nn.Linear(width, shape["outputs"])
        self.position = nn.Embedding(shape["length"], width) if shape["positions"] == "learned" else None
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape["layers"]))
        self.norm = new_norm(shape) if shape["final_norm"] else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        if self.position is not None:
            x = x + self.position.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def main() -> None:
    given = settings()
    shape, device = given["shape"], "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False  # of float32: ours multiplies exactly too
    batch, length = shape["batch"], shape["length"]
    model = Transformer(shape).to(device)
    run = torch.compile(model) if given.get("compiled") else model
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1e-4, fused=device == "cuda")
    tokens = torch.randn(batch, length, shape["token_dim"], device=device)
    labels = torch.zeros(batch * length, dtype=torch.long, device=device)
    low = bool(given.get("autocast"))

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=low):
            loss = functional.cross_entropy(run(tokens).flatten(0, 1).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def wait(done: Any) -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    serve(step, batch * length, "tokens", ("torch",), wait, device=device)


if __name__ == "__main__":
    main()
