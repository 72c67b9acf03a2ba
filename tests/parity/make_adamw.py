"""Writes what torch.optim.AdamW makes of two groups of parameters over 50 steps.

usage: make_adamw.py OUT.json

Values and gradients are sines, so that they need not be stored: element i of parameter p begins as
sin(i + 1 + 10 p), and step s (from 0) has the gradient sin(0.7 i + 0.3 s + p) / (1 + 0.1 s).
"""
import json
import math
import sys

import torch

STEPS = 50
SETTINGS = dict(betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
LR = 0.01
PARAMS = [dict(shape=[3, 4], ratio=1.0), dict(shape=[5], ratio=16.0)]


def main():
    params, groups = [], []
    for p, about in enumerate(PARAMS):
        count = math.prod(about["shape"])
        start = [math.sin(i + 1 + 10 * p) for i in range(count)]
        params.append(torch.nn.Parameter(
            torch.tensor(start, dtype=torch.float64).reshape(about["shape"])))
        groups.append(dict(params=[params[-1]], lr=LR * about["ratio"]))
    optimizer = torch.optim.AdamW(groups, foreach=False, **SETTINGS)
    values = []
    for step in range(STEPS):
        for p, param in enumerate(params):
            grad = [math.sin(0.7 * i + 0.3 * step + p) / (1 + 0.1 * step)
                    for i in range(param.numel())]
            param.grad = torch.tensor(grad, dtype=torch.float64).reshape(param.shape)
        optimizer.step()
        if (step + 1) % 10 == 0:
            values.append([param.detach().flatten().tolist() for param in params])
    with open(sys.argv[1], "w") as f:
        json.dump(dict(steps=STEPS, every=10, lr=LR, beta1=SETTINGS["betas"][0],
                       beta2=SETTINGS["betas"][1], eps=SETTINGS["eps"],
                       weight_decay=SETTINGS["weight_decay"], params=PARAMS, values=values), f)
        f.write("\n")


if __name__ == "__main__":
    main()
