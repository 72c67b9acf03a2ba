"""The loss curve of PEFT's LoRA for the same data, first values and optimizer as ours.

usage: make_lora_curve.py MODEL.gguf TEXT OUT.json [--steps N] [--sequence N] [--batch N] [--lr X]
                          [--dtype float32|float64] [--dora] [--init uniform|pissa]
                          [--targets NAME...] [--adapter FOLDER] [--all-float64]
       for measuring: [--measure] [--loss plain|own|chunked] [--attention NAME] [--checkpointing]
                      [--autocast] [--fused-adamw]

MODEL may also be a Hugging Face folder.
The first values of A are those of engine.lora with that seed (Philox4x32-10, uniform in
±1/sqrt(in)), so that no adapter has to be stored; B begins at zero. Those of PiSSA are PEFT's own,
which the weights decide but for signs that no loss depends on. In float64 the curve does not
depend on the order in which a processor's BLAS adds: that is what can be kept in a file.
"""
import argparse
import contextlib
import json
import os
import time

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from peer import all_float64, load_model, load_tokenizer


def philox(seed, stream, count):
    """The first word pairs of Philox4x32-10 at indices 0...count-1, as uniforms in [0, 1)."""
    index = np.arange(count, dtype=np.uint64)
    low = np.uint64(0xffffffff)
    c = [index & low, index >> np.uint64(32),
         np.full(count, stream & 0xffffffff, np.uint64), np.full(count, stream >> 32, np.uint64)]
    k0, k1 = seed & 0xffffffff, seed >> 32
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(b >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), b & low,
             (a >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), a & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xffffffff, (k1 + 0xBB67AE85) & 0xffffffff
    bits = ((c[0] << np.uint64(32)) | c[1]) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0 ** -53


def fnv1a(text):
    h = 0xcbf29ce484222325
    for byte in text.encode():
        h = ((h ^ byte) * 0x100000001b3) & 0xffffffffffffffff
    return h


# Rows of logits that are there at once in the chunked loss: with fewer its products are slower.
CHUNK = 256


def loss_of(model, x, kind):
    """The mean over all tokens [batch, sequence] but the first of each row."""
    if kind == "own":
        return model(input_ids=x, labels=x).loss
    if kind == "plain":
        logits = model(input_ids=x).logits[:, :-1]
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten())
    causal = model.get_base_model()
    hidden = causal.model(input_ids=x).last_hidden_state[:, :-1].flatten(0, 1)
    # It is outside of autocast's lists, and wants both in one dtype.
    weight = causal.lm_head.weight
    if torch.is_autocast_enabled("cpu"):
        hidden, weight = hidden.bfloat16(), weight.bfloat16()
    return torch.nn.functional.linear_cross_entropy(
        hidden, weight, x[:, 1:].flatten(),
        options=torch.nn.LinearCrossEntropyOptions(batch_chunk_size=CHUNK))


def peak_bytes():
    """getrusage would also count what the process was before it became this program."""
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("out")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--sequence", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--alpha", type=float, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--dora", action="store_true")
    parser.add_argument("--init", choices=["uniform", "pissa"], default="uniform")
    parser.add_argument("--targets", nargs="+", default=["q_proj", "k_proj", "v_proj", "o_proj",
                                                         "gate_proj", "up_proj", "down_proj"])
    parser.add_argument("--all-float64", action="store_true",
                        help="in float64 also where transformers rounds to float32")
    parser.add_argument("--adapter", help="a folder for the adapter after the last step")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--attention", help="attn_implementation of transformers")
    parser.add_argument("--loss", choices=["plain", "own", "chunked"], default="plain",
                        help="over the logits in their dtype; transformers' own, which rounds them "
                             "to float32; or LibTorch's, which never has them whole")
    parser.add_argument("--autocast", action="store_true", help="in bfloat16")
    parser.add_argument("--fused-adamw", action="store_true")
    parser.add_argument("--measure", action="store_true",
                        help="also keep the seconds of each step and the peak of memory")
    args = parser.parse_args()
    if args.all_float64:
        args.dtype = "float64"
    with all_float64() if args.all_float64 else contextlib.nullcontext():
        train(args)


def train(args):
    ids = load_tokenizer(args.model)(open(args.text).read(), add_special_tokens=False)["input_ids"]
    dtype = getattr(torch, args.dtype)
    model = load_model(args.model, dtype, attn_implementation=args.attention)
    model.config.use_cache = False
    model = get_peft_model(model, LoraConfig(
        r=args.rank, lora_alpha=args.alpha, lora_dropout=0.0, task_type="CAUSAL_LM",
        use_dora=args.dora, init_lora_weights=True if args.init == "uniform" else "pissa",
        target_modules=args.targets), autocast_adapter_dtype=False).to(dtype)
    for name, module in model.named_modules():
        if not hasattr(module, "lora_A") or "default" not in module.lora_A:
            continue
        if args.init == "pissa":
            continue
        a = module.lora_A["default"].weight
        site = name.removeprefix("base_model.model.")
        bound = 1.0 / np.sqrt(float(a.shape[1]))
        draws = philox(args.seed, fnv1a(site + ".lora_A.weight"), a.numel())
        with torch.no_grad():
            a.copy_(torch.from_numpy((2 * draws - 1) * bound).reshape(a.shape).to(dtype))
    if args.checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=args.lr, foreach=False, fused=args.fused_adamw)
    losses, seconds = [], []
    starts = len(ids) - args.sequence
    for step in range(args.steps):
        began = time.monotonic()
        begins = [(step * args.batch + b) * args.sequence % starts for b in range(args.batch)]
        x = torch.tensor([ids[i:i + args.sequence] for i in begins])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.autocast):
            loss = loss_of(model, x, args.loss)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.item()))
        seconds.append(time.monotonic() - began)
        print(step + 1, losses[-1], flush=True)
    measured = {}
    if args.measure:
        measured = dict(seconds=seconds, peak_bytes=peak_bytes())
    if args.adapter:
        model.save_pretrained(args.adapter)
    with open(args.out, "w") as f:
        json.dump(dict(steps=args.steps, sequence=args.sequence, batch=args.batch, lr=args.lr,
                       rank=args.rank, alpha=args.alpha, seed=args.seed,
                       dtype=args.dtype, text=os.path.basename(args.text), losses=losses, **measured), f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
