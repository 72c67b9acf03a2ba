"""A headless Chromium, driven over the DevTools protocol by a pipe.

A Browser is a context manager with one page. Everything that the page complains of, a violation of
its content security policy included, is in `complaints`.
"""

import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

PATIENCE = 120


def path():
    """Of a Chromium on this machine; None: there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


class Browser:
    def __init__(self):
        self.complaints, self.events = [], []
        self.numbers = itertools.count(1)
        self.rest = b""
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs_in, self.out = os.pipe()
        self.input, theirs_out = os.pipe()
        # The browser reads descriptor 3 and writes descriptor 4.
        script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "-", path(), "--headless=new", "--remote-debugging-pipe",
             "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--user-data-dir=" + self.profile.name,
             "about:blank"],
            pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self.session = None
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def _attach(self):
        end = time.monotonic() + PATIENCE
        pages = []
        while not pages and time.monotonic() < end:
            targets = self.call("Target.getTargets")["targetInfos"]
            pages = [t["targetId"] for t in targets if t["type"] == "page"]
        self.session = self.call("Target.attachToTarget", targetId=pages[0],
                                 flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(domain + ".enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with contextlib.suppress(Exception):
            self.session = None
            self.call("Browser.close")
        self.process.kill()
        self.process.wait()
        os.close(self.out)
        os.close(self.input)
        self.profile.cleanup()

    def _message(self):
        """The next message; one ends with a zero byte."""
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.rest:
            assert select.select([self.input], [], [], end - time.monotonic())[0], "silence"
            data = os.read(self.input, 1 << 16)
            assert data, "the browser ended"
            self.rest += data
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def _keep(self, event):
        name, params = event["method"], event["params"]
        if name == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif name == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"])
        self.events.append(event)

    def call(self, method, **params):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            if "method" in answer:
                self._keep(answer)

    def event(self, name):
        """Waits for the next event of that name, and gives its parameters."""
        while True:
            for i, event in enumerate(self.events):
                if event["method"] == name:
                    del self.events[:i + 1]
                    return event["params"]
            message = self._message()
            if "method" in message:
                self._keep(message)

    def open(self, url):
        self.events.clear()
        failed = self.call("Page.navigate", url=url).get("errorText")
        assert not failed, failed
        self.event("Page.loadEventFired")

    def run(self, script):
        """The value of an expression of JavaScript in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True,
                           awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, script):
        """Waits until the expression is true, and gives it."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            value = self.run(script)
            if value:
                return value
            time.sleep(0.02)
        raise AssertionError(f"never: {script}; the page says: {self.run('document.body.innerText')}")

    def press(self, key, code, text="", modifiers=0):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, modifiers=modifiers,
                      windowsVirtualKeyCode=code, text=text if kind == "keyDown" else "")

    def type(self, text):
        self.call("Input.insertText", text=text)
