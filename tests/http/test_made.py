"""Servers of other pipelines than the shipped one: adapters as models, a node that hangs."""

import os
import subprocess
import tempfile
import threading
import unittest

from engine_server import ENGINE, SOURCE, Raw, Server, until

ENVIRONMENT = {"GOMP_SPINCOUNT": "1000", **os.environ}


def serve_with(folder, *changes):
    """A copy of serve.pbtxt with other texts in it."""
    with open(os.path.join(SOURCE, "pipelines/serve.pbtxt")) as file:
        text = file.read()
    for old, new in changes:
        assert text.count(old) == 1, (old, text.count(old))
        text = text.replace(old, new)
    path = os.path.join(folder, "serve.pbtxt")
    with open(path, "w") as file:
        file.write(text)
    return path


class AdaptersTest(unittest.TestCase):
    def test_adapters_are_models_and_do_not_leak(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, seed in (("tone", 1), ("law", 2)):
                subprocess.run(
                    [ENGINE, "run", os.path.join(SOURCE, "pipelines/finetune-lora.pbtxt"), "--set",
                     "steps=3", "--set", "batch=2", "--set", "lr=2e-2", "--set", f"seed={seed}",
                     "--set", f"out={folder}/{name}"],
                    check=True, cwd=SOURCE, env=ENVIRONMENT, stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL)
            chain = 'resource { name: "chat"   from: "base" kv_cache { } }'
            path = serve_with(folder, (chain, f"""
resource {{ name: "tone"  from: "base"  lora {{ adapter: "{folder}/tone"  name: "tone" }} }}
resource {{ name: "law"   from: "tone"  lora {{ adapter: "{folder}/law"   name: "law" }} }}
resource {{ name: "chat"  from: "law"   kv_cache {{ }} }}"""))
            with Server(pipeline=path) as server:
                base = server.get("/props").json()["model"]
                names = [m["id"] for m in server.get("/v1/models").json()["data"]]
                self.assertEqual(names, [base, "tone", "law"])
                self.assertEqual(server.get("/v1/models/tone").json()["parent"], base)
                alone = {name: server.chat("What is gravity?", model=name, max_tokens=30)
                         for name in names}
                self.assertEqual(len(set(alone.values())), 3, alone)
                self.assertEqual(server.chat("What is gravity?", max_tokens=30), alone[base])
                wrong = []

                def ask(i):
                    name = names[i % 3]
                    text = server.chat("What is gravity?", model=name, max_tokens=30)
                    if text != alone[name]:
                        wrong.append((name, text))

                threads = [threading.Thread(target=ask, args=(i,)) for i in range(18)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                self.assertEqual(wrong, [])
                answer = server.post("/v1/chat/completions", {
                    "model": "tome", "messages": [{"role": "user", "content": "x"}]})
                self.assertEqual(answer.status, 404)
                self.assertIn("tone, law", answer.error)


class StallTest(unittest.TestCase):
    def test_liveness_means_that_tokens_move(self):
        plugins = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(ENGINE))),
                               "tests/misbehave")
        if not os.path.exists(os.path.join(plugins, "misbehave.so")):
            self.skipTest("the misbehaving plugin is not built")
        with tempfile.TemporaryDirectory() as folder:
            path = serve_with(
                folder, ('node { name: "encode"   tokenize { }      use: "chat"     in: "request"',
                         'node { name: "hang"  misbehave { how: HANG }  in: "request"  out: "late" }\n'
                         'node { name: "encode"   tokenize { }      use: "chat"     in: "late"'))
            with Server("api.http_api.stall_seconds=1", pipeline=path,
                        environment={"ENGINE_PLUGIN_PATH": plugins}) as server:
                self.assertEqual(server.get("/livez").status, 200)
                with Raw(server) as raw:
                    raw.post("/v1/completions", {"prompt": "x"})
                    until(lambda: server.get("/livez").status == 503, "/livez fails")
                    self.assertEqual(server.get("/livez").json()["status"], "stalled")
                    self.assertEqual(server.get("/health").status, 200)
                # Its client left: nothing is waited for any more.
                until(lambda: server.get("/livez").status == 200, "/livez recovers")


if __name__ == "__main__":
    unittest.main()
