"""A real server as a child process, and the ways in which tests talk to it.

A Server is a context manager; whatever happens within, its process is gone behind it. What goes over
the wire is looked at as it is: an Answer has the status, headers and body that came.
"""

import atexit
import contextlib
import http.client
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import threading
import time

ENGINE = os.environ.get("ENGINE", "build/bin/engine")
SOURCE = os.environ.get("ENGINE_SOURCE_DIR", os.getcwd())
PATIENCE = 120  # seconds until what must happen counts as never happening


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The message of an error; its shape is checked on the way."""
        error = self.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert error["code"] == self.status, (error, self.status)
        assert isinstance(error["message"], str) and error["message"], error
        return error["message"]

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:400]!r}"


def until(condition, what, patience=PATIENCE):
    """Waits for `condition()` to give something true, and gives that."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"never: {what}")


class Raw:
    """A connection on which bytes are sent as they are, and answers are read one by one."""

    def __init__(self, server, receive_buffer=0):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect((server.host, server.port))
        if server.tls:
            self.socket = server.tls.wrap_socket(self.socket, server_hostname="localhost")
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.socket.close()

    def reset(self):
        """Leaves as a process does that is killed."""
        linger = b"\1\0\0\0\0\0\0\0"
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close()

    def send(self, data):
        """Sends, or finds that the server listens no more: then it has answered already."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def post(self, path, body, headers=()):
        self.send(post_bytes(path, body, headers))

    def head(self):
        """The status and the headers of the next answer; (None, {}) at the end."""
        line = self.file.readline()
        if not line:
            return None, {}
        return int(line.split()[1]), http.client.parse_headers(self.file)

    def answer(self, head_only=False):
        status, headers = self.head()
        if status is None:
            return None
        body = b""
        if head_only or status in (204, 304) or status < 200:
            return Answer(status, headers, body)
        if headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(self.chunks())
        elif "Content-Length" in headers:
            body = self.file.read(int(headers["Content-Length"]))
        else:
            body = self.file.read()
        return Answer(status, headers, body)

    def chunks(self):
        while True:
            size = int(self.file.readline(), 16)
            data = self.file.read(size)
            assert self.file.readline() == b"\r\n"
            if not size:
                return
            yield data

    def at_end(self):
        """Whether the server closes it, with nothing more to say."""
        try:
            return self.file.read(1) == b""
        except ConnectionError:
            return True


def post_bytes(path, body, headers=()):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json",
             f"Content-Length: {len(data)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + data


def sse_data(chunks):
    """The data of each server-sent event; every one must come whole, and in the plain form."""
    rest = b""
    for chunk in chunks:
        *parts, rest = (rest + chunk).split(b"\n\n")
        for part in parts:
            if part.startswith(b":"):
                continue
            assert part.startswith(b"data: ") and b"\n" not in part, part
            yield part[6:].decode()  # UTF-8, or it fails
    assert rest == b"", rest


def sse_events(chunks):
    """The same as JSON; [DONE] must be the end."""
    done = False
    for data in sse_data(chunks):
        assert not done, "after [DONE]: " + data
        done = data == "[DONE]"
        if not done:
            yield json.loads(data)
    assert done, "the stream ended without [DONE]"


class Server:
    def __init__(self, *settings, key=None, tls=None, pipeline="pipelines/serve.pbtxt",
                 environment=()):
        """`settings`: each one is handed on by --set. `tls`: a context of the ssl module."""
        self.key, self.tls, self.host = key, tls, "127.0.0.1"
        self.lines = []
        command = [ENGINE, "run", os.path.join(SOURCE, pipeline), "--set", "port=0"]
        for setting in settings:
            command += ["--set", setting]
        self.process = subprocess.Popen(command, cwd=SOURCE, stderr=subprocess.PIPE, text=True,
                                        stdout=subprocess.DEVNULL,
                                        env={"GOMP_SPINCOUNT": "1000", **os.environ,
                                             **dict(environment)})
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        try:
            line = until(self._listening, "the server listens")
            self.port = int(line.rsplit(":", 1)[1])
        except BaseException:
            self.kill()
            raise

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)

    def _listening(self):
        for line in list(self.lines):
            if line.startswith("listening on "):
                return line.strip()
        assert self.process.poll() is None, "the server ended: " + "".join(self.lines)
        return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()

    def alive(self):
        return self.process.poll() is None

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        """The exit code, once the process has ended."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError("the server did not end") from None

    @property
    def url(self):
        return f"http{'s' if self.tls else ''}://{self.host}:{self.port}"

    def _headers(self, headers):
        all_headers = dict(headers or {})
        if self.key and "Authorization" not in all_headers:
            all_headers["Authorization"] = "Bearer " + self.key
        return all_headers

    def ask(self, method, path, body=None, headers=None):
        """One request on a connection of its own; a body that is not bytes is sent as JSON."""
        if self.tls:
            connection = http.client.HTTPSConnection("localhost", self.port, timeout=PATIENCE,
                                                     context=self.tls)
        else:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        headers = self._headers(headers)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def get(self, path, headers=None):
        return self.ask("GET", path, None, headers)

    def post(self, path, body, headers=None):
        return self.ask("POST", path, body, headers)

    def good(self, path, body, headers=None):
        """The JSON of an answer that must be one."""
        answer = self.post(path, body, headers)
        assert answer.status == 200, answer
        return answer.json()

    def stream(self, path, body, headers=()):
        """The JSON of each event of a stream that must be one."""
        headers = [f"{name}: {value}" for name, value in self._headers(dict(headers)).items()]
        with Raw(self) as raw:
            raw.post(path, {**body, "stream": True}, headers)
            status, got = raw.head()
            assert status == 200, raw.file.read(400)
            assert got["Content-Type"].startswith("text/event-stream"), got
            return list(sse_events(raw.chunks()))

    def complete(self, prompt, **fields):
        """The text of a completion without chance, unless the fields say otherwise."""
        body = {"prompt": prompt, "temperature": 0, "max_tokens": 16, **fields}
        return self.good("/v1/completions", body)["choices"][0]["text"]

    def chat(self, text, **fields):
        body = {"messages": [{"role": "user", "content": text}], "temperature": 0,
                "max_tokens": 16, **fields}
        return self.good("/v1/chat/completions", body)["choices"][0]["message"]["content"]

    def metrics(self):
        answer = self.get("/metrics")
        assert answer.status == 200, answer
        values = {}
        for line in answer.body.decode().splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def until_metric(self, name, value):
        until(lambda: self.metrics().get(name, 0) == value,
              f"{name} is {value}; it is {self.metrics().get(name, 0)}")

    def until_free(self):
        """Nothing is under way any more: not in the server, and not in the engine."""
        for name in ("engine_http_requests_running", "engine_batcher_running_sequences",
                     "engine_batcher_queue_requests"):
            self.until_metric(name, 0)

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))


def ready(raw):
    """Whether there is something to read, now."""
    return bool(select.select([raw.socket], [], [], 0)[0])


def trusting(certificate):
    return ssl.create_default_context(cafile=certificate)


_shared = None


def shared():
    """One server with the usual settings, for all tests that leave it as they found it."""
    global _shared
    if _shared is None:
        _shared = Server()
        atexit.register(_shared.kill)
    assert _shared.alive(), "the server ended: " + "".join(_shared.lines)
    return _shared
