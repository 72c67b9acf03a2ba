"""The end of a server, and the way to one that speaks TLS."""

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import unittest

from engine_server import ENGINE, SOURCE, Raw, Server, sse_events, trusting, until

COMPLETION = "/v1/completions"
LONG = {"prompt": "Once upon a time", "max_tokens": 600, "ignore_eos": True, "temperature": 0}
DRAINED = 0  # a server that has drained has done its work


def texts(events):
    return "".join(c["text"] for e in events for c in e["choices"])


class DrainTest(unittest.TestCase):
    def answer(self, ask, status):
        """Of a server that has been told to drain: it knows within a tick, and may close a connection
        that it has not read from yet."""
        def tried():
            with contextlib.suppress(ConnectionError):
                answer = ask()
                return answer.status == status and answer
        return until(tried, f"it answers with {status}")

    def test_what_is_under_way_is_finished(self):
        with Server() as server:
            expected = server.complete("Once upon a time", max_tokens=60, ignore_eos=True)
            with Raw(server) as stream, Raw(server) as whole, Raw(server) as idle:
                stream.post(COMPLETION, {**LONG, "stream": True})
                whole.post(COMPLETION, LONG)
                self.assertEqual(stream.head()[0], 200)
                server.until_metric("engine_http_requests_running", 2)
                server.terminate()
                until(lambda: "".join(server.lines).count("draining"), "it drains")
                ready = self.answer(lambda: server.get("/readyz"), 503)
                self.assertEqual(ready.json()["status"], "draining")
                for path, body in ((COMPLETION, {"prompt": "x"}), ("/tokenize", {"prompt": "x"})):
                    refused = self.answer(lambda: server.post(path, body), 503)
                    self.assertIn("draining", refused.error)
                    self.assertEqual(refused.headers["Retry-After"], "1")
                    self.assertEqual(refused.headers["Connection"], "close")
                self.answer(lambda: server.get("/livez"), 200)
                self.assertTrue(idle.at_end())
                streamed = list(sse_events(stream.chunks()))
                self.assertTrue(texts(streamed).startswith(expected))
                self.assertEqual(streamed[-1]["choices"][0]["finish_reason"], "length")
                answer = whole.answer()
                self.assertEqual(answer.json()["choices"][0]["text"], texts(streamed))
                self.assertTrue(stream.at_end())
                self.assertTrue(whole.at_end())
            self.assertEqual(server.wait(), DRAINED)

    def test_idle_server_ends_at_once(self):
        with Server() as server, Raw(server) as idle:
            server.terminate()
            self.assertEqual(server.wait(), DRAINED)
            self.assertTrue(idle.at_end())

    def test_second_signal_ends_it(self):
        with Server() as server, Raw(server) as stream, Raw(server) as whole:
            endless = {**LONG, "max_tokens": 8000}
            stream.post(COMPLETION, {**endless, "stream": True})
            whole.post(COMPLETION, endless)
            self.assertEqual(stream.head()[0], 200)
            server.until_metric("engine_http_requests_running", 2)
            server.terminate()
            until(lambda: "".join(server.lines).count("draining"), "it drains")
            server.terminate()
            self.assertEqual(server.wait(), 130)
            # It ends at once, with no last words: whoever waits sees that the answer broke off.
            with self.assertRaises((AssertionError, ValueError, ConnectionError)):
                list(sse_events(stream.chunks()))
            self.assertTrue(whole.at_end())

    def test_drain_has_an_end(self):
        with Server("limits.drain_ms=300") as server, Raw(server) as stream:
            stream.post(COMPLETION, {**LONG, "max_tokens": 8000, "stream": True})
            self.assertEqual(stream.head()[0], 200)
            server.terminate()
            server.wait()
            *_, last = sse_events(stream.chunks())
            self.assertEqual(last["error"]["code"], 503)

    def test_no_child_is_left(self):
        with Server() as server:
            with open(f"/proc/{server.process.pid}/task/{server.process.pid}/children") as file:
                self.assertEqual(file.read(), "")


class StartTest(unittest.TestCase):
    """What cannot be served is told at the start, with what would be right."""

    def fails(self, *settings):
        command = [ENGINE, "run", os.path.join(SOURCE, "pipelines/serve.pbtxt"), "--set", "port=0"]
        for setting in settings:
            command += ["--set", setting]
        result = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, timeout=120)
        self.assertGreater(result.returncode, 0)
        self.assertNotIn("listening on", result.stderr)
        return result.stderr

    def test_wrong_options(self):
        with tempfile.TemporaryDirectory() as folder:
            empty, short = os.path.join(folder, "empty"), os.path.join(folder, "short")
            for path, text in ((empty, "# nothing\n"), (short, "good-enough-key\nshort\n")):
                with open(path, "w") as file:
                    file.write(text)
            for settings, piece in (
                    (["port=65536"], "65535"), (["host=not-an-address.invalid"], "host"),
                    (["api_key=short"], "8"), (["api_key=with a blank"], "character"),
                    (["api_key_file=/nothing/here"], "/nothing/here"),
                    (["api_key_file=" + empty], "holds no key"),
                    (["api_key_file=" + short], "line 2"),
                    (["api.http_api.tls_key=" + empty], "certificate is missing"),
                    (["api.http_api.tls_key=" + empty, "api.http_api.tls_certificate=" + empty],
                     "tls_certificate"), (["max_requests=0"], "max_requests")):
                with self.subTest(settings):
                    self.assertIn(piece, self.fails(*settings))

    def test_port_that_is_taken(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            self.assertIn("choose another port", self.fails(f"port={port}"))

    def test_keys_are_not_told(self):
        with Server("api_key=a-key-of-the-test", key="a-key-of-the-test") as server:
            for answer in (server.get("/openapi.json"), server.get("/props"), server.get("/metrics")):
                self.assertEqual(answer.status, 200)
                self.assertNotIn(b"a-key-of-the-test", answer.body)
            server.complete("A prompt that no log should hold.", max_tokens=2)
            said = "".join(server.lines)
            self.assertNotIn("no log should hold", said)
            self.assertNotIn("a-key-of-the-test", said)


@unittest.skipIf(shutil.which("openssl") is None, "no openssl was found to make a certificate")
class TlsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.certificate, key = (os.path.join(folder, name) for name in ("cert.pem", "key.pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                        "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                        "-keyout", key, "-out", cls.certificate], check=True, capture_output=True)
        cls.server = cls.enterClassContext(
            Server("api.http_api.tls_certificate=" + cls.certificate, "api.http_api.tls_key=" + key,
                   "api.http_api.idle_timeout_ms=1000", tls=trusting(cls.certificate)))

    def test_answers(self):
        self.assertIn("listening on https://", "".join(self.server.lines))
        self.assertEqual(self.server.get("/health").status, 200)
        body = {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 16}
        self.assertEqual(texts(self.server.stream(COMPLETION, body)),
                         self.server.complete("Once upon a time", max_tokens=16))

    def test_large_bodies_both_ways(self):
        body = {"prompt": "Hi", "max_tokens": 200, "n": 8, "logprobs": 20, "ignore_eos": True,
                "x": "y" * 4000000}
        self.assertGreater(len(json.dumps(self.server.good(COMPLETION, body))), 500000)

    def test_client_that_leaves(self):
        with Raw(self.server) as raw:
            raw.post(COMPLETION, {**LONG, "max_tokens": 4000, "stream": True})
            self.assertEqual(raw.head()[0], 200)
        self.server.until_free()

    def test_old_versions_are_refused(self):
        context = trusting(self.certificate)
        with contextlib.suppress(ValueError), self.assertWarnsRegex(DeprecationWarning, ""):
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection((self.server.host, self.server.port)) as plain:
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(plain, server_hostname="localhost")

    def test_what_is_no_tls_is_closed(self):
        for data in (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01", b"\x00" * 100000, b""):
            with self.subTest(data[:10]):
                with socket.create_connection((self.server.host, self.server.port)) as plain:
                    plain.settimeout(120)
                    with contextlib.suppress(ConnectionError):
                        plain.sendall(data)
                        while plain.recv(4096):
                            pass
        self.assertEqual(self.server.get("/health").status, 200)


if __name__ == "__main__":
    unittest.main()
