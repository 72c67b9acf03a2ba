"""The same request has the same answer: in this process or over HTTP, alone or in a crowd, streamed
or not, with a warm cache or a cold one, with many pages or few, from the plain server or the full."""

import json
import math
import os
import subprocess
import tempfile
import threading
import unittest

from engine_server import ENGINE, SOURCE, Server, shared

PROMPTS = ["Why is the sky blue?", "Name three rivers.", "What is gravity?", "Write a short poem.",
           "Count to five.", "Who wrote Hamlet?", "Explain rain to a child.", "What is 12 + 30?"]
TOKENS = 24
ENVIRONMENT = {"GOMP_SPINCOUNT": "1000", **os.environ}


def in_process(prompts):
    """The answers of pipelines/batch.pbtxt."""
    with tempfile.TemporaryDirectory() as folder:
        asked, said = os.path.join(folder, "asked.jsonl"), os.path.join(folder, "said.jsonl")
        with open(asked, "w") as file:
            for prompt in prompts:
                file.write(json.dumps({"prompt": prompt, "max_tokens": TOKENS}) + "\n")
        subprocess.run([ENGINE, "run", os.path.join(SOURCE, "pipelines/batch.pbtxt"), asked, "--set",
                        f"out={said}"], check=True, cwd=SOURCE, env=ENVIRONMENT,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(said) as file:
            return [json.loads(line)["text"] for line in file]


class EqualTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.expected = in_process(PROMPTS)

    def under_load(self, server):
        """Every prompt four times, at once, streamed and not, while others come and go."""
        wrong, over = [], threading.Event()

        def ask(i):
            if i % 2:
                text = server.chat(PROMPTS[i % 8], max_tokens=TOKENS)
            else:
                events = server.stream("/v1/chat/completions", {
                    "messages": [{"role": "user", "content": PROMPTS[i % 8]}],
                    "temperature": 0, "max_tokens": TOKENS})
                text = "".join(c["delta"].get("content") or "" for e in events
                               for c in e["choices"])
            if text != self.expected[i % 8]:
                wrong.append((PROMPTS[i % 8], text, self.expected[i % 8]))

        def disturb(seed):
            while not over.is_set():
                server.complete(f"Once {seed}", max_tokens=30, temperature=1, seed=seed, n=2)

        others = [threading.Thread(target=disturb, args=(i,)) for i in range(3)]
        mine = [threading.Thread(target=ask, args=(i,)) for i in range(32)]
        for thread in others + mine:
            thread.start()
        for thread in mine:
            thread.join()
        over.set()
        for thread in others:
            thread.join()
        self.assertEqual(wrong, [])

    def test_full_server_under_load(self):
        self.under_load(shared())

    def test_plain_server(self):
        with Server(pipeline="pipelines/serve-plain.pbtxt") as plain:
            for prompt, text in list(zip(PROMPTS, self.expected))[:3]:
                self.assertEqual(plain.chat(prompt, max_tokens=TOKENS), text)

    def test_few_pages(self):
        # Room for about six sequences of this length; the rest give theirs away and are computed
        # again.
        with Server("kv_budget=12MiB", "max_batch=32") as server:
            self.under_load(server)
            self.assertGreater(server.metrics()["engine_batcher_preemptions_total"], 0)
            answer = server.post("/v1/completions", {"prompt": "x", "max_tokens": 8000})
            self.assertEqual(answer.status, 400)
            self.assertIn("pages", answer.error)

    def test_threads_and_batch_sizes(self):
        for settings in (("threads=1",), ("max_batch=1",), ("batch.batcher.share_prefixes=false",),
                         ("batch.batcher.max_step_tokens=64",), ("draft.bypass=true",)):
            with self.subTest(settings), Server(*settings) as server:
                for prompt, text in list(zip(PROMPTS, self.expected))[:3]:
                    self.assertEqual(server.chat(prompt, max_tokens=TOKENS), text)

    def test_scores_equal_those_in_process(self):
        window = 256
        with open(os.path.join(SOURCE, "LICENSE")) as file:
            text = file.read()[:2500]
        ids = shared().good("/tokenize", {"prompt": text})["tokens"]
        self.assertGreater(len(ids), window)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(text)
            file.flush()
            out = subprocess.run(
                [ENGINE, "perplexity", os.path.join(SOURCE, "pipelines/serve.pbtxt"), "--text",
                 file.name, "--window", str(window), "--json"], check=True, cwd=SOURCE,
                env=ENVIRONMENT, capture_output=True, text=True)
        told = json.loads(out.stdout)
        # It scores the second half of each window, with all before it in the window.
        scores = []
        for begin in range(0, len(ids) - window + 1, window):
            scored = shared().good("/v1/completions", {
                "prompt": ids[begin:begin + window], "max_tokens": 0, "echo": True, "logprobs": 1})
            logprobs = scored["choices"][0]["logprobs"]["token_logprobs"]
            self.assertEqual(len(logprobs), window)
            self.assertIsNone(logprobs[0])
            scores += logprobs[window // 2 + 1:]
        self.assertEqual(len(scores), told["scored_tokens"])
        self.assertAlmostEqual(-sum(scores) / len(scores), math.log(told["perplexity"]), delta=1e-3)

    def test_echo_gives_the_prompt_back(self):
        text = "A line,\nanother — and \u00e9\U0001f600."
        scored = shared().good("/v1/completions", {"prompt": text, "max_tokens": 0, "echo": True,
                                                   "logprobs": 2})["choices"][0]
        self.assertEqual(scored["text"], text)
        self.assertEqual(scored["logprobs"]["text_offset"][0], 0)
        for token, value, top in list(zip(scored["logprobs"]["tokens"],
                                          scored["logprobs"]["token_logprobs"],
                                          scored["logprobs"]["top_logprobs"]))[1:]:
            self.assertLessEqual(value, max(top.values()) + 1e-6, token)


if __name__ == "__main__":
    unittest.main()
