# LoRA training beside PEFT: the same token ids, first values, optimizer and number of threads, each
# run a process of its own, interleaved. A timing counts only where the losses agree.
#   train_vs_peft.py ENGINE MODEL.gguf PYTHON_OF_THE_PEERS OUT.json [rounds]
import json
import os
import statistics
import subprocess
import sys
import tempfile

engine, model, python, out = sys.argv[1:5]
rounds = int(sys.argv[5]) if len(sys.argv) > 5 else 2
source = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STEPS, BATCH, SEQUENCE = 3, 4, 512
environment = dict(os.environ, OMP_NUM_THREADS="2", MKL_NUM_THREADS="2")


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=source)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")


def ours(folder, text, *sets):
    metrics = f"{folder}/metrics.jsonl"
    words = ["steps=%d" % STEPS, "batch=%d" % BATCH, "sequence=%d" % SEQUENCE, "pack=NONE",
             "shuffle=false", "lr=1e-4", "threads=2", f"model={model}", f"metrics={metrics}",
             "train.trainer.schedule=CONSTANT", "train.trainer.warmup_ratio=0",
             "train.trainer.max_grad_norm=0", *sets]
    run([engine, "run", f"{source}/pipelines/finetune-qlora.pbtxt", text,
         *(w for s in words for w in ("--set", s))])
    lines = [json.loads(line) for line in open(metrics)]
    return dict(losses=[l["loss"] for l in lines], seconds=[l["seconds"] for l in lines],
                peak_bytes=lines[-1]["peak_bytes"])


def peft(folder, text, *flags):
    curve = f"{folder}/curve.json"
    run([python, f"{source}/tests/parity/make_lora_curve.py", model, text, curve, "--measure",
         "--steps", str(STEPS), "--batch", str(BATCH), "--sequence", str(SEQUENCE), *flags])
    data = json.load(open(curve))
    return {k: data[k] for k in ("losses", "seconds", "peak_bytes")}


VARIANTS = {
    "engine": lambda f, t: ours(f, t, "small.bypass=true", "lean.bypass=true"),
    "engine, checkpoint": lambda f, t: ours(f, t, "small.bypass=true"),
    "engine, INT8 base, checkpoint": lambda f, t: ours(f, t),
    "PEFT": lambda f, t: peft(f, t),
    "PEFT, checkpointing": lambda f, t: peft(f, t, "--checkpointing"),
}
results = {name: [] for name in VARIANTS}
with tempfile.TemporaryDirectory() as folder:
    text = f"{folder}/text.txt"
    with open(text, "w") as f:
        for name in ("LICENSE", "README.md", "docs/plugins.md", "docs/pipelines.md",
                     "docs/architecture.md", "docs/performance.md"):
            f.write(open(f"{source}/{name}").read())
    for _ in range(rounds):
        for name, measure in VARIANTS.items():
            results[name].append(measure(folder, text))
reference = results["PEFT"][0]["losses"]
print(f"batch {BATCH} x {SEQUENCE}, F32, 2 threads, {rounds} rounds")
for name, all_runs in results.items():
    # The first step warms up.
    rate = BATCH * SEQUENCE / statistics.median(s for r in all_runs for s in r["seconds"][1:])
    peak = statistics.median(r["peak_bytes"] for r in all_runs)
    worst = max(abs(a - b) for a, b in zip(all_runs[0]["losses"], reference))
    print(f"{name:32} {rate:7.1f} tokens/s, peak {peak / 2**20:6.0f} MiB, worst difference of a "
          f"loss {worst:.1e}", flush=True)
with open(out, "w") as f:
    json.dump(dict(batch=BATCH, sequence=SEQUENCE, steps=STEPS, rounds=rounds, results=results), f,
              indent=1)
