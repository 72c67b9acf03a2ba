"""What the benchmarks of training share: runs of either side as processes of their own, and tables
of figures and of the bounds that they should keep.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
THREADS = 2
ENVIRONMENT = dict(os.environ, OMP_NUM_THREADS=str(THREADS), MKL_NUM_THREADS=str(THREADS))


def run(command, **kwargs):
    """A command's standard output and error; one that fails ends the benchmark with what it said."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          env=ENVIRONMENT, cwd=SOURCE, **kwargs)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout, done.stderr


def settings(values):
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def pipeline(name):
    return os.path.join(SOURCE, "pipelines", name + ".pbtxt")


def train(engine, name, data, folder, **values):
    """One run of a pipeline of training. Losses and seconds are those of each step, bytes are those
    of the process; what the trainer said before it began is estimated_bytes and activation_bytes."""
    metrics, report = os.path.join(folder, "metrics.jsonl"), os.path.join(folder, "report.json")
    dots = {key.replace("__", "."): value for key, value in values.items()}
    _, said = run([engine, "run", name, data, "--report", report,
                   *settings(dict(threads=THREADS, metrics=metrics, **dots))])
    lines = [json.loads(line) for line in open(metrics)]
    out = {key: [line[key] for line in lines] for key in ("loss", "seconds", "tokens")}
    out["peak_bytes"] = lines[-1]["peak_bytes"]
    out["isa"] = json.load(open(report))["isa"]
    estimate = re.search(r"estimate: at most (\d+) MiB \(activations (\d+)\)", said)
    if estimate:
        out["estimated_bytes"], out["activation_bytes"] = (int(g) << 20 for g in estimate.groups())
    return out


def machine(engine, model):
    """What the engine says that this processor computes with."""
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.json")
        run([engine, "run", pipeline("evaluate"), "--report", report,
             *settings({"model": model, "plain": "true", "data.dataset.limit": 1})])
        return json.load(open(report))["isa"]


def peft(python, model, text, folder, *flags):
    """The same of PEFT; tokens are counted as the engine counts them, by labels."""
    curve = os.path.join(folder, "curve.json")
    run([python, os.path.join(SOURCE, "tests/parity/make_lora_curve.py"), model, text, curve,
         "--measure", *flags])
    data = json.load(open(curve))
    labels = data["batch"] * (data["sequence"] - 1)
    return dict(loss=data["losses"], seconds=data["seconds"], tokens=[labels] * data["steps"],
                peak_bytes=data["peak_bytes"])


def save(path, data):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w") as f:
        json.dump(data, f, indent=1)
        f.write("\n")


def table(header, rows):
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print(flush=True)


class Bounds:
    """What figures should be. A figure whose runs do not compute the same does not count."""

    def __init__(self):
        self.rows = []

    def add(self, what, value, bound, most, counts=True):
        """`most`: the bound is from above, else from below."""
        kept = value <= bound if most else value >= bound
        self.rows.append(dict(what=what, value=value, bound=bound, most=most,
                              verdict="kept" if kept and counts else
                              "MISSED" if counts else "does not count: losses differ"))

    def leave_out(self, what, why):
        self.rows.append(dict(what=what, value=None, bound=None, most=None, verdict=why))

    def print(self):
        table(["figure", "value", "bound", "verdict"],
              [[r["what"], "-" if r["value"] is None else f"{r['value']:.3g}",
                "-" if r["bound"] is None else f"{'<=' if r['most'] else '>='} {r['bound']:g}",
                r["verdict"]] for r in self.rows])
