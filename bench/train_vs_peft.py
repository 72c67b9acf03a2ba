"""LoRA training beside PEFT: the same token ids, first values, optimizer and number of threads, each
run a process of its own, interleaved. A timing counts only where the losses agree.

usage: train_vs_peft.py ENGINE MODEL.gguf PYTHON_OF_THE_PEERS OUT.json
                        [--rounds N] [--steps N] [--batch N] [--sequence N] [--only NAME...]

Tokens a second are the median over all steps but each run's first, which warms up; memory is VmHWM.
Three forms of PEFT are measured: as it comes (its own loss over whole logits), tuned (SDPA said
aloud, LibTorch's chunked linear_cross_entropy, fused AdamW), and under bf16 autocast; each with and
without non-reentrant checkpointing.
"""
import argparse
import statistics
import sys
import tempfile

from training import SOURCE, THREADS, Bounds, peft, pipeline, save, table, train

parser = argparse.ArgumentParser()
parser.add_argument("engine")
parser.add_argument("model")
parser.add_argument("python")
parser.add_argument("out")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--steps", type=int, default=4)
parser.add_argument("--batch", type=int, default=4)
parser.add_argument("--sequence", type=int, default=512)
parser.add_argument("--only", nargs="+", help="names of variants; PEFT's is run always")
args = parser.parse_args()
if args.steps < 2:
    sys.exit("--steps: the first step warms up, so there must be at least 2")


def ours(name="finetune-lora", **values):
    def measure(folder, text):
        return train(args.engine, pipeline(name), text, folder, model=args.model, steps=args.steps,
                     batch=args.batch, sequence=args.sequence, pack="NONE", shuffle="false",
                     lr="1e-4", train__trainer__schedule="CONSTANT",
                     train__trainer__warmup_ratio=0, train__trainer__max_grad_norm=0, **values)
    return measure


def theirs(*flags):
    def measure(folder, text):
        return peft(args.python, args.model, text, folder, "--steps", args.steps, "--batch",
                    args.batch, "--sequence", args.sequence, *flags)
    return measure


def half(folder, text):
    """A budget of half of what is kept without recomputation, which the first round has told."""
    kept = results["engine F32"][0]["activation_bytes"]
    return ours(dtype="F32", checkpoint=kept // 2)(folder, text)


TUNED = ["--loss", "chunked", "--attention", "sdpa", "--fused-adamw"]
# What is measured, its peer, and how far losses may be from those of PEFT in F32.
VARIANTS = {
    "engine F32": (ours(dtype="F32", checkpoint="NONE"), "PEFT", 1e-4),
    "engine F32, budget of half": (half, "PEFT", 1e-4),
    "engine F32, every block": (ours(dtype="F32", checkpoint="EVERY_BLOCK"), "PEFT, checkpointing",
                                1e-4),
    "engine INT8 base, every block": (
        ours("finetune-qlora", dtype="F32", checkpoint="EVERY_BLOCK"), "PEFT", 5e-2),
    "engine BF16": (ours(dtype="BF16", checkpoint="NONE"), "PEFT bf16 autocast", 2e-2),
    "engine BF16, every block": (ours(dtype="BF16", checkpoint="EVERY_BLOCK"),
                                 "PEFT bf16 autocast, checkpointing", 2e-2),
    "PEFT": (theirs("--loss", "own"), None, 1e-4),
    "PEFT, checkpointing": (theirs("--loss", "own", "--checkpointing"), None, 1e-4),
    "PEFT tuned": (theirs(*TUNED), None, 1e-4),
    "PEFT tuned, checkpointing": (theirs(*TUNED, "--checkpointing"), None, 1e-4),
    "PEFT bf16 autocast": (theirs("--loss", "own", "--autocast"), None, 2e-2),
    "PEFT bf16 autocast, checkpointing": (theirs("--loss", "own", "--autocast", "--checkpointing"),
                                          None, 2e-2),
}
wanted = list(VARIANTS)
if args.only:
    unknown = [name for name in args.only if name not in VARIANTS]
    if unknown:
        sys.exit(f"--only: there is no {unknown}; there are {wanted}")
    needed = {"PEFT", *args.only}
    if "engine F32, budget of half" in needed:
        needed.add("engine F32")
    wanted = [name for name in VARIANTS if name in needed]
results = {name: [] for name in wanted}
with tempfile.TemporaryDirectory() as folder:
    text = f"{folder}/text.txt"
    with open(text, "w") as f:
        for name in ("LICENSE", "README.md", "docs/plugins.md", "docs/pipelines.md",
                     "docs/architecture.md", "docs/performance.md"):
            f.write(open(f"{SOURCE}/{name}").read())
    for r in range(args.rounds):
        # The other way round every second time, so that no one always runs on a warmer machine.
        for name in wanted if r % 2 == 0 else reversed(wanted):
            measured = VARIANTS[name][0](folder, text)
            results[name].append(measured)
            print(f"round {r + 1}, {name}: {measured['peak_bytes'] >> 20} MiB, seconds "
                  f"{' '.join(format(s, '.2f') for s in measured['seconds'])}", file=sys.stderr,
                  flush=True)

isa = next((r["isa"] for runs in results.values() for r in runs if "isa" in r), None)


def rate(name):
    return args.batch * args.sequence / statistics.median(
        s for r in results[name] for s in r["seconds"][1:])


def peak(name):
    return statistics.median(r["peak_bytes"] for r in results[name])


def apart(name):
    reference = results["PEFT"][0]["loss"]
    if any(len(r["loss"]) != len(reference) for r in results[name]):
        sys.exit(f"{name} did not do {len(reference)} steps")
    return max(abs(a - b) for r in results[name] for a, b in zip(r["loss"], reference))


def agrees(name):
    return apart(name) <= VARIANTS[name][2]


print(f"LoRA r=8 on all linears, batch {args.batch} x {args.sequence}, {args.steps} steps, "
      f"{args.rounds} rounds, {THREADS} threads, isa {isa}\n")
rows = []
for name in wanted:
    peer = VARIANTS[name][1]
    beside = peer in results
    rows.append([
        name, f"{rate(name):.0f}", f"{peak(name) / 2**20:.0f}",
        f"{apart(name):.1e}" + ("" if agrees(name) else " (too much)"), peer if beside else "",
        f"{rate(name) / rate(peer):.2f}x" if beside else "",
        f"{peak(name) / peak(peer):.2f}x" if beside else ""])
table(["", "tokens/s", "peak, MiB", "largest difference of a loss from PEFT's", "beside",
       "tokens/s", "peak"], rows)

bounds = Bounds()


def compare(figure, name, peer, bound, what, most):
    label = f"{what}: {name} / {peer}"
    if name not in results or peer not in results:
        bounds.leave_out(label, "not measured")
        return
    bounds.add(label, figure(name) / figure(peer), bound, most, agrees(name) and agrees(peer))


def memory(name, peer, bound):
    compare(peak, name, peer, bound, "peak", True)


def speed(name, peer, bound):
    compare(rate, name, peer, bound, "tokens/s", False)


lean, none = "engine F32, every block", "engine F32"
memory(lean, "PEFT", 0.20)
memory(lean, "PEFT, checkpointing", 0.35)
memory(lean, "PEFT tuned, checkpointing", 0.8)
memory("engine INT8 base, every block", "PEFT", 0.15)
speed(none, "PEFT", 1.5)
speed(none, "PEFT tuned", 1.3)
narrow = "engine BF16"
if isa and "amx_bf16" in isa:
    speed(narrow, "PEFT bf16 autocast", 3)
    speed(narrow, none, 2)
elif isa and "avx512_bf16" in isa:
    speed(narrow, "PEFT bf16 autocast", 1.5)
else:
    bounds.leave_out(f"tokens/s: {narrow}", "no products of bf16 on this processor")
# 1 / (1 + what it may take more).
speed("engine F32, budget of half", none, 1 / 1.20)
speed(lean, none, 1 / 1.40)
for name in wanted:
    if not name.startswith("engine"):
        continue
    if any("estimated_bytes" not in r for r in results[name]):
        bounds.leave_out(f"estimated peak of {name}", "MISSED: the trainer gave no estimate")
        continue
    wrong = max(abs(r["estimated_bytes"] / r["peak_bytes"] - 1) for r in results[name])
    bounds.add(f"estimated peak of {name}: how far it is from VmHWM", wrong, 0.05, True)
bounds.print()
save(args.out, dict(isa=isa, threads=THREADS, batch=args.batch, sequence=args.sequence,
                    steps=args.steps, rounds=args.rounds, bounds=bounds.rows, results=results))
