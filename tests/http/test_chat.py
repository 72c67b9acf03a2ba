"""Chat completions: shapes, streams as clients rely on them, usage and log-probabilities."""

import unittest

from engine_server import Raw, shared, sse_data

PATH = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Say hello."}]


def body(**fields):
    return {"messages": HELLO, "temperature": 0, "max_tokens": 12, **fields}


def texts(events, index=0):
    """The text of one choice of a stream."""
    pieces = [c["delta"].get("content") for e in events for c in e["choices"] if c["index"] == index]
    return "".join(piece for piece in pieces if piece)


class ChatTest(unittest.TestCase):
    def setUp(self):
        self.server = shared()

    def test_shape(self):
        answer = self.server.good(PATH, body())
        self.assertEqual(set(answer), {"id", "object", "created", "model", "system_fingerprint",
                                       "choices", "usage"})
        self.assertTrue(answer["id"].startswith("chatcmpl-"))
        self.assertEqual(answer["object"], "chat.completion")
        self.assertEqual(answer["model"], "smollm2-135m-instruct")
        self.assertIsInstance(answer["created"], int)
        (choice,) = answer["choices"]
        self.assertEqual(set(choice), {"index", "message", "logprobs", "finish_reason"})
        self.assertEqual(choice["finish_reason"], "length")
        self.assertIsNone(choice["logprobs"])
        self.assertEqual(choice["message"], {"role": "assistant", "refusal": None,
                                             "content": choice["message"]["content"]})
        self.assertTrue(choice["message"]["content"])
        usage = answer["usage"]
        self.assertEqual(usage["completion_tokens"], 12)
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + 12)
        self.assertGreaterEqual(usage["prompt_tokens_details"]["cached_tokens"], 0)

    def test_ids_are_unique_and_told_in_a_header(self):
        answers = [self.server.post(PATH, body(max_tokens=1)) for _ in range(2)]
        self.assertNotEqual(answers[0].json()["id"], answers[1].json()["id"])
        self.assertNotEqual(answers[0].headers["X-Request-Id"], answers[1].headers["X-Request-Id"])
        own = self.server.post(PATH, body(max_tokens=1), {"X-Request-Id": "my-own_1"})
        self.assertEqual(own.headers["X-Request-Id"], "my-own_1")
        for answer in answers:
            cached = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
            self.assertEqual(answer.headers["X-Cache-Tokens"], str(cached))
        self.assertGreater(cached, 0)

    def test_prompt_tokens_are_those_of_the_template(self):
        prompt = self.server.good("/apply-template", {"messages": HELLO})["prompt"]
        self.assertIn("Say hello.", prompt)
        tokens = self.server.good("/tokenize", {"messages": HELLO})
        answer = self.server.good(PATH, body())
        self.assertEqual(answer["usage"]["prompt_tokens"], tokens["count"])
        plain = self.server.good("/v1/completions", {"prompt": tokens["tokens"], "max_tokens": 12,
                                                     "temperature": 0})
        self.assertEqual(plain["choices"][0]["text"], answer["choices"][0]["message"]["content"])
        again = self.server.good("/tokenize", {"prompt": prompt, "add_special_tokens": False})
        self.assertEqual(again["tokens"], tokens["tokens"])

    def test_stop_is_the_end_of_the_answer(self):
        answer = self.server.good(PATH, body(max_tokens=200))
        self.assertEqual(answer["choices"][0]["finish_reason"], "stop")
        self.assertNotIn("<|im_end|>", answer["choices"][0]["message"]["content"])

    def test_stream(self):
        events = self.server.stream(PATH, body())
        self.assertEqual(len({(e["id"], e["created"], e["model"], e["object"]) for e in events}), 1)
        self.assertEqual(events[0]["object"], "chat.completion.chunk")
        self.assertNotIn("usage", events[0])
        for event in events:
            (choice,) = event["choices"]
            self.assertEqual(choice["index"], 0)
        self.assertEqual(events[0]["choices"][0]["delta"], {"role": "assistant", "content": None})
        for event in events[1:-1]:
            (choice,) = event["choices"]
            self.assertEqual(set(choice["delta"]), {"content"})
            self.assertIsNone(choice["finish_reason"])
        self.assertEqual(events[-1]["choices"][0]["delta"], {})
        self.assertEqual(events[-1]["choices"][0]["finish_reason"], "length")
        whole = self.server.good(PATH, body())
        self.assertEqual(texts(events), whole["choices"][0]["message"]["content"])

    def test_stream_tells_usage_where_it_is_asked_for(self):
        events = self.server.stream(PATH, body(stream_options={"include_usage": True}))
        self.assertEqual(events[-1]["choices"], [])
        self.assertEqual(events[-1]["usage"]["completion_tokens"], 12)
        for event in events[:-1]:
            self.assertIsNone(event["usage"])
            self.assertEqual(len(event["choices"]), 1)
        self.assertEqual(events[-1]["id"], events[0]["id"])

    def test_stream_of_several_choices(self):
        wanted = body(n=3, temperature=1, seed=7)
        events = self.server.stream(PATH, wanted)
        whole = self.server.good(PATH, wanted)["choices"]
        self.assertEqual([c["index"] for c in whole], [0, 1, 2])
        for index in range(3):
            own = [c for e in events for c in e["choices"] if c["index"] == index]
            self.assertEqual(own[0]["delta"], {"role": "assistant", "content": None})
            self.assertNotIn("role", [k for c in own[1:] for k in c["delta"]])
            self.assertEqual([c["finish_reason"] for c in own].count(None), len(own) - 1)
            self.assertEqual(texts(events, index), whole[index]["message"]["content"])
        self.assertEqual(len({c["message"]["content"] for c in whole}), 3)

    def test_stream_never_splits_a_character(self):
        # Each emoji takes several tokens; sse_data() decodes every event by itself.
        ids = self.server.good("/tokenize", {"prompt": "🦜🐉"})["tokens"]
        self.assertGreater(len(ids), 2)
        wanted = {"prompt": ids, "max_tokens": 40, "temperature": 1, "seed": 3, "stream": True,
                  "logit_bias": {str(i): 30 for i in ids}}
        with Raw(self.server) as raw:
            raw.post("/v1/completions", wanted)
            self.assertEqual(raw.head()[0], 200)
            pieces = list(sse_data(raw.chunks()))
        self.assertEqual(pieces[-1], "[DONE]")
        whole = self.server.good("/v1/completions", {**wanted, "stream": False})
        streamed = self.server.stream("/v1/completions", wanted)
        self.assertEqual("".join(c["text"] for e in streamed for c in e["choices"]),
                         whole["choices"][0]["text"])

    def test_logprobs(self):
        wanted = body(logprobs=True, top_logprobs=3)
        choice = self.server.good(PATH, wanted)["choices"][0]
        scores = choice["logprobs"]["content"]
        self.assertEqual(len(scores), 12)
        told = b"".join(bytes(s["bytes"]) for s in scores).decode()
        self.assertEqual(told, choice["message"]["content"])
        for score in scores:
            self.assertEqual(set(score), {"token", "logprob", "bytes", "top_logprobs"})
            self.assertEqual(len(score["top_logprobs"]), 3)
            likely = [t["logprob"] for t in score["top_logprobs"]]
            self.assertEqual(likely, sorted(likely, reverse=True))
            self.assertEqual(score["logprob"], likely[0])  # without chance, the likeliest came
            self.assertEqual(score["token"], score["top_logprobs"][0]["token"])
        events = self.server.stream(PATH, wanted)
        streamed = [s for e in events for c in e["choices"] if c["logprobs"]
                    for s in c["logprobs"]["content"]]
        self.assertEqual(streamed, scores)

    def test_logprobs_of_the_chosen_alone(self):
        choice = self.server.good(PATH, body(logprobs=True))["choices"][0]
        self.assertEqual({len(s["top_logprobs"]) for s in choice["logprobs"]["content"]}, {0})

    def test_contents_in_parts_and_older_names(self):
        parts = [{"role": "user", "content": [{"type": "text", "text": "Say "},
                                              {"type": "text", "text": "hello."}]}]
        plain = self.server.good(PATH, body())["choices"][0]["message"]["content"]
        self.assertTrue(plain)
        rendered = [self.server.good("/apply-template", {"messages": m})["prompt"]
                    for m in (parts, HELLO)]
        self.assertEqual(rendered[0].replace("\n", "").replace(" ", ""),
                         rendered[1].replace("\n", "").replace(" ", ""))
        answer = self.server.good(PATH, {"messages": HELLO, "temperature": 0,
                                         "max_completion_tokens": 12})
        self.assertEqual(answer["choices"][0]["message"]["content"], plain)

    def test_roles(self):
        messages = [{"role": "system", "content": "You are a parrot."},
                    {"role": "user", "content": "Hello"},
                    {"role": "assistant", "content": "Hello, hello!"},
                    {"role": "user", "content": "Bye", "name": "ann"}]
        prompt = self.server.good("/apply-template", {"messages": messages})["prompt"]
        places = [prompt.index(m["content"]) for m in messages]
        self.assertEqual(places, sorted(places))
        self.assertEqual(self.server.post(PATH, body(messages=messages)).status, 200)
        messages[0]["role"] = "developer"
        self.assertEqual(self.server.good("/apply-template", {"messages": messages})["prompt"],
                         prompt)

    def test_unknown_fields_and_nulls_are_taken(self):
        plain = self.server.good(PATH, body())["choices"]
        strange = body(store=True, metadata={"a": "b"}, service_tier="auto", x=[[]], stop=None,
                       seed=None, n=None, stream=None, logit_bias=None, tools=None,
                       response_format=None, user="ann", top_p=None)
        self.assertEqual(self.server.good(PATH, strange)["choices"], plain)

    def test_empty_contents(self):
        for content in ("", None, []):
            messages = [{"role": "user", "content": content}]
            self.assertIn(self.server.post(PATH, body(messages=messages)).status, (200, 400))

    def test_old_protocol_gets_a_stream_up_to_the_close(self):
        with Raw(self.server) as raw:
            import json
            data = json.dumps(body(stream=True)).encode()
            raw.send(b"POST %s HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d"
                     b"\r\n\r\n%s" % (PATH.encode(), len(data), data))
            answer = raw.answer()
        self.assertEqual(answer.status, 200)
        self.assertNotIn("Transfer-Encoding", answer.headers)
        self.assertTrue(answer.body.endswith(b"data: [DONE]\n\n"))


if __name__ == "__main__":
    unittest.main()
