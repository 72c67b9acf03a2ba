#!/usr/bin/env python3
"""soak.py ENGINE SOURCE_DIR SECONDS: mixed load with clients that leave, and what the server holds
meanwhile: descriptors, threads and memory must not grow once it is warm, and no request is stuck.

Exits with 0 when all stayed flat and nothing failed; the last line tells the figures.
"""

import json
import os
import random
import sys
import threading
import time

os.environ["ENGINE"], os.environ["ENGINE_SOURCE_DIR"] = sys.argv[1:3]
from engine_server import Raw, Server  # noqa: E402 (it reads the environment)

SECONDS = float(sys.argv[3])
WORKERS = 24
ALLOWED = {200, 400, 429}
FORM = {"type": "json_schema", "json_schema": {"schema": {
    "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string", "maxLength": 9}},
    "required": ["a", "b"], "additionalProperties": False}}}


class Worker(threading.Thread):
    def __init__(self, server, number, stop):
        super().__init__()
        self.server, self.random, self.stop = server, random.Random(number), stop
        self.done = self.left = 0
        self.wrong = []

    def words(self, most):
        return " ".join(self.random.choice(("red", "moon", "seven", "glass", "why", "to", "river"))
                        for _ in range(self.random.randint(1, most)))

    def body(self):
        body = {"prompt": self.words(120), "max_tokens": self.random.randint(1, 60),
                "temperature": self.random.choice((0, 0, 1)), "stream": self.random.random() < 0.6}
        kind = self.random.randrange(8)
        if kind == 0:
            body["guided_regex"] = "[a-z]{3,9}"
        elif kind == 1:
            body["n"] = 3
        elif kind == 2:
            body["stop"] = [" the", "moon"]
        elif kind == 3:
            body.update(logprobs=3, echo=not body["stream"])
        elif kind == 4:
            body["max_tokens"] = -1
        elif kind == 5:
            body["response_format"] = FORM
        return body

    def run(self):
        while not self.stop.is_set():
            try:
                self.once()
                self.done += 1
            except Exception as error:  # told at the end
                self.wrong.append(repr(error)[:300])

    def once(self):
        with Raw(self.server) as raw:
            if self.random.random() < 0.2:
                session = f"X-Session-ID: s{self.random.randrange(200)}"
                raw.post("/api/v1/model/generate",
                         {"prompt": self.words(20), "max_tokens": 10}, [session])
            else:
                raw.post("/v1/completions", self.body())
            if self.random.random() < 0.25:
                time.sleep(self.random.random() * 0.3)
                self.left += 1
                return raw.reset()
            answer = raw.answer()
            if answer is None or answer.status not in ALLOWED:
                self.wrong.append(repr(answer)[:300])
            elif answer.status == 200 and "event-stream" in answer.headers["Content-Type"]:
                if not answer.body.endswith(b"data: [DONE]\n\n"):
                    self.wrong.append("cut: " + repr(answer)[:300])


def held(server):
    base = f"/proc/{server.process.pid}"
    with open(f"{base}/status") as file:
        rss = next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024
    return len(os.listdir(f"{base}/fd")), len(os.listdir(f"{base}/task")), rss


def main():
    with Server("kv_budget=128MiB") as server:
        idle = held(server)
        stop = threading.Event()
        workers = [Worker(server, i, stop) for i in range(WORKERS)]
        for worker in workers:
            worker.start()
        samples, begin = [], time.time()
        while time.time() < begin + SECONDS:
            time.sleep(max(1.0, SECONDS / 120))
            samples.append((time.time() - begin, *held(server)))
        stop.set()
        for worker in workers:
            worker.join()
        server.until_free()
        time.sleep(1)
        end = held(server)
        wrong = [w for worker in workers for w in worker.wrong]
        half = [s for s in samples if s[0] > SECONDS / 2]
        early = [s for s in samples if SECONDS / 4 < s[0] <= SECONDS / 2]
        growth = max(s[3] for s in half) - max(s[3] for s in early)
        figures = {
            "seconds": SECONDS, "requests": sum(w.done for w in workers),
            "left": sum(w.left for w in workers), "wrong": len(wrong),
            "descriptors": {"idle": idle[0], "end": end[0], "most": max(s[1] for s in samples)},
            "threads": {"idle": idle[1], "end": end[1], "most": max(s[2] for s in samples)},
            "rss_mib": {"idle": round(idle[2]), "end": round(end[2]),
                        "growth_of_second_half": round(growth, 1)}}
        for line in wrong[:10]:
            print(line)
        print(json.dumps(figures))
        flat = end[0] <= idle[0] + 2 and end[1] <= idle[1] + 14 and growth < 32 and not wrong
        sys.exit(0 if flat else 1)


if __name__ == "__main__":
    main()
