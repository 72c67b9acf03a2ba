"""Sessions and keys: what is remembered, for whom, and who may ask at all."""

import os
import tempfile
import threading
import unittest

from engine_server import Raw, Server, shared, until
from test_routes import ROUTES

PATH = "/api/v1/model/generate"
OPEN = ["/health", "/v1/health", "/livez", "/readyz"]  # and nothing else
KEYS = ["first-key-of-the-test", "second-key-of-the-test"]


def body(prompt, **fields):
    return {"prompt": prompt, "raw": True, "temperature": 0, "max_tokens": 8, "ignore_eos": True,
            "return_token_ids": True, **fields}


class SessionsTest(unittest.TestCase):
    def setUp(self):
        self.server = shared()
        self.name = self.id().rsplit(".", 1)[1]
        self.path = "/api/v1/sessions/" + self.name
        self.addCleanup(self.server.ask, "DELETE", self.path)

    def ask(self, prompt, **fields):
        return self.server.good(PATH, body(prompt, **fields), {"X-Session-ID": self.name})

    def known(self, name=None):
        """What is told of a session: the engine has its last token a moment after the client."""
        path = "/api/v1/sessions/" + (name or self.name)
        answer = until(lambda: (a := self.server.get(path)).status == 200 and a, path)
        return answer.json()

    def test_history_counts(self):
        first = self.ask("My name is Ann, and")
        self.assertEqual(first["session"], self.name)
        self.assertEqual(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
        told = self.known()
        self.assertEqual(told["id"], self.name)
        self.assertEqual(told["object"], "session")
        self.assertGreaterEqual(told["tokens"], first["usage"]["total_tokens"] - 1)
        more = " So my name is"
        second = self.ask(more)
        added = self.server.good("/tokenize", {"prompt": more})["tokens"]
        self.assertEqual(second["usage"]["prompt_tokens"],
                         first["usage"]["total_tokens"] + len(added))
        self.assertGreater(second["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
        # The same as all of it asked at once.
        ids = (self.server.good("/tokenize", {"prompt": "My name is Ann, and"})["tokens"] +
               first["choices"][0]["token_ids"] + added)
        self.assertEqual(second["text"], self.server.complete(ids, max_tokens=8, ignore_eos=True))

    def test_delete_forgets(self):
        first = self.ask("Hello")
        self.known()
        answer = self.server.ask("DELETE", self.path)
        self.assertEqual(answer.json(), {"id": self.name, "object": "session", "deleted": True})
        for method in ("GET", "DELETE"):
            self.assertEqual(self.server.ask(method, self.path).status, 404)
        self.assertEqual(self.ask("Hello")["usage"]["prompt_tokens"],
                         first["usage"]["prompt_tokens"])

    def test_stream_belongs_to_the_session(self):
        self.server.stream(PATH, body("Hello"), {"X-Session-ID": self.name})
        tokens = self.known()["tokens"]
        self.assertGreater(self.ask(" you")["usage"]["prompt_tokens"], tokens)

    def test_unknown_names(self):
        for method in ("GET", "DELETE"):
            self.assertEqual(self.server.ask(method, "/api/v1/sessions/never-heard").status, 404)

    def test_bad_names(self):
        for name in ("a b", "a/b", "é", "x" * 129, "x" * 10240, "a,b", "<b>", "a\tb", ".", ".."):
            with self.subTest(name[:20]):
                with Raw(self.server) as raw:
                    raw.post(PATH, body("x"), (f"X-Session-ID: {name}",))
                    answer = raw.answer()
                self.assertEqual(answer.status, 400)
                self.assertIn("X-Session-ID", answer.error)
        for name in ("a%20b", "a%2Fb", "x" * 129, "%F0%9F%A6%9C", "a%0D%0Ab"):
            for method in ("GET", "DELETE"):
                answer = self.server.ask(method, "/api/v1/sessions/" + name)
                self.assertEqual(answer.status, 400)
                self.assertIn("1 to 128", answer.error)

    def test_good_names(self):
        for name in ("a", "A.b_c-9", "x" * 128, "CON", "...", "-"):
            self.assertEqual(self.server.post(PATH, body("x"), {"X-Session-ID": name}).status, 200)
            self.known(name)
            self.assertEqual(self.server.ask("DELETE", "/api/v1/sessions/" + name).status, 200)

    def test_requests_of_one_session_never_mix(self):
        """They queue, or one is told to come again; whoever is answered went on from a whole turn."""
        answers = []

        def ask():
            answers.append(self.server.post(PATH, body(" Go", max_tokens=20),
                                            {"X-Session-ID": self.name}))

        crowd = [threading.Thread(target=ask) for _ in range(4)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        good = [a.json()["usage"] for a in answers if a.status == 200]
        self.assertTrue(good)
        self.assertLessEqual({a.status for a in answers}, {200, 409, 429})
        grown = sorted(u["prompt_tokens"] for u in good)
        (step,) = set(b - a for a, b in zip(grown, grown[1:])) or {21}
        self.assertEqual((grown[0], step), (1, 21))

    def test_many_names(self):
        with Raw(self.server) as raw:
            for i in range(300):
                raw.post(PATH, body("x", max_tokens=1), (f"X-Session-ID: many-{i}",))
                self.assertEqual(raw.answer().status, 200)
        self.assertEqual(self.server.get("/health").status, 200)
        for i in range(300):
            self.server.ask("DELETE", f"/api/v1/sessions/many-{i}")

    def test_old_sessions_are_forgotten(self):
        with Server("api.http_api.session_seconds=1") as server:
            server.good(PATH, body("Hello"), {"X-Session-ID": "old"})
            until(lambda: server.get("/api/v1/sessions/old").status == 200, "it is there")
            server.until_metric("engine_kv_sessions", 0)
            self.assertEqual(server.get("/api/v1/sessions/old").status, 404)


class KeysTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.NamedTemporaryFile("w", suffix=".keys", delete=False) as file:
            file.write("# of the test\n\n" + "\r\n".join(KEYS) + "\r\n")
        cls.addClassCleanup(os.unlink, file.name)
        cls.server = cls.enterClassContext(
            Server("api_key_file=" + file.name, "api.http_api.max_requests_per_key=2", key=KEYS[0]))

    def status(self, path, headers, method="GET"):
        return self.server.ask(method, path, {} if method == "POST" else None,
                               {"Authorization": "", **headers}).status

    def test_open_routes(self):
        for method, path in ROUTES + [("GET", "/nothing"), ("PUT", "/v1/models")]:
            path = path.replace("{id}", "x")
            with self.subTest(path):
                self.assertEqual(self.status(path, {}, method), 200 if path in OPEN else 401)

    def test_ways_to_bring_a_key(self):
        basic = {"Authorization": "Basic bWU6Zmlyc3Qta2V5LW9mLXRoZS10ZXN0"}
        for headers in ({"Authorization": "Bearer " + KEYS[0]}, {"Authorization": "bearer " + KEYS[1]},
                        {"X-Api-Key": KEYS[1]}, basic):
            with self.subTest(headers):
                self.assertEqual(self.status("/v1/models", headers), 200)

    def test_wrong_keys(self):
        for value in ("", "Bearer", "Bearer ", "Bearer x", f"Bearer {KEYS[0]}x", "Bearer " + KEYS[0][:-1],
                      KEYS[0], "Basic " + KEYS[0], "Basic !!!", "Basic =", "Bearer " + "x" * 20000,
                      "Bearer first-key-of-the-tesT", "Digest " + KEYS[0], "Basic bWU6"):
            with self.subTest(value[:40]):
                answer = self.server.get("/v1/models", {"Authorization": value})
                self.assertEqual(answer.status, 401)
                self.assertIn("key is needed", answer.error)
                self.assertEqual(answer.json()["error"]["type"], "authentication_error")
                self.assertEqual(answer.headers["WWW-Authenticate"], "Bearer")
        page = self.server.get("/", {"Authorization": ""})
        self.assertTrue(page.headers["WWW-Authenticate"].startswith("Basic "))

    def test_sessions_are_of_a_key(self):
        first, second = ({"Authorization": "Bearer " + key, "X-Session-ID": "same"} for key in KEYS)
        one = self.server.good(PATH, body("The secret is 1234."), first)
        self.assertEqual(self.server.get("/api/v1/sessions/same", second).status, 404)
        self.assertEqual(self.server.ask("DELETE", "/api/v1/sessions/same", headers=second).status, 404)
        two = self.server.good(PATH, body("The secret is 1234."), second)
        self.assertEqual(two["usage"]["prompt_tokens"], one["usage"]["prompt_tokens"])
        # Not even whether another has asked the same can be seen.
        self.assertEqual(two["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
        path = "/api/v1/sessions/same"
        until(lambda: self.server.get(path, second).status == 200, "the second has one")
        self.assertEqual(self.server.ask("DELETE", path, headers=second).status, 200)
        self.assertEqual(self.server.get(path, second).status, 404)
        self.assertEqual(self.server.get(path, first).status, 200)

    def test_salt_keeps_prompts_apart(self):
        prompt = "A long enough prompt that is computed once, and then found again. " * 4

        def cached(salt):
            answer = self.server.good("/v1/completions", {"prompt": prompt, "max_tokens": 1,
                                                          "cache_salt": salt})
            return answer["usage"]["prompt_tokens_details"]["cached_tokens"]

        self.assertEqual(cached("a"), 0)
        self.assertGreater(cached("a"), 0)
        self.assertEqual(cached("b"), 0)

    def test_limit_of_a_key(self):
        long = {"prompt": "x", "max_tokens": 3000, "ignore_eos": True, "stream": True}
        authorization = ("Authorization: Bearer " + KEYS[0],)
        with Raw(self.server) as one, Raw(self.server) as two:
            for raw in (one, two):
                raw.post("/v1/completions", long, authorization)
                self.assertEqual(raw.head()[0], 200)
            third = self.server.post("/v1/completions", {"prompt": "x"})
            self.assertEqual(third.status, 429)
            self.assertIn("max_requests_per_key", third.error)
            self.assertGreaterEqual(int(third.headers["Retry-After"]), 1)
            self.assertGreaterEqual(int(third.headers["Retry-After-Ms"]), 1)
            other = {"Authorization": "Bearer " + KEYS[1]}
            self.assertEqual(self.server.post("/v1/completions", {"prompt": "x"}, other).status, 200)
        self.server.until_free()
        self.assertEqual(self.server.post("/v1/completions", {"prompt": "x"}).status, 200)


if __name__ == "__main__":
    unittest.main()
