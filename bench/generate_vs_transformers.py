"""Decode, prefill, cold start and peak memory beside transformers, interleaved, on the same ids.

usage: generate_vs_transformers.py ENGINE MODEL.gguf OUT.json [--rounds N] [--dtypes fp32 bf16]

Each round runs one fresh process of either side; a figure counts only when both gave the same
greedy tokens as far as the margin between the two greatest logits exceeds 1e-3 (bf16: 0.25, since
activations are rounded at other places).
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

PROMPT = ("The history of the steam engine begins with small experiments and ends with railways "
          "that crossed whole continents. ") * 26
SHORT = "The history of the steam engine begins with"

PEER = r'''
import json, os, sys, time
begin = time.perf_counter()
import torch
sys.path.insert(0, sys.argv[1])
from peer import load_model, load_tokenizer
torch.set_num_threads(int(sys.argv[4]))
tok = load_tokenizer(sys.argv[2])
model = load_model(sys.argv[2], torch.float32 if sys.argv[3] == "fp32" else torch.bfloat16).eval()
out = {}
with torch.no_grad():
    for name, count in (("short", 64), ("long", 16)):
        x = torch.tensor([tok(json.loads(sys.argv[5])[name], add_special_tokens=False)["input_ids"]])
        kw = dict(do_sample=False, use_cache=True, pad_token_id=2, eos_token_id=None,
                  attention_mask=torch.ones_like(x))
        if name == "short":
            model.generate(x, max_new_tokens=1, min_new_tokens=1, **kw)
            out["first_token_s"] = time.perf_counter() - begin
        model.generate(x, max_new_tokens=4, min_new_tokens=4, **kw)
        t = time.perf_counter(); model.generate(x, max_new_tokens=1, min_new_tokens=1, **kw)
        first = time.perf_counter() - t
        t = time.perf_counter()
        y = model.generate(x, max_new_tokens=count, min_new_tokens=count, **kw)
        total = time.perf_counter() - t
        out[name] = dict(ids=y[0, x.shape[1]:].tolist(), prompt=x.shape[1],
                         decode=(count - 1) / (total - first), prefill=x.shape[1] / first)
for line in open("/proc/self/status"):
    if line.startswith("VmHWM:"): out["peak_bytes"] = int(line.split()[1]) * 1024
print(json.dumps(out))
'''


def engine_round(engine, model, source, dtype, threads, folder):
    """Three prompts of each length in one process, of which the last, warm one counts."""
    out = {}
    begin = time.perf_counter()
    process = subprocess.Popen(
        [engine, "run", f"{source}/pipelines/generate.pbtxt", SHORT, "--set", f"model={model}",
         "--set", f"dtype={dtype}", "--set", "base.load.weights=DECODED", "--set", f"threads={threads}", "--set", "chat=false",
         "--set", "max_tokens=1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdout.read(1)
    out["first_token_s"] = time.perf_counter() - begin
    process.communicate()
    for name, prompt, count in (("short", SHORT, 64), ("long", PROMPT, 16)):
        path = f"{folder}/prompts"
        with open(path, "w") as f:
            f.write((prompt + "\n") * 3)
        done = subprocess.run(
            [engine, "run", f"{source}/pipelines/generate.pbtxt", "--set", f"ask.file={path}",
             "--set", f"model={model}", "--set", f"dtype={dtype}", "--set", "base.load.weights=DECODED", "--set", f"threads={threads}",
             "--set", "chat=false", "--set", "loop.ignore_eos=true", "--set", "format=JSONL",
             "--set", f"max_tokens={count}"], capture_output=True, text=True, check=True)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        last = lines[-1]
        out[name] = dict(ids=last["ids"], margins=last["margins"], prompt=len(last["prompt_ids"]),
                         decode=last["tokens_per_s"])
        out["peak_bytes"] = max(out.get("peak_bytes", 0), last["peak_bytes"])
    # Prefill by itself: two processes that differ by three more warm prompts.
    times = []
    for repeats in (1, 4):
        path = f"{folder}/prompts"
        with open(path, "w") as f:
            f.write((PROMPT + "\n") * repeats)
        report = f"{folder}/report.json"
        subprocess.run(
            [engine, "run", f"{source}/pipelines/generate.pbtxt", "--set", f"ask.file={path}",
             "--set", f"model={model}", "--set", f"dtype={dtype}", "--set", "base.load.weights=DECODED", "--set", f"threads={threads}",
             "--set", "chat=false", "--set", "format=JSONL", "--set", "max_tokens=1",
             "--report", report], capture_output=True, check=True)
        times.append(json.load(open(report))["run_s"])
    out["long"]["prefill"] = 3 * out["long"]["prompt"] / (times[1] - times[0])
    return out


def same(ours, theirs, margins, least):
    for a, b, margin in zip(ours, theirs, margins):
        if margin <= least:
            return True
        if a != b:
            return False
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine")
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtypes", nargs="+", default=["fp32", "bf16"])
    args = parser.parse_args()
    source = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folder = tempfile.mkdtemp()
    results = {}
    for dtype in args.dtypes:
        rounds = []
        for _ in range(args.rounds):
            ours = engine_round(args.engine, args.model, source,
                                "F32" if dtype == "fp32" else "BF16", args.threads, folder)
            done = subprocess.run(
                [sys.executable, "-c", PEER, f"{source}/tests/parity", args.model, dtype,
                 str(args.threads), json.dumps(dict(short=SHORT, long=PROMPT.strip()))],
                capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(done.stderr)
            theirs = json.loads(done.stdout.splitlines()[-1])
            least = 1e-3 if dtype == "fp32" else 0.25
            agree = same(ours["short"]["ids"], theirs["short"]["ids"], ours["short"]["margins"],
                         least)
            rounds.append(dict(ours=ours, theirs=theirs, same_tokens=agree))
        def median(side, *keys):
            values = []
            for r in rounds:
                v = r[side]
                for key in keys:
                    v = v[key]
                values.append(v)
            return statistics.median(values)
        table = {}
        for name, keys in (("decode tokens/s", ("short", "decode")),
                           ("prefill tokens/s", ("long", "prefill")),
                           ("first token s", ("first_token_s",)),
                           ("peak MiB", ("peak_bytes",))):
            a, b = median("ours", *keys), median("theirs", *keys)
            if name == "peak MiB":
                a, b = a / 2**20, b / 2**20
            table[name] = dict(ours=a, theirs=b, ratio=a / b)
            print(f"{dtype} {name:18} {a:10.2f} {b:10.2f}  ratio {a / b:.2f}", flush=True)
        print(f"{dtype} same tokens: {all(r['same_tokens'] for r in rounds)}")
        results[dtype] = dict(table=table, rounds=rounds)
    report = f"{folder}/report.json"
    isa = json.load(open(report))["isa"]
    print("isa", isa, "threads", args.threads)
    with open(args.out, "w") as f:
        json.dump(dict(isa=isa, threads=args.threads, results=results), f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
