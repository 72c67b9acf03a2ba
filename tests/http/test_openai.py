"""The `openai` package as its users use it; skips itself where it is not installed."""

import threading
import unittest

from engine_server import Server, until

try:
    import openai
except ImportError:
    openai = None

KEY = "a-key-of-the-test"
HELLO = [{"role": "user", "content": "Say hello."}]


@unittest.skipIf(openai is None, "the package openai is not installed")
class OpenAiTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server("api_key=" + KEY, "max_requests=4", key=KEY))
        cls.client = openai.OpenAI(base_url=cls.server.url + "/v1", api_key=KEY, max_retries=0)
        cls.addClassCleanup(cls.client.close)
        cls.model = cls.client.models.list().data[0].id

    def chat(self, **fields):
        return self.client.chat.completions.create(model=self.model, messages=HELLO, temperature=0,
                                                   max_tokens=12, **fields)

    def test_chat(self):
        answer = self.chat(logprobs=True, top_logprobs=2)
        self.assertEqual(answer.choices[0].message.role, "assistant")
        self.assertEqual(answer.choices[0].message.content,
                         self.server.chat("Say hello.", max_tokens=12))
        self.assertEqual(answer.usage.completion_tokens, 12)
        self.assertEqual(len(answer.choices[0].logprobs.content), 12)
        self.assertTrue(answer._request_id)

    def test_stream(self):
        text, usage = "", None
        for chunk in self.chat(stream=True, stream_options={"include_usage": True}):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
        self.assertEqual(text, self.server.chat("Say hello.", max_tokens=12))
        self.assertEqual(usage.completion_tokens, 12)

    def test_stream_helper(self):
        with self.client.chat.completions.stream(model=self.model, messages=HELLO, temperature=0,
                                                 max_tokens=100) as stream:
            for _ in stream:
                pass
            final = stream.get_final_completion()
        self.assertEqual(final.choices[0].message.content,
                         self.server.chat("Say hello.", max_tokens=100))

    def test_completions(self):
        answer = self.client.completions.create(model=self.model, prompt=["One", "Two"], max_tokens=3,
                                                temperature=0, logprobs=2, echo=True)
        self.assertEqual(len(answer.choices), 2)
        self.assertTrue(answer.choices[1].text.startswith("Two"))
        self.assertIsNone(answer.choices[0].logprobs.token_logprobs[0])

    def test_models(self):
        self.assertEqual(self.client.models.retrieve(self.model).id, self.model)

    def test_errors(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.chat.completions.create(model=self.model, messages=HELLO, temperature=9)
        self.assertEqual(caught.exception.param, "temperature")
        with self.assertRaises(openai.NotFoundError):
            self.client.chat.completions.create(model="gpt-4", messages=HELLO)
        with self.assertRaises(openai.AuthenticationError):
            self.client.with_options(api_key="wrong-key").models.list()
        with self.assertRaises(openai.InternalServerError) as caught:
            self.client.with_options(max_retries=2).embeddings.create(model=self.model, input="x")
        self.assertEqual(caught.exception.status_code, 501)

    def test_client_comes_again_when_told_to(self):
        """The server is full: the client waits as it is told, and is served in the end."""
        streams = [self.client.completions.create(model=self.model, prompt="x", max_tokens=3000,
                                                  stream=True, extra_body={"ignore_eos": True})
                   for _ in range(4)]
        with self.assertRaises(openai.RateLimitError):
            self.chat()
        timer = threading.Timer(0.2, lambda: [stream.close() for stream in streams])
        timer.start()
        answer = self.client.with_options(max_retries=50).chat.completions.create(
            model=self.model, messages=HELLO, max_tokens=2)
        timer.join()
        self.assertEqual(answer.usage.completion_tokens, 2)

    def test_client_that_leaves_frees_the_server(self):
        stream = self.client.completions.create(model=self.model, prompt="x", max_tokens=3000,
                                                stream=True, extra_body={"ignore_eos": True})
        next(iter(stream))
        stream.close()
        until(lambda: self.server.metrics()["engine_http_requests_running"] == 0, "it is free")


if __name__ == "__main__":
    unittest.main()
