"""Good JSON that asks for what cannot be: each field with each wrong value, and what is told.

Invariant: whatever is asked is answered, in the shape of an error that names the field, and leaves
no trace.
"""

import json
import unittest

from engine_server import shared

CHAT, COMPLETION, GENERATE = "/v1/chat/completions", "/v1/completions", "/api/v1/model/generate"
HI = [{"role": "user", "content": "Hi"}]
BIG = 2**63
TOO_MANY = "more than 200000 values"


def user(content):
    return [{"role": "user", "content": content}]


# messages, a piece of the message
MESSAGES = [
    (None, "messages"), ("string", "messages"), ({}, "messages"), (5, "messages"), ([], "messages"),
    ([123], "messages"), ([None], "messages"), (["x"], "messages"), ([[]], "messages"),
    ([{}], "role"), ([{"role": "user"}], "content"), ([{"content": "x"}], "role"),
    ([{"role": 123, "content": "x"}], "role"), ([{"role": None, "content": "x"}], "role"),
    ([{"role": "wizard", "content": "x"}], "wizard"), ([{"role": "", "content": "x"}], "role"),
    (user(123), "content"), (user({}), "content"), (user(True), "content"), (user([123]), "content"),
    (user([{}]), "content"), (user([{"type": "text"}]), "text"),
    (user([{"type": "text", "text": 5}]), "text"),
    (user([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]), "text alone"),
    (user([{"type": "input_audio"}]), "text alone"),
    (HI + [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}],
     "assistant"),
    (HI * 40000, "messages"), (HI * 100000, TOO_MANY),
    (HI + [{"role": "assistant", "content": None, "tool_calls": "x"}], "tool_calls"),
    (HI + [{"role": "assistant", "content": None, "tool_calls": [{}]}], "tool_calls"),
    (user("x" * 200000), "context"),
]

# A field, values that no request may have there, and a piece of the message.
WHOLE = [1.5, "10", True, [], {}, 1e300, BIG, -BIG - 1, 2**64, 2**200]
FIELDS = [
    ("max_tokens", [-1, 2**31, *WHOLE], "'max_tokens' must be"),
    ("max_completion_tokens", [-1, 2**31, *WHOLE], "'max_completion_tokens' must be"),
    ("n", [0, -1, 9, 10**6, *WHOLE], "'n' must be"),
    ("temperature", [-1, -1e-9, 2.1, 1e308, "0", True, []], "'temperature' must be"),
    ("top_p", [0, -0.1, 1.1, "1", False], "'top_p' must be"),
    ("top_k", [-2, 2**31, *WHOLE], "'top_k' must be"),
    ("min_p", [2, -0.1, "0"], "'min_p' must be"),
    ("typical_p", [2, -0.1], "'typical_p' must be"),
    ("repetition_penalty", [0, -1, 1e9, -1e9, "1"], "'repetition_penalty' must be"),
    ("presence_penalty", [1e9, -1e9, 2.1, "1"], "'presence_penalty' must be"),
    ("frequency_penalty", [1e9, -1e9, -2.1, []], "'frequency_penalty' must be"),
    ("seed", [1.5, "1", True, BIG, 2**64, [], 1e300], "'seed' must be"),
    ("min_tokens", [-1, 2**31, *WHOLE], "'min_tokens' must be"),
    ("ignore_eos", [1, "true", []], "'ignore_eos' must be"),
    ("stop", ["", [""], [None], [1], {}, 5, True, ["x", ""], ["x"] * 17, ["x"] * 100000, [["x"]],
              "x" * 1000000, ["x" * 1000000] * 5], "'stop' "),
    ("stop_token_ids", [5, "x", {}, [-1], [49152], [2**40], ["1"], [1.5], [None], [1] * 257],
     "'stop_token_ids' "),
    ("logit_bias", [5, "x", [], {"abc": 1}, {"-1": 100}, {"99999999": 1}, {"5": 1e9}, {"5": -101},
                    {"5": "1"}, {"5": None}, {"": 1}, {" 5": 1}, {"5 ": 1}, {"0x5": 1}, {"5.0": 1},
                    {"18446744073709551621": 1}, {"5": 1, "05": 1},
                    {str(i): 1 for i in range(2049)}, {str(i): 1 for i in range(9999)}],
     "'logit_bias' "),
    ("stream", ["yes", 1, [], {}], "'stream' must be"),
    ("stream_options", [5, "x", [], {"include_usage": True}], "'stream_options' "),
    ("priority", [-1, 65, *WHOLE], "'priority' must be"),
    ("timeout_ms", [0, -1, 86400001, *WHOLE], "'timeout_ms' must be"),
    ("cache_salt", [5, [], "x" * 1025], "'cache_salt' "),
    ("return_token_ids", [5, "x"], "'return_token_ids' must be"),
    ("user", [5, [], "x" * 65537], "'user' "),
    ("model", [5, [], {}, True, "x" * 10**6], "'model' "),
]
# The same, at one of the paths alone.
OF_CHAT = [
    ("logprobs", [-1, 1, 49152, 10**9, "yes"], "'logprobs' must be"),
    ("top_logprobs", [-1, 21, 10**9, 1.5, "5", True], "'top_logprobs' must be"),
    ("top_logprobs", [1, 20], "needs logprobs"),
    ("max_tokens", [0], "'max_tokens' must be"),
    ("max_completion_tokens", [0], "'max_completion_tokens' must be"),
]
OF_COMPLETION = [
    ("logprobs", [-1, 21, 49152, 10**9, 1.5, "5", []], "'logprobs' must be"),
    ("max_tokens", [0], "echo"),
    ("echo", [1, "yes"], "'echo' must be"),
    ("best_of", [2, 0, 10**6, "x"], "'best_of' must"),
    ("suffix", ["x", 5], "'suffix' "),
    ("prompt", [None, 5, True, {}, "", [], [""], [[]], [-1], [49152], [2**40], [2**64], [1.5], ["a", 1],
                [1, "a"], [[1], "a"], ["a", [1]], [[1, "a"]], [[1], [[1]]], [None], [[None]], [{}],
                [True], ["a"] * 65, [[1]] * 65, [0] * 8192, [0] * 150000, [[0] * 8193],
                "x" * 200000], "prompt"),
]

SCHEMA_FIELDS = [
    ("response_format", [5, "json", [], {"type": 123}, {"type": "sound"}, {"type": "hiccup"},
                         {"type": ""}, {"type": "json_schema"},
                         {"type": "json_schema", "json_schema": 5},
                         {"type": "json_schema", "json_schema": {"name": "x"}},
                         {"type": "json_schema", "json_schema": {"schema": 123}},
                         {"type": "regex"}, {"type": "regex", "regex": 5}], "response_format"),
    ("tools", [5, "x", {}, [5], [{}], [{"type": "function"}],
               [{"type": "function", "function": {"name": ""}}],
               [{"type": "function", "function": {"name": 5}}],
               [{"type": "function", "function": {"name": "a b"}}],
               [{"type": "function", "function": {"name": "a", "parameters": 5}}],
               [{"type": "function", "function": {"name": "a"}}] * 2,
               [{"type": "function", "function": {"name": f"a{i}"}} for i in range(129)]], "tools"),
    ("tool_choice", ["required", "sometimes", 5,
                     {"type": "function", "function": {"name": "absent"}}], "tool_choice"),
]


def short(value):
    return json.dumps(value)[:60]


class BadFieldsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = shared()
        cls.text = cls.server.complete("The server is", max_tokens=8)

    def tearDown(self):
        self.server.until_free()
        self.assertEqual(self.server.complete("The server is", max_tokens=8), self.text)

    def refused(self, path, body, piece, status=400):
        answer = self.server.post(path, body)
        self.assertEqual(answer.status, status, answer)
        self.assertIn(piece, answer.error)
        self.assertLess(len(answer.body), 2000)  # what came is not sent back
        return answer.json()["error"]

    def table(self, path, good, fields):
        self.assertEqual(self.server.post(path, {**good, "max_tokens": 1}).status, 200)
        for name, values, piece in fields:
            for value in values:
                with self.subTest(f"{path} {name} {short(value)}"):
                    error = self.refused(path, {**good, name: value}, piece)
                    self.assertEqual(error["type"], "invalid_request_error")

    def test_chat(self):
        self.table(CHAT, {"messages": HI}, FIELDS + OF_CHAT)

    def test_completion(self):
        self.table(COMPLETION, {"prompt": "Hi"}, FIELDS + OF_COMPLETION)

    def test_generate(self):
        self.table(GENERATE, {"prompt": "Hi"}, FIELDS)
        for body in ({}, {"prompt": ""}, {"prompt": 5}, {"prompt": ["x"]}, {"prompt": "x", "raw": 1}):
            with self.subTest(body):
                self.refused(GENERATE, body, "")

    def test_messages(self):
        for messages, piece in MESSAGES:
            for path in (CHAT, "/apply-template"):
                # Other paths ask less: no room in the context, and smaller bodies.
                if piece in ("context", TOO_MANY) and path != CHAT:
                    continue
                with self.subTest(f"{path} {short(messages)}"):
                    self.refused(path, {"messages": messages, "max_tokens": 1}, piece)

    def test_forms_and_tools(self):
        self.table(CHAT, {"messages": HI}, SCHEMA_FIELDS)

    def test_field_is_named(self):
        error = self.refused(CHAT, {"messages": HI, "top_k": -5}, "from -1 to 10000000, and is -5")
        self.assertEqual(error["param"], "top_k")
        error = self.refused(CHAT, {"messages": HI, "stream": True, "stream_options":
                                    {"include_usage": 5}}, "true or false")
        self.assertEqual(error["param"], "stream_options.include_usage")

    def test_refusals_come_before_the_stream(self):
        for body in ({"messages": HI, "stream": True, "temperature": 5},
                     {"messages": HI, "stream": True, "model": "nothing"},
                     {"messages": user("x " * 20000), "stream": True}):
            answer = self.server.post(CHAT, body)
            self.assertIn(answer.status, (400, 404))
            self.assertEqual(answer.headers["Content-Type"], "application/json")
            self.assertTrue(answer.error)

    def test_unknown_models(self):
        for model in ("gpt-4", "../../etc/passwd", "a\r\nb", "\u0000", "🦜", "SMOLLM2-135m-instruct"):
            with self.subTest(model):
                error = self.refused(CHAT, {"messages": HI, "model": model}, "not served here", 404)
                self.assertEqual((error["type"], error["param"]), ("not_found_error", "model"))

    def test_no_model_is_the_model(self):
        for model in ("", None):
            answer = self.server.post(CHAT, {"messages": HI, "model": model, "max_tokens": 1})
            self.assertEqual(answer.status, 200)
            self.assertEqual(answer.json()["model"], "smollm2-135m-instruct")

    def test_whole_numbers_may_have_a_point(self):
        body = {"prompt": "Hi", "max_tokens": 2.0, "n": 1.0, "top_k": 5e0, "seed": 7.0}
        self.assertEqual(self.server.good(COMPLETION, body)["usage"]["completion_tokens"], 2)

    def test_ends_of_the_ranges(self):
        for fields in ({"temperature": 2}, {"temperature": 1e-300}, {"top_k": -1}, {"top_k": 0},
                       {"top_k": 10**7}, {"n": 8}, {"min_p": 1}, {"repetition_penalty": 100},
                       {"repetition_penalty": 0.01}, {"presence_penalty": -2, "frequency_penalty": 2},
                       {"logprobs": 20}, {"stop": ["x"] * 16}, {"stop": "x" * 1024}, {"top_p": 1e-300},
                       {"stop_token_ids": [0] * 256}, {"priority": 64}, {"min_tokens": 1 << 20},
                       {"logit_bias": {str(i): -100 for i in range(2048)}},
                       {"logit_bias": {"0": 100, "49151": -100}}, {"user": "x" * 65536}):
            with self.subTest(short(fields)):
                body = {"prompt": "Hi", "max_tokens": 2, "temperature": 1, **fields}
                self.assertEqual(self.server.post(COMPLETION, body).status, 200)

    def test_every_token_forbidden_but_a_few(self):
        """Biases that leave next to nothing still leave an answer."""
        bias = {str(i): -100 for i in range(2048)}
        self.server.good(COMPLETION, {"prompt": "Hi", "logit_bias": bias, "max_tokens": 4})

    def test_largest_answer_ends_with_the_context(self):
        long = self.server.good("/tokenize", {"prompt": " a"})["tokens"] * 8180
        answer = self.server.good(COMPLETION, {"prompt": long, "max_tokens": 1 << 20,
                                               "ignore_eos": True})
        self.assertEqual(answer["usage"]["total_tokens"], 8192)
        self.assertEqual(answer["choices"][0]["finish_reason"], "length")

    def test_tokenize_and_others(self):
        for path, body in (("/tokenize", {"prompt": None}), ("/tokenize", {"prompt": ["x"]}),
                           ("/tokenize", {"prompt": "x", "add_special_tokens": 1}),
                           ("/tokenize", {"messages": 5}), ("/tokenize", {"messages": [5]}),
                           ("/detokenize", {}), ("/apply-template", {"messages": []})):
            with self.subTest(f"{path} {body}"):
                self.refused(path, body, "")


if __name__ == "__main__":
    unittest.main()
