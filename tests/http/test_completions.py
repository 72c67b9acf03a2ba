"""Completions and the server's own generate: forms of prompts, echo, log-probabilities."""

import unittest

from engine_server import shared

PATH = "/v1/completions"
PROMPT = "The capital of France is"


def body(**fields):
    return {"prompt": PROMPT, "temperature": 0, "max_tokens": 8, **fields}


class CompletionsTest(unittest.TestCase):
    def setUp(self):
        self.server = shared()

    def tokens(self, text):
        return self.server.good("/tokenize", {"prompt": text})["tokens"]

    def test_shape(self):
        answer = self.server.good(PATH, body())
        self.assertTrue(answer["id"].startswith("cmpl-"))
        self.assertEqual(answer["object"], "text_completion")
        (choice,) = answer["choices"]
        self.assertEqual(set(choice), {"index", "text", "logprobs", "finish_reason"})
        self.assertIn("Paris", choice["text"])
        self.assertEqual(answer["usage"]["prompt_tokens"], len(self.tokens(PROMPT)))
        self.assertEqual(answer["usage"]["completion_tokens"], 8)

    def test_sixteen_tokens_where_nothing_is_said(self):
        answer = self.server.good(PATH, {"prompt": PROMPT, "ignore_eos": True})
        self.assertEqual(answer["usage"]["completion_tokens"], 16)

    def test_forms_of_prompts(self):
        other = "Once upon a time"
        alone = [self.server.complete(p, max_tokens=8) for p in (PROMPT, other)]
        ids = [self.tokens(p) for p in (PROMPT, other)]
        for prompt, expected in ((PROMPT, alone[:1]), ([PROMPT], alone[:1]), (ids[0], alone[:1]),
                                 ([ids[0]], alone[:1]), ([PROMPT, other], alone), (ids, alone)):
            with self.subTest(prompt):
                answer = self.server.good(PATH, body(prompt=prompt))
                self.assertEqual([c["text"] for c in answer["choices"]], expected)
                self.assertEqual([c["index"] for c in answer["choices"]],
                                 list(range(len(expected))))
                events = self.server.stream(PATH, body(prompt=prompt))
                for index, text in enumerate(expected):
                    self.assertEqual("".join(c["text"] for e in events for c in e["choices"]
                                             if c["index"] == index), text)

    def test_several_prompts_and_answers(self):
        wanted = body(prompt=[PROMPT, "Two"], n=2, temperature=1, seed=5)
        answer = self.server.good(PATH, wanted)
        self.assertEqual([c["index"] for c in answer["choices"]], [0, 1, 2, 3])
        self.assertEqual(answer["usage"]["prompt_tokens"],
                         len(self.tokens(PROMPT)) + len(self.tokens("Two")))
        self.assertEqual(answer["usage"]["completion_tokens"], 32)
        self.assertEqual(self.server.good(PATH, {**wanted, "prompt": PROMPT})["choices"],
                         answer["choices"][:2])

    def test_as_many_prompts_as_are_taken(self):
        prompts = [f"{i} and" for i in range(64)]
        answer = self.server.good(PATH, body(prompt=prompts, max_tokens=2))
        self.assertEqual(len(answer["choices"]), 64)
        for i in (0, 31, 63):
            self.assertEqual(answer["choices"][i]["text"],
                             self.server.complete(prompts[i], max_tokens=2))

    def test_echo(self):
        plain = self.server.complete(PROMPT, max_tokens=8)
        for prompt in (PROMPT, self.tokens(PROMPT)):
            answer = self.server.good(PATH, body(prompt=prompt, echo=True))
            self.assertEqual(answer["choices"][0]["text"], PROMPT + plain)
            events = self.server.stream(PATH, body(prompt=prompt, echo=True))
            self.assertEqual("".join(c["text"] for e in events for c in e["choices"]),
                             PROMPT + plain)

    def test_logprobs(self):
        choice = self.server.good(PATH, body(logprobs=2))["choices"][0]
        scores = choice["logprobs"]
        self.assertEqual(set(scores), {"tokens", "token_logprobs", "top_logprobs", "text_offset"})
        self.assertEqual({len(v) for v in scores.values()}, {8})
        self.assertEqual("".join(scores["tokens"]), choice["text"])
        for i, (token, offset) in enumerate(zip(scores["tokens"], scores["text_offset"])):
            self.assertTrue(choice["text"][offset:].startswith(token))
            self.assertEqual(len(scores["top_logprobs"][i]), 2)
            self.assertEqual(scores["top_logprobs"][i][token], scores["token_logprobs"][i])
            self.assertEqual(max(scores["top_logprobs"][i].values()), scores["token_logprobs"][i])

    def test_logprobs_of_a_stream_are_the_same(self):
        whole = self.server.good(PATH, body(logprobs=2))["choices"][0]["logprobs"]
        joined = {name: [] for name in whole}
        for event in self.server.stream(PATH, body(logprobs=2)):
            for name, values in (event["choices"][0]["logprobs"] or {}).items():
                joined[name] += values
        self.assertEqual(joined, whole)

    def test_prompt_is_scored_with_no_answer(self):
        """What evaluations ask for: the likelihood of a given text."""
        answer = self.server.good(PATH, body(echo=True, max_tokens=0, logprobs=1))
        (choice,) = answer["choices"]
        scores = choice["logprobs"]
        self.assertEqual(choice["text"], PROMPT)
        self.assertEqual("".join(scores["tokens"]), PROMPT)
        self.assertEqual(len(scores["tokens"]), len(self.tokens(PROMPT)))
        self.assertEqual(scores["text_offset"],
                         [len("".join(scores["tokens"][:i])) for i in range(len(scores["tokens"]))])
        self.assertIsNone(scores["token_logprobs"][0])
        self.assertIsNone(scores["top_logprobs"][0])
        self.assertTrue(all(v < 0 for v in scores["token_logprobs"][1:]))
        self.assertEqual(answer["usage"]["completion_tokens"], 0)
        one = self.server.good(PATH, body(echo=True, max_tokens=1, logprobs=1))["choices"][0]
        self.assertEqual(len(one["logprobs"]["tokens"]), len(scores["tokens"]) + 1)
        for a, b in zip(one["logprobs"]["token_logprobs"][1:], scores["token_logprobs"][1:]):
            self.assertAlmostEqual(a, b, places=3)

    def test_scores_of_an_answer_are_those_of_the_same_text_as_a_prompt(self):
        made = self.server.good(PATH, body(logprobs=0, return_token_ids=True))["choices"][0]
        self.assertEqual(len(made["token_ids"]), 8)
        ids = self.tokens(PROMPT) + made["token_ids"]
        given = self.server.good(PATH, body(prompt=ids, echo=True, max_tokens=0, logprobs=0))
        tail = given["choices"][0]["logprobs"]["token_logprobs"][-8:]
        for a, b in zip(made["logprobs"]["token_logprobs"], tail):
            self.assertAlmostEqual(a, b, delta=2e-3)

    def test_context_is_the_limit(self):
        context = self.server.get("/props").json()["context"]
        ids = self.tokens(" a") * context
        refused = self.server.post(PATH, body(prompt=ids))
        self.assertEqual(refused.status, 400)
        self.assertIn(f"has {context} tokens; the context of the model holds {context}",
                      refused.error)
        self.assertEqual(self.server.post(PATH, body(prompt=ids + ids[:1])).status, 400)
        last = self.server.good(PATH, body(prompt=ids[:context - 1], max_tokens=5))
        self.assertEqual(last["usage"]["prompt_tokens"], context - 1)
        self.assertEqual(last["usage"]["completion_tokens"], 1)
        self.assertEqual(last["choices"][0]["finish_reason"], "length")
        words = self.server.post(PATH, body(prompt=" a" * (context + 1)))
        self.assertEqual(words.status, 400)
        self.assertIn("context", words.error)


class GenerateTest(unittest.TestCase):
    PATH = "/api/v1/model/generate"

    def setUp(self):
        self.server = shared()

    def test_shape(self):
        answer = self.server.good(self.PATH, body(raw=True))
        self.assertEqual(answer["object"], "generation")
        self.assertEqual(answer["text"], answer["choices"][0]["text"])
        self.assertEqual(answer["text"], self.server.complete(PROMPT, max_tokens=8))
        self.assertEqual(answer["finish_reason"], "length")
        self.assertEqual(answer["usage"]["completion_tokens"], 8)
        self.assertLessEqual(answer["timings"]["first_token_s"], answer["timings"]["last_token_s"])

    def test_stream(self):
        events = self.server.stream(self.PATH, body(raw=True))
        self.assertEqual(events[-1]["usage"]["completion_tokens"], 8)
        self.assertEqual("".join(e["text"] for e in events[:-1]),
                         self.server.complete(PROMPT, max_tokens=8))
        self.assertEqual(events[-2]["finish_reason"], "length")

    def test_messages(self):
        messages = [{"role": "user", "content": "Say hello."}]
        answer = self.server.good(self.PATH, {"messages": messages, "temperature": 0,
                                              "max_new_tokens": 8})
        self.assertEqual(answer["text"], self.server.chat("Say hello.", max_tokens=8))

    def test_prompt_and_messages_exclude_each_other(self):
        answer = self.server.post(self.PATH, body(messages=[{"role": "user", "content": "x"}]))
        self.assertEqual(answer.status, 400)
        self.assertIn("both", answer.error)


if __name__ == "__main__":
    unittest.main()
