"""Bytes that are no good HTTP, and bodies that are no good JSON, sent as they are.

Each must have its answer; the server goes on, and says the same as before.
"""

import gzip
import unittest

from engine_server import Raw, post_bytes, ready, shared

CHAT = "/v1/chat/completions"
HEAD = b"Host: x\r\nContent-Type: application/json\r\n"
GOOD = b'{"prompt":"Hi","max_tokens":1}'


def post(headers, body=b"", path=b"/v1/completions", version=b"1.1"):
    return b"POST " + path + b" HTTP/" + version + b"\r\n" + HEAD + headers + b"\r\n" + body


def sized(body):
    return post(b"Content-Length: %d\r\n" % len(body), body)


def get(path, headers=b"", method=b"GET"):
    return method + b" " + path + b" HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n"


# name, body of a POST to completions, status, a piece of the message
BODIES = [
    ("nothing", b"", 400, "empty"),
    ("a brace", b"{", 400, "no JSON"),
    ("a list", b"[]", 400, "JSON object, and is a list"),
    ("a text", b'"x"', 400, "JSON object, and is a text"),
    ("null", b"null", 400, "JSON object, and is null"),
    ("NaN", b'{"prompt":"x","temperature":NaN}', 400, "no JSON"),
    ("Infinity", b'{"prompt":"x","temperature":-Infinity}', 400, "no JSON"),
    ("too large a number", b'{"prompt":"x","temperature":1e999}', 400, "no JSON"),
    ("the same key twice", b'{"prompt":"x","prompt":"y"}', 400, "there twice"),
    ("the same key twice, written differently", b'{"prompt":"x","\\u0070rompt":"y"}', 400, "twice"),
    ("a byte order mark within", b'{\xef\xbb\xbf"prompt":"x"}', 400, "no JSON"),
    ("UTF-16", '{"prompt":"x"}'.encode("utf-16"), 400, "no JSON"),
    ("no UTF-8", b'{"prompt":"\xff"}', 400, "no JSON"),
    ("too long a form of UTF-8", b'{"prompt":"\xc0\xaf"}', 400, "no JSON"),
    ("a surrogate as UTF-8", b'{"prompt":"\xed\xa0\x80"}', 400, "no JSON"),
    ("half a pair", b'{"prompt":"\\ud800"}', 400, "no JSON"),
    ("the other half", b'{"prompt":"\\udc00"}', 400, "no JSON"),
    ("a zero byte", b'{"prompt":"\x00"}', 400, "no JSON"),
    ("two documents", b'{"prompt":"x"}{}', 400, "no JSON"),
    ("a comma too much", b'{"prompt":"x",}', 400, "no JSON"),
    ("single quotes", b"{'prompt':'x'}", 400, "no JSON"),
    ("10,000 lists within one another", b'{"x":' + b"[" * 10000 + b"]" * 10000 + b"}", 400, "deep"),
    ("a million of them", b'{"x":' + b"[" * 1000000, 400, "deep"),
    ("10,000 objects", b'{"x":' * 10000 + b"1" + b"}" * 10000, 400, "deep"),
    ("100,000 keys", b"{" + b",".join(b'"%d":1' % i for i in range(100000)) + b"}", 400, "members"),
    ("2,000,000 values", b'{"x":[' + b"1," * 2000000 + b"1]}", 400, "values"),
    ("gzip", gzip.compress(b'{"prompt":"' + b"x" * 1000000 + b'"}'), 400, "no JSON"),
]

# name, bytes, status, a piece of the message. Some end what is on the connection.
REQUESTS = [
    ("no such HTTP", b"hello\r\n\r\n", 400, "no HTTP request"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n", 400, "no HTTP"),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "no HTTP request"),
    ("HTTP/0.9", b"GET / HTTP/0.9\r\n\r\n", 400, "no HTTP request"),
    ("HTTP/1.2", b"GET /health HTTP/1.2\r\nHost: x\r\n\r\n", 400, "no HTTP request"),
    ("no version", b"GET /health\r\n\r\n", 400, "no HTTP request"),
    ("a space before the colon", get(b"/health", b"A : b\r\n"), 400, "no HTTP request"),
    ("a folded line is read as one", get(b"/health", b"A: b\r\n c\r\n"), (200, 400), ""),
    ("a zero byte in a header", get(b"/health", b"A: \x00\r\n"), 400, "no HTTP request"),
    ("no host", b"GET /health HTTP/1.1\r\n\r\n", 400, "Host"),
    ("two hosts", get(b"/health", b"Host: y\r\n"), 400, "Host"),
    ("a bare line feed", b"GET /health HTTP/1.1\nHost: x\n\n", 400, "no HTTP request"),
    ("a length that is a word", post(b"Content-Length: x\r\n"), 400, "no HTTP request"),
    ("a length below zero", post(b"Content-Length: -1\r\n"), 400, "no HTTP request"),
    ("a length with a sign", post(b"Content-Length: +5\r\n", b"12345"), 400, "no HTTP request"),
    ("a length beyond 64 bits", post(b"Content-Length: 99999999999999999999\r\n"), 400, "no HTTP"),
    ("a length of 2^63", post(b"Content-Length: 9223372036854775808\r\n"), 413, "8388608"),
    ("100 MB", post(b"Content-Length: 100000000\r\n", b"x" * 1000), 413, "8388608"),
    ("two lengths", post(b"Content-Length: 2\r\nContent-Length: 3\r\n", b"{}"), 400, ""),
    ("the same length twice", post(b"Content-Length: 2\r\nContent-Length: 2\r\n", b"{}"), 400, ""),
    ("a list of lengths", post(b"Content-Length: 2, 2\r\n", b"{}"), 400, ""),
    ("a list of lengths that differ", post(b"Content-Length: 2, 3\r\n", b"{}"), 400, "no HTTP"),
    ("a length and chunks", post(b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
                                 b"0\r\n\r\n"), 400, ""),
    ("chunks and a length", post(b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
                                 b"0\r\n\r\n"), 400, ""),
    ("a chunk of no number", post(b"Transfer-Encoding: chunked\r\n", b"zz\r\n\r\n"), 400, "no HTTP"),
    ("a chunk below zero", post(b"Transfer-Encoding: chunked\r\n", b"-1\r\n\r\n"), 400, "no HTTP"),
    ("a chunk beyond 64 bits", post(b"Transfer-Encoding: chunked\r\n", b"f" * 17 + b"\r\n"), 400, ""),
    ("a chunk of 2^63", post(b"Transfer-Encoding: chunked\r\n", b"8" + b"0" * 15 + b"\r\n"), 413, ""),
    ("a chunk that is longer than told", post(b"Transfer-Encoding: chunked\r\n", b"1\r\nabc\r\n"),
     400, "no HTTP request"),
    ("an unknown coding of transfer", post(b"Transfer-Encoding: gzip\r\n", b"abc"), 400,
     "chunked alone"),
    ("packed chunks", post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), 400,
     "chunked alone"),
    ("1,000 headers", get(b"/health", b"".join(b"X-%d: y\r\n" % i for i in range(1000))), 200, ""),
    ("10,000 headers", get(b"/health", b"".join(b"X-%d: y\r\n" % i for i in range(10000))), 431,
     "32768"),
    ("a header of 1 MB", get(b"/health", b"X: " + b"y" * 1000000 + b"\r\n"), 431, "32768"),
    ("a path of 1 MB", get(b"/" + b"y" * 1000000), 431, "32768"),
    ("a path of 10 KB", get(b"/" + b"y" * 10000), 404, "nothing here"),
    ("an unknown expectation", post(b"Expect: a-miracle\r\nContent-Length: 2\r\n"), 417, "100-continue"),
    ("another type", post(b"Content-Length: 2\r\n", b"{}").replace(b"application/json", b"text/xml"),
     415, "application/json"),
    ("a form", post(b"Content-Length: 2\r\n", b"{}").replace(b"json", b"x-www-form-urlencoded"), 415,
     "application/json"),
    ("a packed body", post(b"Content-Encoding: gzip\r\nContent-Length: 2\r\n", b"{}"), 415,
     "Content-Encoding"),
    ("a climbing path", get(b"/v1/../admin"), 404, "nothing here"),
    ("one that climbs to a route", get(b"/v1/../health"), 404, "nothing here"),
    ("one that climbs in secret", get(b"/%2e%2e/health"), 404, "nothing here"),
    ("a session that climbs", get(b"/api/v1/sessions/..%2f..%2fetc"), (400, 404), ""),
    ("a model that climbs", get(b"/v1/models/../../etc/passwd"), 404, ""),
    ("slashes twice", get(b"//v1//chat"), 404, "nothing here"),
    ("a wrong escape", get(b"/v1/models/%zz"), 404, ""),
    ("half an escape", get(b"/health%2"), 404, "nothing here"),
    ("a zero byte as an escape", get(b"/health%00"), 404, "nothing here"),
    ("a line end as an escape", get(b"/v1/models/a%0d%0aX:%20y"), 404, ""),
    ("bytes beyond ASCII", get(b"/v1/models/\xff\xfe"), (400, 404), ""),
    ("a whole address", get(b"http://x/health"), 200, ""),
    ("an asterisk", get(b"*", method=b"OPTIONS"), 404, ""),
    ("a tunnel", b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 404, ""),
    ("a method that is none", get(b"/health", method=b"G@T"), 400, "no HTTP request"),
    ("a method in small letters", get(b"/health", method=b"get"), 405, "GET"),
    ("PUT", get(b"/health", method=b"PUT"), 405, "GET"),
    ("an upgrade is not taken", get(b"/health", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"), 200, ""),
]


class BadHttpTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = shared()
        cls.text = cls.server.complete("The server is", max_tokens=8)

    def tearDown(self):
        self.assertTrue(self.server.alive())
        self.server.until_free()
        self.assertEqual(self.server.complete("The server is", max_tokens=8), self.text)

    def check(self, name, data, statuses, piece):
        statuses = statuses if isinstance(statuses, tuple) else (statuses,)
        with self.subTest(name), Raw(self.server) as raw:
            raw.send(data)
            answer = raw.answer()
            self.assertIsNotNone(answer)
            self.assertIn(answer.status, statuses, answer)
            if answer.status >= 400:
                self.assertIn(piece, answer.error)
                self.assertLess(len(answer.body), 1000)  # what came is not sent back

    def test_bodies(self):
        for name, data, status, piece in BODIES:
            self.check(name, sized(data), status, piece)

    def test_a_byte_order_mark_is_left_out(self):
        self.check("at the beginning", sized(b"\xef\xbb\xbf" + GOOD), 200, "")

    def test_requests(self):
        for name, data, status, piece in REQUESTS:
            self.check(name, data, status, piece)

    def test_zero_character_in_texts(self):
        for data in (b'{"prompt":"a\\u0000b","max_tokens":1}',
                     b'{"prompt":"a","stop":"\\u0000","max_tokens":1}'):
            self.check(data, sized(data), 200, "")

    def test_old_protocol(self):
        with Raw(self.server) as raw:
            raw.send(b"GET /health HTTP/1.0\r\n\r\n")
            self.assertEqual(raw.answer().status, 200)
            self.assertTrue(raw.at_end())
        with Raw(self.server) as raw:
            for _ in range(2):
                raw.send(b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                self.assertEqual(raw.answer().status, 200)

    def test_connection_is_closed_where_it_is_asked_for(self):
        with Raw(self.server) as raw:
            raw.send(get(b"/health", b"Connection: close\r\n"))
            answer = raw.answer()
            self.assertEqual(answer.headers["Connection"], "close")
            self.assertTrue(raw.at_end())

    def test_connection_is_closed_behind_what_was_not_understood(self):
        with Raw(self.server) as raw:
            raw.send(post(b"Content-Length: x\r\n") + get(b"/health"))
            self.assertEqual(raw.answer().status, 400)
            self.assertTrue(raw.at_end())

    def test_large_body_of_which_all_is_sent(self):
        with Raw(self.server) as raw:
            raw.send(post(b"Content-Length: 100000000\r\n"))
            for _ in range(100):
                raw.send(b"x" * 1000000)
            answer = raw.answer()
        self.assertEqual(answer.status, 413)

    def test_chunks_of_a_body_that_grows_too_large(self):
        with Raw(self.server) as raw:
            raw.send(post(b"Transfer-Encoding: chunked\r\n"))
            for _ in range(9):
                raw.send(b"f4240\r\n" + b" " * 1000000 + b"\r\n")
            self.assertEqual(raw.answer().status, 413)

    def test_largest_body(self):
        text = b'{"max_tokens":1,"prompt":"Hi","x":"'
        body = text + b"x" * (8388608 - len(text) - 2) + b'"}'
        self.check("as large as may be", sized(body), 200, "")
        self.check("a byte more", sized(body + b" "), 413, "8388608")

    def test_chunked_body(self):
        chunks = b"".join(b"%x;ext=1\r\n%s\r\n" % (1, GOOD[i:i + 1]) for i in range(len(GOOD)))
        self.check("byte by byte", post(b"Transfer-Encoding: chunked\r\n",
                                        chunks + b"0\r\nTrailer: x\r\n\r\n"), 200, "")

    def test_byte_by_byte(self):
        with Raw(self.server) as raw:
            for byte in sized(GOOD):
                raw.send(bytes([byte]))
            self.assertEqual(raw.answer().status, 200)

    def test_pipelining(self):
        with Raw(self.server) as raw:
            raw.send(get(b"/health") * 3 + sized(GOOD) * 2 + get(b"/nothing") + get(b"/version"))
            statuses = [raw.answer().status for _ in range(7)]
            self.assertEqual(statuses, [200, 200, 200, 200, 200, 404, 200])

    def test_deep_pipelining(self):
        with Raw(self.server) as raw:
            raw.send(get(b"/health") * 5000)
            for _ in range(5000):
                self.assertEqual(raw.answer().status, 200)

    def test_pipelining_behind_a_stream(self):
        with Raw(self.server) as raw:
            raw.send(post_bytes("/v1/completions", {"prompt": "Hi", "max_tokens": 5, "stream": True}) +
                     get(b"/version"))
            answer = raw.answer()
            self.assertTrue(answer.body.endswith(b"data: [DONE]\n\n"))
            self.assertIn("version", raw.answer().json())

    def test_smuggling(self):
        """What one reader takes as a body, and another as the next request, is no request."""
        inner = get(b"/metrics")
        for headers in (b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
                        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
                        b"Transfer-Encoding: xchunked\r\n",
                        b"Transfer-Encoding : chunked\r\n"):
            with self.subTest(headers), Raw(self.server) as raw:
                raw.send(post(headers, b"0\r\n\r\n" + inner))
                self.assertGreaterEqual(raw.answer().status, 400)
                self.assertTrue(raw.at_end())

    def test_continue(self):
        with Raw(self.server) as raw:
            raw.send(post(b"Expect: 100-continue\r\nContent-Length: %d\r\n" % len(GOOD)))
            self.assertEqual(raw.answer().status, 100)
            raw.send(GOOD)
            self.assertEqual(raw.answer().status, 200)
        with Raw(self.server) as raw:
            raw.send(post(b"Expect: 100-continue\r\nContent-Length: 100000000\r\n"))
            self.assertEqual(raw.answer().status, 413)  # without having to send it

    def test_body_that_never_comes_ends_with_the_connection(self):
        with Raw(self.server) as raw:
            raw.send(post(b"Content-Length: 1000\r\n", b"{"))
            self.assertFalse(ready(raw))
        with Raw(self.server) as raw:
            raw.send(post(b"Content-Length: 1000\r\n", b"{"))
            raw.reset()

    def test_answers_hold_no_header_of_the_client(self):
        with Raw(self.server) as raw:
            raw.send(get(b"/v1/models/a%0d%0aSet-Cookie:%20x=y"))
            answer = raw.answer()
        self.assertNotIn("Set-Cookie", answer.headers)
        self.assertEqual(answer.status, 404)


if __name__ == "__main__":
    unittest.main()
