"""Twenty steps of LoRA in the engine and in PEFT: every loss, and the adapters that they end with.

usage: lora_steps.py ENGINE MODEL.gguf SOURCE_FOLDER [--steps N]

Same tokens, first values and optimizer. In float64, with transformers' roundings to float32 taken
out, losses and all elements of A and B must agree to 1e-9. In float32 losses must agree to 1e-4 and
elements to 1e-4 but for one in ten thousand: AdamW divides a gradient by its own size, so where it
is nothing but rounding its sign moves the element by the whole learning rate.
"""
import argparse
import json
import os
import sys
import tempfile

from safetensors.torch import load_file

from live_parity import HERE, run

SEQUENCE, RATE = 64, 1e-4
# Of losses, of elements, and the share of elements that may be further away.
BOUNDS = {"F64": (1e-9, 1e-9, 0.0), "F32": (1e-4, 1e-4, 1e-4)}


def weights(folder):
    return load_file(os.path.join(folder, "adapter_model.safetensors"))


def engine_run(engine, source, text, **values):
    values.update({"batch": 1, "sequence": SEQUENCE, "shuffle": "false", "pack": "NONE",
                   "train.trainer.schedule": "CONSTANT", "train.trainer.warmup_ratio": 0,
                   "train.trainer.max_grad_norm": 0})
    run([engine, "run", f"{source}/pipelines/finetune-lora.pbtxt", text,
         *(word for k, v in values.items() for word in ("--set", f"{k}={v}"))])


def check(dtype, steps, engine, model_path, source, work):
    text, curve, metrics = f"{source}/LICENSE", f"{work}/curve.json", f"{work}/metrics.jsonl"
    first, ours, theirs = (f"{work}/{name}-{dtype}" for name in ("first", "ours", "theirs"))
    run([sys.executable, f"{HERE}/make_lora_curve.py", model_path, text, curve, "--steps",
         str(steps), "--sequence", str(SEQUENCE), "--lr", str(RATE), "--adapter", theirs,
         *(["--all-float64"] if dtype == "F64" else [])])
    engine_run(engine, source, text, model=model_path, steps=steps, lr=RATE, metrics=metrics,
               out=ours, **{"base.load.dtype": dtype})
    # A learning rate of 0 leaves the first values.
    engine_run(engine, source, text, model=model_path, steps=1, lr=0, out=first,
               **{"base.load.dtype": dtype})
    mine = [json.loads(line)["loss"] for line in open(metrics)]
    losses = json.load(open(curve))["losses"]
    if len(mine) != steps or len(losses) != steps:
        sys.exit(f"{dtype}: {len(mine)} and {len(losses)} losses, not {steps}")
    loss_bound, bound, share = BOUNDS[dtype]
    worst = max(abs(x - y) for x, y in zip(mine, losses))
    if not worst <= loss_bound:
        sys.exit(f"{dtype}: losses differ by {worst}")
    a, b, begun = weights(ours), weights(theirs), weights(first)
    if a.keys() != b.keys():
        sys.exit(f"{dtype}: the adapters hold other tensors: {sorted(a.keys() ^ b.keys())[:4]}")
    told = []
    for kind in ("lora_A", "lora_B"):
        count = beyond = 0
        apart = moved = 0.0
        for name in (n for n in sorted(a) if kind in n):
            if a[name].shape != b[name].shape:
                sys.exit(f"{name} is {list(a[name].shape)}, PEFT's {list(b[name].shape)}")
            off = (a[name].double() - b[name].double()).abs()
            count += off.numel()
            beyond += int((~(off <= bound)).sum())
            apart = max(apart, float(off.max()))
            moved = max(moved, float((a[name].double() - begun[name].double()).abs().max()))
        if count == 0 or beyond > share * count:
            sys.exit(f"{dtype}: {beyond} of {count} elements of {kind} differ by more than {bound}, "
                     f"the worst by {apart}")
        if moved < (steps - 1) / 2 * RATE:
            sys.exit(f"{dtype}: {kind} moved by {moved} at most: that it agrees says nothing")
        told.append(f"{kind} to {apart:.1e} ({beyond} of {count} beyond {bound:g}, moved by "
                    f"{moved:.1e})")
    print(f"{steps} steps of LoRA in {dtype} agree: losses to {worst:.1e}, {', '.join(told)}",
          flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine")
    parser.add_argument("model")
    parser.add_argument("source")
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        for dtype in BOUNDS:
            check(dtype, args.steps, args.engine, args.model, args.source, work)


if __name__ == "__main__":
    main()
