"""A transformer in context as the DPT paper's code runs it: at every step it reads the whole context again.

Many tasks side by side. A call is every ``stride``-th of the steps, since all of them take minutes.
"""

import torch
from torch_transformer import Transformer
from turns import serve, settings


def main() -> None:
    given = settings()
    shape, steps, tasks, stride = given["shape"], given["steps"], given["count"], given["stride"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Transformer(shape).eval().to(device)

    @torch.no_grad()
    def some_steps() -> None:
        for length in range(stride, steps + 1, stride):
            tokens = torch.randn(tasks, length + 1, shape["token_dim"], device=device)
            torch.distributions.Categorical(logits=model(tokens)[:, -1]).sample().cpu()

    serve(some_steps, tasks * (steps // stride), "steps", ("torch",), device=device)


if __name__ == "__main__":
    main()
