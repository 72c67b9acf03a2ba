"""The page to chat with, in a real browser against a real server."""

import base64
import json
import unittest
from urllib.parse import quote

import chromium
from engine_server import Server

KEY = "a-key-of-the-test"
STATE = "document.body.dataset.state"
SHOWN = "document.querySelector('.assistant .text')"


def setUpModule():
    if chromium.path() is None:
        raise unittest.SkipTest("no chromium was found")


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server())
        cls.browser = cls.enterClassContext(chromium.Browser())

    def setUp(self):
        self.browser.complaints.clear()

    def open(self, query=""):
        self.browser.open(self.server.url + "/" + query)

    def end(self, state="done"):
        self.browser.until(f"['done', 'stopped', 'error'].includes({STATE})")
        self.assertEqual(self.browser.run(STATE), state, self.browser.run("log.innerText"))

    def calm(self):
        self.assertEqual(self.browser.complaints, [])

    def test_answer_is_that_of_the_api(self):
        text = "Name three colors, as a list."
        self.open("?temperature=0&max_tokens=40&ask=" + quote(text))
        self.end()
        answer = self.server.chat(text, max_tokens=40)
        self.assertEqual(self.browser.run("messages"),
                         [{"role": "user", "content": text},
                          {"role": "assistant", "content": answer}])
        squeezed = "".join(c for c in answer if c.isalpha())
        shown = self.browser.run(SHOWN + ".innerText")
        self.assertEqual("".join(c for c in shown if c.isalpha()), squeezed)
        note = self.browser.run("document.querySelector('.assistant .note').innerText")
        self.assertRegex(note, r"^\d+ tokens · [\d.]+ tokens/s · first after \d+ ms$")
        self.calm()

    def test_conversation_goes_on_by_keyboard(self):
        self.open("?temperature=0&max_tokens=8&system=" + quote("You are brief."))
        self.assertEqual(self.browser.run(STATE), "idle")
        self.assertEqual(self.browser.run("document.activeElement.id"), "input")
        self.browser.until("$('model').value === 'smollm2-135m-instruct'")
        for text in ("Hello!", "And again."):
            self.browser.type(text)
            self.browser.press("Enter", 13, text="\r")
            self.browser.until(f"messages.length && messages.at(-1).role === 'assistant' && "
                               f"messages.at(-2).content === '{text}'")
        said = self.browser.run("messages")
        self.assertEqual(len(said), 4)
        body = {"temperature": 0, "max_tokens": 8,
                "messages": [{"role": "system", "content": "You are brief."}, *said[:3]]}
        answer = self.server.good("/v1/chat/completions", body)
        self.assertEqual(said[3]["content"], answer["choices"][0]["message"]["content"])
        self.calm()

    def test_stop_button_frees_the_server(self):
        before = self.server.metrics()["engine_http_aborted_total"]
        self.open("?temperature=0&max_tokens=1000&ask=" + quote("Write a very long story."))
        self.browser.until(SHOWN + "?.innerText")
        self.assertEqual(self.browser.run("getComputedStyle($('send')).display"), "none")
        self.browser.run("$('stop').click()")
        self.end("stopped")
        self.server.until_free()
        self.assertEqual(self.server.metrics()["engine_http_aborted_total"], before + 1)
        self.assertTrue(self.browser.run("messages.at(-1).content"))
        self.assertIn("stopped", self.browser.run("document.querySelector('.note').innerText"))
        self.browser.run("$('max_tokens').value = 4, $('input').value = 'Go on.', submit()")
        self.end()
        self.calm()

    def test_errors_are_shown_as_they_are(self):
        self.open("?temperature=7&ask=Hello")
        self.end("error")
        answer = self.server.post("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "Hello"}], "temperature": 7})
        self.assertEqual(answer.status, 400)
        self.assertEqual(self.browser.run("document.querySelector('.error').innerText"),
                         answer.error)
        # The question is there to be asked once more, and not in the conversation.
        self.assertEqual(self.browser.run("[messages.length, $('input').value]"), [0, "Hello"])

    def markdown(self, text):
        script = f"""(() => {{ const node = document.createElement('div');
                     markdown(node, {json.dumps(text)}); return node.innerHTML; }})()"""
        return self.browser.run(script)

    def test_markdown(self):
        self.open()
        link = '<a href="https://a.b/c?d=e_f" target="_blank" rel="noreferrer nofollow">'
        for text, html in (
                ("one\ntwo\n\nthree", "<p>one\ntwo</p><p>three</p>"),
                ("# Big\n### Less ##\n#no", "<h1>Big</h1><h3>Less</h3><p>#no</p>"),
                ("**bold** *it* _it_ __bold__ ***both***",
                 "<p><strong>bold</strong> <em>it</em> <em>it</em> <strong>bold</strong> "
                 "<strong><em>both</em></strong></p>"),
                ("*a **b** c*", "<p><em>a <strong>b</strong> c</em></p>"),
                ("snake_case_name 2 * 3 * 4 **open", "<p>snake_case_name 2 * 3 * 4 **open</p>"),
                ("`a*b*` and ``x`y``", "<p><code>a*b*</code> and <code>x`y</code></p>"),
                ("```py\na = '<b>'\n\n# x\n```\nafter",
                 "<pre><code>a = '&lt;b&gt;'\n\n# x</code></pre><p>after</p>"),
                ("~~~\nnever closed", "<pre><code>never closed</code></pre>"),
                ("- a\n- b\n  - c\n\n3. d\n4. e", "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>"
                                                 '<ol start="3"><li>d</li><li>e</li></ol>'),
                ("1. a\n\n2. b", '<ol start="1"><li>a</li><li>b</li></ol>'),
                ("[a *b*](https://a.b/c?d=e_f).", f"<p>{link}a <em>b</em></a>.</p>"),
                ("a\r\nb", "<p>a\nb</p>"),
                ("", "")):
            with self.subTest(text):
                self.assertEqual(self.markdown(text), html)
        self.calm()

    def test_hostile_markdown_is_text_and_soon_done(self):
        self.open()
        for text in ("<script>document.title = 'taken'</script>",
                     "<img src=x onerror=\"document.title = 'taken'\">",
                     "[x](javascript:document.title='taken')",
                     "[x](data:text/html,<script>1</script>)",
                     "[x](https://a\" onclick=\"document.title='taken')",
                     "[x](vbscript:1) [y](file:///etc/passwd) ![z](https://a.b/c.png)",
                     "<a href=\"javascript:document.title='taken'\">x</a>",
                     "`<svg onload=alert(1)>`", "# <iframe src=/>", "- <b>x</b>"):
            with self.subTest(text):
                html = self.markdown(text)
                tags = set(self.browser.run(
                    f"[...new DOMParser().parseFromString({json.dumps(html)}, 'text/html')"
                    ".body.querySelectorAll('*')].map(n => n.tagName)"))
                self.assertLessEqual(tags, {"P", "CODE", "H1", "UL", "LI", "A"})
                self.assertNotRegex(html, r"<a href=\"(?!https?:)|<[^>]* on\w+=")
        for text in ("*a " * 20000, "`" * 20000, "[" * 20000, "- " * 20000, "**" * 20001 + "x",
                     "\n".join(" " * (2 * i) + "- x" for i in range(1000)),
                     "_a_b" * 20000, "```\n" * 20001):
            self.assertIsInstance(self.markdown(text), str)
        self.assertNotEqual(self.browser.run("document.title"), "taken")
        self.calm()

    def test_hostile_answer_is_text(self):
        """An answer, and then an error, that try to be markup, through the whole page."""
        evil = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
        chunk = {"choices": [{"index": 0, "delta": {"content": evil}, "finish_reason": None}]}
        failure = {"error": {"message": "oh " + evil}}
        body = f": ping\n\ndata: {json.dumps(chunk)}\n\ndata: {json.dumps(failure)}\n\n"
        self.browser.call("Fetch.enable", patterns=[{"urlPattern": "*/v1/chat/completions"}])
        self.addCleanup(self.browser.call, "Fetch.disable")
        self.open("?ask=" + quote("me too " + evil))
        request = self.browser.event("Fetch.requestPaused")["requestId"]
        self.browser.call("Fetch.fulfillRequest", requestId=request, responseCode=200,
                          body=base64.b64encode(body.encode()).decode())
        self.end("error")
        self.assertEqual(self.browser.run("[...document.querySelectorAll('.text, .error')]"
                                          ".map(n => n.textContent)"),
                         ["me too " + evil, evil, "oh " + evil])
        self.assertEqual(self.browser.run("log.querySelectorAll('img, script').length"), 0)
        self.assertNotEqual(self.browser.run("document.title"), "taken")
        self.calm()

    def test_markup_of_others_could_not_run(self):
        """The last line of defence: what the policy of the page forbids."""
        self.open()
        self.assertEqual(
            self.browser.run("fetch('http://127.0.0.2/').then(() => 'went', e => e.name)"),
            "TypeError")
        self.assertIn("Content Security Policy", " ".join(self.browser.complaints))

    def test_phone_and_dark(self):
        back = "getComputedStyle(document.body).backgroundColor"
        self.browser.call("Emulation.setDeviceMetricsOverride", width=360, height=640,
                          deviceScaleFactor=2, mobile=True)
        self.addCleanup(self.browser.call, "Emulation.clearDeviceMetricsOverride")
        self.open("?max_tokens=8&ask=" + "long" * 200)
        self.end()
        self.browser.run("$('settings').open = true")
        self.assertLessEqual(self.browser.run("document.documentElement.scrollWidth"), 360)
        self.assertTrue(self.browser.run(
            "(r => r.bottom <= innerHeight && r.width > 0)($('send').getBoundingClientRect())"))
        colours = set()
        for scheme in ("light", "dark"):
            feature = [{"name": "prefers-color-scheme", "value": scheme}]
            self.browser.call("Emulation.setEmulatedMedia", features=feature)
            colours.add(self.browser.run(back))
        self.browser.call("Emulation.setEmulatedMedia", features=[])
        self.assertEqual(len(colours), 2)
        self.calm()


class KeyTest(unittest.TestCase):
    def test_key_opens_the_page_and_a_wrong_one_is_told(self):
        with Server("api_key=" + KEY, key=KEY) as server, chromium.Browser() as browser:
            browser.open(f"http://me:{KEY}@{server.host}:{server.port}/?max_tokens=4&ask=Hello")
            browser.until(STATE + " === 'done'")
            browser.run("$('key').value = 'not-the-key', $('input').value = 'More.', submit()")
            browser.until(STATE + " === 'error'")
            self.assertEqual(browser.run("document.querySelector('.error').innerText"),
                             server.get("/v1/models", {"Authorization": "Bearer x"}).error)
            browser.run(f"$('key').value = '{KEY}', submit()")
            browser.until(STATE + " === 'done'")


if __name__ == "__main__":
    unittest.main()
