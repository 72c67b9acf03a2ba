"""What requests say of how tokens are chosen, and of where an answer ends."""

import threading
import unittest

from engine_server import shared

STORY = "Once upon a time"


class SamplingTest(unittest.TestCase):
    def setUp(self):
        self.server = shared()

    def whole(self, **fields):
        return self.server.good("/v1/completions",
                                {"prompt": STORY, "temperature": 0, "max_tokens": 40, **fields})

    def streamed(self, **fields):
        events = self.server.stream("/v1/completions", {"prompt": STORY, "temperature": 0,
                                                        "max_tokens": 40, **fields})
        return events, "".join(c["text"] for e in events for c in e["choices"])

    def test_stop_strings_wherever_they_lie(self):
        plain = self.whole()["choices"][0]["text"]
        for begin, size in ((0, 1), (3, 2), (5, 9), (17, 30), (len(plain) - 3, 3), (40, 1)):
            stop = plain[begin:begin + size]
            expected = plain[:plain.index(stop)]
            for stops in (stop, [stop], ["never said", stop, stop + "x"]):
                with self.subTest(stops):
                    choice = self.whole(stop=stops)["choices"][0]
                    self.assertEqual((choice["text"], choice["finish_reason"]), (expected, "stop"))
                    events, text = self.streamed(stop=stops)
                    self.assertEqual(text, expected)
                    self.assertEqual(events[-1]["choices"][0]["finish_reason"], "stop")

    def test_what_only_begins_a_stop_string_is_given_in_the_end(self):
        plain = self.whole()["choices"][0]["text"]
        stop = plain[-4:] + "and more that never comes"
        self.assertEqual(self.whole(stop=stop)["choices"][0]["text"], plain)
        events, text = self.streamed(stop=stop)
        self.assertEqual(text, plain)
        self.assertEqual(events[-1]["choices"][0]["finish_reason"], "length")

    def test_first_of_several_stop_strings_counts(self):
        plain = self.whole()["choices"][0]["text"]
        stops = [plain[20:23], plain[10:14]]
        self.assertEqual(self.whole(stop=stops)["choices"][0]["text"],
                         plain[:min(plain.index(s) for s in stops)])

    def test_stop_frees_the_engine_early(self):
        plain = self.whole()["choices"][0]["text"]
        answer = self.whole(stop=plain[4:8], max_tokens=1000)
        self.assertLess(answer["usage"]["completion_tokens"], 40)
        self.server.until_free()

    def test_stop_string_of_one_choice_leaves_the_others(self):
        fields = {"n": 3, "temperature": 1, "seed": 11}
        plain = [c["text"] for c in self.whole(**fields)["choices"]]
        stop = plain[1][6:14]
        cut = [c["text"] for c in self.whole(stop=stop, **fields)["choices"]]
        self.assertEqual(cut, [t.split(stop)[0] for t in plain])

    def test_stop_token_ids(self):
        made = self.whole(return_token_ids=True)["choices"][0]
        end = made["token_ids"][5]
        first = made["token_ids"].index(end)
        choice = self.whole(stop_token_ids=[end], return_token_ids=True)["choices"][0]
        self.assertEqual(choice["token_ids"], made["token_ids"][:first])
        self.assertEqual(choice["finish_reason"], "stop")

    def test_seed_alone_and_in_company(self):
        fields = {"temperature": 1, "seed": 42}
        alone = self.whole(**fields)["choices"][0]["text"]
        self.assertEqual(self.whole(**fields)["choices"][0]["text"], alone)
        self.assertNotEqual(self.whole(temperature=1, seed=43)["choices"][0]["text"], alone)
        self.assertNotEqual(self.whole()["choices"][0]["text"], alone)
        texts = {}

        def ask(seed):
            texts[seed] = self.whole(temperature=1, seed=seed)["choices"][0]["text"]

        crowd = [threading.Thread(target=ask, args=(seed,)) for seed in range(38, 47)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        self.assertEqual(len(texts), 9)
        self.assertEqual(texts[42], alone)
        self.assertEqual(len(set(texts.values())), 9)

    def test_seeds_at_the_ends_of_their_range(self):
        texts = set()
        for seed in (0, -1, 2**63 - 1, -(2**63)):
            a, b = (self.whole(temperature=1, seed=seed)["choices"] for _ in range(2))
            self.assertEqual(a, b)
            texts.add(a[0]["text"])
        self.assertEqual(len(texts), 4)

    def test_without_a_seed_answers_differ(self):
        self.assertEqual(len({self.whole(temperature=1)["choices"][0]["text"] for _ in range(3)}), 3)

    def test_answers_to_one_prompt_differ(self):
        several = self.whole(temperature=1, seed=5, n=8)
        texts = [c["text"] for c in several["choices"]]
        self.assertEqual(len(set(texts)), 8)
        self.assertEqual(self.whole(temperature=1, seed=5)["choices"][0]["text"], texts[0])
        self.assertEqual(several["usage"]["completion_tokens"], 8 * 40)

    def test_narrow_choice_is_no_choice(self):
        plain = self.whole()["choices"][0]["text"]
        for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1}, {"temperature": 0.001}):
            with self.subTest(narrow):
                fields = {"temperature": 1, "seed": 9, **narrow}
                self.assertEqual(self.whole(**fields)["choices"][0]["text"], plain)

    def chat(self, **fields):
        return self.server.good("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "Say hello."}], "temperature": 0,
            "max_tokens": 100, **fields})

    def test_min_tokens_puts_the_end_off(self):
        short = self.chat()["usage"]["completion_tokens"]
        self.assertLess(short, 60)
        answer = self.chat(min_tokens=short + 15)
        self.assertGreaterEqual(answer["usage"]["completion_tokens"], short + 15)

    def test_ignore_eos_goes_on_to_the_limit(self):
        answer = self.chat(ignore_eos=True)
        self.assertEqual(answer["usage"]["completion_tokens"], 100)
        self.assertEqual(answer["choices"][0]["finish_reason"], "length")

    def test_logit_bias_forces(self):
        (token,) = self.server.good("/tokenize", {"prompt": " dragon"})["tokens"]
        choice = self.whole(logit_bias={str(token): 100}, max_tokens=4,
                            return_token_ids=True)["choices"][0]
        self.assertEqual(choice["token_ids"], [token] * 4)
        self.assertEqual(choice["text"], " dragon" * 4)

    def test_logit_bias_forbids(self):
        made = self.whole(return_token_ids=True)["choices"][0]["token_ids"]
        forbidden = {str(t): -100 for t in set(made)}
        other = self.whole(logit_bias=forbidden, return_token_ids=True)["choices"][0]["token_ids"]
        self.assertFalse(set(other) & set(made))

    def test_bias_of_nothing_changes_nothing(self):
        plain = self.whole()["choices"][0]["text"]
        self.assertEqual(self.whole(logit_bias={"5": 0})["choices"][0]["text"], plain)
        self.assertEqual(self.whole(logit_bias={})["choices"][0]["text"], plain)

    def test_penalties(self):
        fields = {"prompt": "a b a b a b a b", "ignore_eos": True}
        plain = self.whole(**fields)["choices"][0]["text"]
        for penalty in ({"frequency_penalty": 2}, {"presence_penalty": 2},
                        {"repetition_penalty": 2}):
            with self.subTest(penalty):
                other = self.whole(**fields, **penalty)["choices"][0]["text"]
                self.assertNotEqual(other, plain)
        for neutral in ({"frequency_penalty": 0}, {"repetition_penalty": 1}):
            self.assertEqual(self.whole(**fields, **neutral)["choices"][0]["text"], plain)

    def test_request_ends_at_its_own_time(self):
        answer = self.server.post("/v1/completions", {
            "prompt": STORY, "max_tokens": 4000, "ignore_eos": True, "timeout_ms": 50})
        self.assertEqual(answer.status, 504)
        self.assertEqual(answer.headers["X-Should-Retry"], "false")
        self.assertTrue(answer.error)
        self.server.until_free()


if __name__ == "__main__":
    unittest.main()
