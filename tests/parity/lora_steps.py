"""Twenty steps of LoRA in the engine and in PEFT: every loss, and the adapters that they end with.

usage: lora_steps.py ENGINE MODEL.gguf SOURCE_FOLDER

Same tokens, first values and optimizer. Exits with 1 and says where when a loss differs by more than
1e-4 or an element of A or B by more than 1e-4 after the last step; what is not trained would be
further away, which is looked at too.
"""
import json
import os
import sys
import tempfile

from safetensors.torch import load_file

from live_parity import HERE, run

STEPS, SEQUENCE, RATE, BOUND = 20, 64, 1e-4, 1e-4


def weights(folder):
    return load_file(os.path.join(folder, "adapter_model.safetensors"))


def main():
    engine, model_path, source = sys.argv[1:4]
    with tempfile.TemporaryDirectory() as work:
        text, curve, metrics = f"{source}/LICENSE", f"{work}/curve.json", f"{work}/metrics.jsonl"
        first, ours, theirs = f"{work}/first", f"{work}/ours", f"{work}/theirs"
        run([sys.executable, f"{HERE}/make_lora_curve.py", model_path, text, curve, "--steps",
             str(STEPS), "--sequence", str(SEQUENCE), "--lr", str(RATE), "--adapter", theirs])
        # A learning rate of 0 leaves the first values.
        for out, steps, rate in ((ours, STEPS, RATE), (first, 1, 0)):
            values = dict(model=model_path, steps=steps, batch=1, sequence=SEQUENCE, lr=rate,
                          shuffle="false", pack="NONE", metrics=metrics + ("" if rate else ".0"),
                          out=out)
            fixed = dict(schedule="CONSTANT", warmup_ratio=0, max_grad_norm=0)
            sets = [f"{k}={v}" for k, v in values.items()]
            sets += [f"train.trainer.{k}={v}" for k, v in fixed.items()]
            run([engine, "run", f"{source}/pipelines/finetune-lora.pbtxt", text,
                 *(word for s in sets for word in ("--set", s))])
        mine = [json.loads(line)["loss"] for line in open(metrics)]
        losses = json.load(open(curve))["losses"]
        a, b, begun = weights(ours), weights(theirs), weights(first)
    if len(mine) != STEPS or len(losses) != STEPS:
        sys.exit(f"{len(mine)} and {len(losses)} losses, not {STEPS}")
    worst = max(abs(x - y) for x, y in zip(mine, losses))
    if not worst <= BOUND:
        sys.exit(f"losses differ by {worst}")
    if a.keys() != b.keys():
        sys.exit(f"the adapters hold other tensors: {sorted(a.keys() ^ b.keys())[:4]}")
    apart = {"lora_A": 0.0, "lora_B": 0.0}
    moved = {"lora_A": 0.0, "lora_B": 0.0}
    for name in sorted(a):
        kind = next(k for k in apart if k in name)
        if a[name].shape != b[name].shape:
            sys.exit(f"{name} is {list(a[name].shape)}, PEFT's {list(b[name].shape)}")
        off = float((a[name].double() - b[name].double()).abs().max())
        if not off <= BOUND:
            sys.exit(f"{name} differs by {off} after {STEPS} steps")
        apart[kind] = max(apart[kind], off)
        moved[kind] = max(moved[kind], float((a[name] - begun[name]).abs().max()))
    for kind in moved:
        if moved[kind] < 5 * BOUND:
            sys.exit(f"{kind} moved by {moved[kind]} at most: that they agree says nothing")
    print(f"{STEPS} steps of LoRA agree: losses to {worst:.1e}, {len(a)} tensors, A to "
          f"{apart['lora_A']:.1e} (moved by {moved['lora_A']:.1e}), B to {apart['lora_B']:.1e} "
          f"(moved by {moved['lora_B']:.1e})", flush=True)


if __name__ == "__main__":
    main()
