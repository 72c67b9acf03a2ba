"""Serving over HTTP beside other servers, in one run: rounds are interleaved, and who is not
measured is stopped (SIGSTOP).

  http_servers.py ENGINE HTTP_LOAD MODEL OUT.json [--llama FOLDER] [--vllm PYTHON_BIN HF_FOLDER]
      [--figures plain,prefix,sessions,start,memory,thousand,overload] [--rounds 3] [--waves 10]

MODEL is a GGUF file that both the engine and llama-server read. --vllm names the `vllm` program and
the folder of the same model in bf16. Every answer must be whole, or the run says so.
"""
import argparse
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request

parser = argparse.ArgumentParser()
parser.add_argument("engine")
parser.add_argument("load")
parser.add_argument("model")
parser.add_argument("out")
parser.add_argument("--llama")
parser.add_argument("--vllm", nargs=2)
parser.add_argument("--figures", default="plain,prefix,sessions,start,memory,thousand,overload")
parser.add_argument("--streams", default="16,32,64")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--waves", type=int, default=10)
parser.add_argument("--distinct", type=int, default=1000, help="other prompts, for memory")
parser.add_argument("--set", action="append", default=[], help="handed to the engine")
args = parser.parse_args()
figures = args.figures.split(",")
environment = dict(os.environ, GOMP_SPINCOUNT="1000")


def isa():
    flags = open("/proc/cpuinfo").read()
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
    return [f for f in known if re.search(rf"\b{f}\b", flags)]


class Server:
    """A process that answers /health; stopped while others are measured."""

    def __init__(self, name, command, port=None, env=None, patience=60):
        self.name, self.begin = name, time.time()
        self.log = open(f"/tmp/http_servers_{re.sub('[^a-z0-9]', '_', name)}.log", "w+")
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.log,
                                        env=env or environment)
        self.port = port
        while time.time() < self.begin + patience:
            if self.process.poll() is not None:
                break
            if self.port is None:
                self.log.flush()
                found = re.search(r"listening on http://127\.0\.0\.1:(\d+)",
                                  open(self.log.name).read())
                self.port = int(found.group(1)) if found else None
            if self.port and self.healthy():
                return
            time.sleep(0.005)
        sys.exit(f"{name} did not come up; see {self.log.name}")

    def healthy(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as r:
                return r.status == 200
        except OSError:
            return False

    def ask(self):
        body = json.dumps({"model": "m", "prompt": "Hello", "max_tokens": 1, "temperature": 0})
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/completions", body.encode(),
            {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as r:
            assert r.status == 200, r.status

    def run(self, *load):
        command = [args.load, "--port", str(self.port), "--label", self.name, "--pid",
                   str(self.process.pid), *map(str, load)]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [json.loads(line) for line in lines.splitlines()]

    def cpu_by_thread(self):
        """Seconds of processor time of each thread."""
        times = {}
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            stat = open(f"/proc/{self.process.pid}/task/{task}/stat").read().rsplit(")", 1)[1].split()
            times[task] = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
        return times

    def stop(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def go(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def end(self):
        self.go()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def engine(*sets):
    command = [args.engine, "run", "pipelines/serve.pbtxt", "--set", f"model={args.model}",
               "--set", "api.http_api.model=m", "--set", "port=0"]
    for s in [*args.set, *sets]:
        command += ["--set", s]
    return Server("engine", command)


def llama(slots, port):
    return Server(f"llama-server np{slots}",
                  [f"{args.llama}/llama-server", "-m", args.model, "-t", "2", "-tb", "2", "-np",
                   str(slots), "-c", str(slots * 1024), "--host", "127.0.0.1", "--port", str(port)],
                  port)


def vllm():
    env = dict(os.environ, VLLM_CPU_KVCACHE_SPACE="4", VLLM_CPU_OMP_THREADS_BIND="0-1",
               HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1")
    return Server("vllm-cpu bf16",
                  [args.vllm[0], "serve", args.vllm[1], "--served-model-name", "m", "--host",
                   "127.0.0.1", "--port", "18399", "--dtype", "bfloat16", "--max-model-len", "2048",
                   "--max-num-seqs", "64"], 18399, env, patience=600)


results = {"machine": platform.processor() or platform.machine(), "isa": isa(), "threads": 2,
           "model": args.model, "rounds": args.rounds, "waves": args.waves, "loads": []}


def keep():
    with open(args.out, "w") as file:
        json.dump(results, file, indent=1)
        file.write("\n")


def compare(servers, title, *load):
    """Each server on the same load, in turns."""
    for round_ in range(args.rounds):
        for server in servers:
            server.go()
            for line in server.run("--seed", 100 + round_, *load):
                line["title"], line["round"] = title, round_
                results["loads"].append(line)
                print(f"{title:22} {line['label']:20} {line['streams']:4} streams  "
                      f"{line['out_tokens_per_s']:8.1f} tokens/s  ttft p50 {line['ttft_p50_s']:.3f} "
                      f"p99 {line['ttft_p99_s']:.3f} s  failed {line['failed']}  "
                      f"client {100 * line['client_cpu_share']:.1f} %  "
                      f"{line.get('rss_mib', 0):.0f} MiB", flush=True)
            server.stop()
        keep()


def summary(title, streams):
    rows = {}
    for line in results["loads"]:
        if line["title"] == title and line["streams"] == streams:
            rows.setdefault(line["label"].split(" np")[0], []).append(line["out_tokens_per_s"])
    medians = {name: statistics.median(values) for name, values in rows.items()}
    for name, value in medians.items():
        if name != "engine":
            print(f"  {title} at {streams}: engine {medians['engine']:.0f} : {name} {value:.0f} = "
                  f"{medians['engine'] / value:.2f}x")


peer = vllm() if args.vllm else None
if peer:
    peer.ask()
    peer.stop()

if "plain" in figures:
    for streams in map(int, args.streams.split(",")):
        servers = [engine()]
        if args.llama:
            servers[0].stop()
            servers.append(llama(streams, 18390))
        if peer:
            servers.append(peer)
        for server in servers:
            server.go()
            server.run("--streams", streams, "--waves", 1)
            server.stop()
        compare(servers, "plain", "--streams", streams, "--waves", args.waves)
        for server in servers:
            if server is not peer:
                server.end()
        summary("plain", streams)

for figure, load, streams in (("prefix", ["--mode", "prefix", "--streams", 16], 16),
                              ("sessions", ["--mode", "sessions", "--streams", 8], 8)):
    if figure not in figures:
        continue
    servers = [engine()]
    servers[0].stop()
    if args.llama:
        servers.append(llama(streams, 18390))
    if peer:
        servers.append(peer)
    compare(servers, figure, *load, "--waves", max(2, args.waves // 5))
    for server in servers:
        if server is not peer:
            server.end()
    summary(figure, streams)
if peer:
    peer.end()

if "start" in figures:
    starts = {}
    for round_ in range(max(3, args.rounds)):
        for make in [engine] + ([lambda: llama(16, 18390)] if args.llama else []):
            begin = time.time()
            server = make()
            server.ask()
            starts.setdefault(server.name, []).append(time.time() - begin)
            server.end()
    results["start_s"] = starts
    print("start to first answer:", {k: round(statistics.median(v), 3) for k, v in starts.items()})
    keep()

if "memory" in figures:
    memory = {}
    for make in [engine] + ([lambda: llama(64, 18390)] if args.llama else []):
        server = make()
        half = ["--mode", "distinct", "--streams", 32, "--requests", args.distinct // 2, "--out", 16]
        for load in (["--streams", "16,32,64", "--waves", 1],
                     ["--mode", "prefix", "--streams", 16, "--waves", 1],
                     ["--mode", "sessions", "--streams", 8], half, [*half, "--seed", 2]):
            for line in server.run(*load):
                memory.setdefault(server.name, []).append(
                    [line["mode"], line["streams"], line["rss_mib"], line["peak_mib"]])
                print("memory", server.name, line["mode"], line["streams"],
                      round(line["rss_mib"]), "MiB", flush=True)
        server.end()
    results["memory"] = memory
    keep()

if "thousand" in figures:
    server = engine()
    line = server.run("--streams", 1000, "--waves", 1, "--out", 8)[0]
    line["title"] = "thousand"
    line["threads"] = len(os.listdir(f"/proc/{server.process.pid}/task"))
    results["loads"].append(line)
    print(f"1,000 streams: failed {line['failed']}, {line['threads']} threads, "
          f"{line['wall_s']:.1f} s, {line['rss_mib']:.0f} MiB")
    server.end()
    keep()

if "overload" in figures:
    # What it can do, then five times as much.
    server = engine("max_requests=128")
    peak = server.run("--streams", 64, "--waves", args.waves)[0]
    capacity = peak["out_tokens_per_s"] / 64
    line = server.run("--mode", "overload", "--rate", 5 * capacity, "--seconds", 60)[0]
    line["title"], line["peak_tokens_per_s"] = "overload", peak["out_tokens_per_s"]
    results["loads"].append(line)
    print(f"overload at {5 * capacity:.0f} requests/s: goodput {line['out_tokens_per_s']:.0f} of "
          f"{peak['out_tokens_per_s']:.0f} tokens/s, {line['failed']} of {line['requests']} refused "
          f"(p99 {line.get('refused_p99_s', 0) * 1000:.1f} ms, {line.get('retry_after_told', 0)} told when), "
          f"answered in p99 {line['total_p99_s']:.1f} s")
    server.end()
    keep()

if "share" in figures:
    # Processor time of the I/O thread beside all of it: what HTTP costs.
    for streams in (1, 64):
        server = engine()
        server.run("--streams", streams, "--waves", 1)
        before = server.cpu_by_thread()
        line = server.run("--streams", streams, "--waves", args.waves)[0]
        after = server.cpu_by_thread()
        spent = sorted((after[t] - before.get(t, 0) for t in after), reverse=True)
        # Two threads compute; all others read, write and pass packets.
        share = sum(spent[2:]) / sum(spent)
        results["loads"].append({**line, "title": "share", "cpu_seconds": spent, "share": share})
        print(f"HTTP's share at {streams} streams: {100 * share:.1f} % of processor time", flush=True)
        server.end()
    keep()
