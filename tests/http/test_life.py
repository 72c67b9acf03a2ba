"""Clients that leave, that read or write too slowly, and that are too many.

Invariant: what one client does costs the others nothing, and what it held is free again.
"""

import socket
import threading
import time
import unittest

from engine_server import Raw, Server, post_bytes, ready, shared, sse_events, until

COMPLETION = "/v1/completions"
LONG = {"prompt": "Once upon a time", "max_tokens": 4000, "ignore_eos": True, "temperature": 0}


def figure(server, name):
    return server.metrics().get(name, 0)


class LeaveTest(unittest.TestCase):
    def setUp(self):
        self.server = shared()
        self.aborted = figure(self.server, "engine_http_aborted_total")
        self.text = self.server.complete("The server is", max_tokens=8)

    def tearDown(self):
        self.server.until_free()
        self.assertEqual(self.server.complete("The server is", max_tokens=8), self.text)

    def until_aborted(self, count):
        self.server.until_free()
        self.assertEqual(figure(self.server, "engine_http_aborted_total"), self.aborted + count)

    def test_before_the_first_token(self):
        prompt = self.server.good("/tokenize", {"prompt": "a b c d"})["tokens"] * 1500
        for stream in (True, False):
            with Raw(self.server) as raw:
                raw.post(COMPLETION, {**LONG, "prompt": prompt, "stream": stream})
                until(lambda: figure(self.server, "engine_http_requests_running"), "it is under way")
        self.until_aborted(2)

    def test_within_a_stream(self):
        for leave in (Raw.close, Raw.reset):
            raw = Raw(self.server)
            raw.post(COMPLETION, {**LONG, "stream": True})
            self.assertEqual(raw.head()[0], 200)
            chunks = raw.chunks()
            for _ in range(3):
                next(chunks)
            leave(raw)
        self.until_aborted(2)
        self.assertLess(figure(self.server, 'engine_http_finished_total{reason="done"}'), 4000)

    def test_without_a_stream(self):
        with Raw(self.server) as raw:
            before = figure(self.server, "engine_batcher_generated_tokens_total")
            raw.post(COMPLETION, {**LONG, "n": 4})
            until(lambda: figure(self.server, "engine_batcher_generated_tokens_total") > before + 8,
                  "it generates")
        self.until_aborted(1)
        made = figure(self.server, "engine_batcher_generated_tokens_total") - before
        self.assertLess(made, 16000)

    def test_one_of_several_in_a_row(self):
        """Behind the request under way there is another, which is never begun."""
        with Raw(self.server) as raw:
            raw.send(post_bytes(COMPLETION, {**LONG, "stream": True}) * 2)
            self.assertEqual(raw.head()[0], 200)
        self.until_aborted(1)

    def test_many_at_once(self):
        crowd = [Raw(self.server) for _ in range(60)]
        for raw in crowd:
            raw.post(COMPLETION, {**LONG, "stream": True})
        for raw in crowd[:20]:
            self.assertEqual(raw.head()[0], 200)
        for i, raw in enumerate(crowd):
            raw.reset() if i % 2 else raw.close()
        self.server.until_free()
        self.server.until_metric("engine_http_connections", 1)  # the one that asks

    def test_others_go_on(self):
        expected = self.server.complete("Once upon a time", max_tokens=60)
        texts = []

        def ask():
            texts.append(self.server.complete("Once upon a time", max_tokens=60))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            with Raw(self.server) as raw:
                raw.post(COMPLETION, {**LONG, "stream": True})
                self.assertEqual(raw.head()[0], 200)
        for thread in threads:
            thread.join()
        self.assertEqual(texts, [expected] * 4)


class SlowTest(unittest.TestCase):
    def test_slow_reader_is_cut_and_others_go_on(self):
        with Server("api.http_api.max_unread_bytes=16384",
                    "api.http_api.write_timeout_ms=2000") as server:
            expected = server.complete("Once upon a time", max_tokens=60)
            # Eight answers at a time, with scores: more than the buffers of the kernel take.
            wide = {**LONG, "n": 8, "logprobs": 20, "stream": True, "max_tokens": 1000}
            with Raw(server, receive_buffer=4096) as raw:
                raw.post(COMPLETION, wide)
                self.assertEqual(raw.head()[0], 200)
                for _ in range(3):
                    self.assertEqual(server.complete("Once upon a time", max_tokens=60), expected)
                server.until_metric("engine_http_slow_readers_total", 1)
                server.until_free()
                with self.assertRaises((AssertionError, ConnectionError, ValueError)):
                    list(sse_events(raw.chunks()))  # it breaks off: no end, no [DONE]
            self.assertEqual(figure(server, "engine_http_aborted_total"), 1)

    def test_large_answer_waits_for_its_reader(self):
        """Only what grows while nobody reads is cut; a whole answer may be larger than the buffer."""
        with Server("api.http_api.max_unread_bytes=16384") as server:
            body = {"prompt": "Hi", "max_tokens": 200, "n": 8, "logprobs": 20, "ignore_eos": True}
            with Raw(server, receive_buffer=4096) as raw:
                raw.post(COMPLETION, body)
                server.until_metric("engine_http_requests_running", 1)
                server.until_free()
                answer = raw.answer()
            self.assertGreater(len(answer.body), 500000)
            self.assertEqual(len(answer.json()["choices"]), 8)

    def test_slow_writers(self):
        with Server("api.http_api.read_timeout_ms=300", "api.http_api.idle_timeout_ms=600") as server:
            for part in (b"P", b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX",
                         b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"):
                with self.subTest(part), Raw(server) as raw:
                    raw.send(part)
                    answer = raw.answer()
                    self.assertEqual(answer.status, 408)
                    self.assertIn("300 ms", answer.error)
                    self.assertEqual(answer.headers["X-Should-Retry"], "false")
                    self.assertTrue(raw.at_end())
            # That bytes trickle in does not put it off.
            with Raw(server) as raw:
                for i in range(200):
                    raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n" if i == 0 else b"X: y\r\n")
                    time.sleep(0.02)
                    if ready(raw):
                        break
                self.assertEqual(raw.answer().status, 408)
            with Raw(server) as raw:  # nothing is asked: it is closed without a word
                self.assertTrue(raw.at_end())
            with Raw(server) as raw:
                raw.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                self.assertEqual(raw.answer().status, 200)
                self.assertTrue(raw.at_end())
            # A request that takes its time is none of that.
            self.assertEqual(len(server.stream(COMPLETION, {**LONG, "max_tokens": 400})), 400)

    def test_long_wait_is_bridged(self):
        """A comment tells a client whose stream has nothing to say that it is alive."""
        with Server("api.http_api.ping_seconds=1", "max_batch=1") as server:
            with Raw(server) as first, Raw(server) as second:
                for raw in (first, second):
                    raw.post(COMPLETION, {**LONG, "stream": True})
                self.assertEqual(second.head()[0], 200)
                self.assertEqual(next(second.chunks()), b": ping\n\n")
            server.until_free()


class TooManyTest(unittest.TestCase):
    def test_connections(self):
        with Server("api.http_api.max_connections=5") as server:
            crowd = [Raw(server) for _ in range(5)]
            for raw in crowd:
                raw.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                self.assertEqual(raw.answer().status, 200)
            with Raw(server) as one_more:
                self.assertTrue(one_more.at_end())
            for raw in crowd:
                raw.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                self.assertEqual(raw.answer().status, 200)
                raw.close()
            until(lambda: works(server), "there is room again")
            self.assertGreater(
                figure(server, 'engine_http_rejected_total{reason="connections"}'), 0)

    def test_requests(self):
        with Server("max_requests=8") as server:
            crowd = [Raw(server) for _ in range(8)]
            for raw in crowd:
                raw.post(COMPLETION, {**LONG, "stream": True})
            server.until_metric("engine_http_requests_running", 8)
            full = server.get("/readyz")
            self.assertEqual((full.status, full.json()["status"]), (503, "full"))
            self.assertEqual(server.get("/livez").status, 200)
            self.assertEqual(server.get("/health").status, 200)
            for _ in range(20):
                # It is refused before it is looked at closely.
                answer = server.post(COMPLETION, b"no JSON at all")
                self.assertEqual(answer.status, 429)
                self.assertIn("max_requests", answer.error)
                self.assertEqual(answer.json()["error"]["type"], "rate_limit_error")
                self.assertGreaterEqual(int(answer.headers["Retry-After"]), 1)
                self.assertLessEqual(int(answer.headers["Retry-After"]), 60)
                self.assertNotIn("X-Should-Retry", answer.headers)
            # Whoever was refused is still served otherwise.
            self.assertEqual(server.get("/v1/models").status, 200)
            for raw in crowd:
                raw.close()
            server.until_free()
            self.assertEqual(server.get("/readyz").status, 200)
            self.assertEqual(server.post(COMPLETION, {"prompt": "x"}).status, 200)
            self.assertEqual(figure(server, 'engine_http_rejected_total{reason="queue"}'), 20)

    def test_storm(self):
        """Five times what is taken, each trying until it is served: nobody hangs, nobody starves."""
        with Server("max_requests=8") as server:
            expected = server.complete("Once upon a time", max_tokens=20)
            results = []

            def ask():
                while True:
                    answer = server.post(COMPLETION, {"prompt": "Once upon a time", "max_tokens": 20,
                                                      "temperature": 0})
                    if answer.status != 429:
                        return results.append(answer)
                    time.sleep(min(0.2, int(answer.headers["Retry-After-Ms"]) / 1000))

            threads = [threading.Thread(target=ask) for _ in range(40)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual({a.status for a in results}, {200})
            self.assertEqual({a.json()["choices"][0]["text"] for a in results}, {expected})
            server.until_free()


def works(server):
    try:
        return server.get("/health").status == 200
    except (ConnectionError, socket.timeout, OSError):
        return False


if __name__ == "__main__":
    unittest.main()
