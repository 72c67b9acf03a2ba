#!/usr/bin/env python3
"""Drives a pipeline from Python, over pipes: JSON lines in, JSON lines out.

  ask.py ENGINE PIPELINE QUESTION...

Each question is answered before the next one is asked, by one engine that stays loaded.
"""
import json
import subprocess
import sys


class Engine:
    def __init__(self, engine, pipeline, **params):
        sets = [f"--set={name}={value}" for name, value in params.items()]
        self.process = subprocess.Popen(
            [engine, "run", pipeline, "-", "--set=out=-", *sets],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, prompt, **wishes):
        print(json.dumps({"prompt": prompt, **wishes}), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        return self.process.wait()


if __name__ == "__main__":
    engine = Engine(sys.argv[1], sys.argv[2], max_tokens=24)
    for question in sys.argv[3:]:
        print(question, "->", engine.ask(question)["text"])
    sys.exit(engine.close())
