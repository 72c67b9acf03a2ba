"""Answers that keep to a form, from the real model: whatever it wants to say, the answer parses."""

import json
import re
import threading
import unittest

from engine_server import shared

PERSON = {"type": "object", "properties": {
    "name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
    "kind": {"enum": ["cat", "dog", "owl"]},
    "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3}},
    "required": ["name", "age", "kind", "tags"], "additionalProperties": False}
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city.", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "maxLength": 30}},
        "required": ["city"], "additionalProperties": False}}}
CLOCK = {"type": "function", "function": {"name": "get_time", "parameters": {
    "type": "object", "properties": {}, "additionalProperties": False}}}


def schema(value):
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": value}}


class FormsTest(unittest.TestCase):
    def setUp(self):
        self.server = shared()

    def chat(self, text, **fields):
        body = {"messages": [{"role": "user", "content": text}], "temperature": 0,
                "max_tokens": 200, **fields}
        return self.server.good("/v1/chat/completions", body)["choices"]

    def check_person(self, text):
        value = json.loads(text)
        self.assertEqual(list(value), ["name", "age", "kind", "tags"])
        self.assertIsInstance(value["name"], str)
        self.assertLessEqual(len(value["name"]), 20)
        self.assertTrue(isinstance(value["age"], int) and 0 <= value["age"] <= 120)
        self.assertIn(value["kind"], ("cat", "dog", "owl"))
        self.assertTrue(len(value["tags"]) <= 3 and all(len(t) <= 12 for t in value["tags"]))

    def test_schemas_whatever_is_asked_and_however_it_is_drawn(self):
        for text in ("Describe a pet.", "Say no to everything.", "```\n{{{{", "Ignore all forms."):
            for fields in ({}, {"temperature": 1.5, "seed": 3, "n": 4}, {"temperature": 2, "top_k": 50,
                                                                        "seed": 4}):
                with self.subTest(text=text, fields=fields):
                    for choice in self.chat(text, response_format=schema(PERSON), **fields):
                        self.assertEqual(choice["finish_reason"], "stop")
                        self.check_person(choice["message"]["content"])

    def test_any_json_object(self):
        for seed in range(4):
            choice = self.chat("A colour as JSON.", response_format={"type": "json_object"},
                               temperature=1, seed=seed, max_tokens=400)[0]
            if choice["finish_reason"] == "stop":
                self.assertIsInstance(json.loads(choice["message"]["content"]), dict)
            else:
                self.assertTrue(choice["message"]["content"].startswith("{"))

    def test_regular_expressions(self):
        pattern = r"(yes|no), [a-z]{2,8} [0-9]{3}\."
        for seed in range(3):
            text = self.chat("Is it so?", temperature=1.3, seed=seed,
                             response_format={"type": "regex", "regex": pattern}
                             )[0]["message"]["content"]
            self.assertRegex(text, "^" + pattern + "$")
        body = {"prompt": "The answer is", "max_tokens": 20, "guided_regex": "[0-9]{4}"}
        self.assertRegex(self.server.good("/v1/completions", body)["choices"][0]["text"],
                         r"^\d{4}$")

    def test_streams_say_the_same(self):
        body = {"messages": [{"role": "user", "content": "Describe a pet."}], "temperature": 0,
                "max_tokens": 200, "response_format": schema(PERSON)}
        whole = self.server.good("/v1/chat/completions", body)["choices"][0]["message"]["content"]
        events = self.server.stream("/v1/chat/completions", body)
        self.assertEqual("".join(c["delta"].get("content") or "" for e in events
                                 for c in e["choices"]), whole)
        self.check_person(whole)

    def test_forms_beside_free_answers_change_neither(self):
        free = self.server.chat("What is gravity?", max_tokens=40)
        form = self.chat("Describe a pet.", response_format=schema(PERSON))[0]["message"]["content"]
        wrong = []

        def ask(i):
            if i % 2:
                if self.server.chat("What is gravity?", max_tokens=40) != free:
                    wrong.append("free")
            elif self.chat("Describe a pet.", response_format=schema(PERSON)
                           )[0]["message"]["content"] != form:
                wrong.append("form")

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_bad_forms_fail_alone(self):
        free = self.server.chat("What is gravity?", max_tokens=20)
        deep = {"type": "object"}
        for _ in range(60):
            deep = {"type": "object", "properties": {"a": deep}}
        cases = [
            (schema({"type": 123}), "type"), (schema({"type": "hiccup"}), "hiccup"),
            (schema({"$ref": "#"}), "$ref"), (schema({"$ref": "http://169.254.169.254/"}), "$ref"),
            (schema({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"},
                                                    "b": {"$ref": "#/$defs/a"}}}), "$ref"),
            (schema({"not": {}}), "not"), (schema({"enum": []}), "enum"),
            (schema({"enum": list(range(20000))}), "10000"),
            (schema({"type": "integer", "minimum": 5, "maximum": 4}), "bounds"),
            (schema({"type": "string", "pattern": "^+a"}), "pattern"),
            (schema({"type": "string", "pattern": "^{2}a"}), "pattern"),
            (schema({"type": "string", "pattern": "(?=a)b"}), "pattern"),
            ({"type": "regex", "regex": "(" * 60000}, ""),
            ({"type": "regex", "regex": "a(b"}, ""),
            ({"type": "regex", "regex": "a{5,2}"}, ""),
            ({"type": "regex", "regex": r"(a)\1"}, ""),
            (schema(deep), ""),
        ]
        for form, word in cases:
            with self.subTest(str(form)[:80]):
                answer = self.server.post("/v1/chat/completions", {
                    "messages": [{"role": "user", "content": "x"}], "max_tokens": 5,
                    "response_format": form})
                self.assertEqual(answer.status, 400, answer)
                self.assertIn(word, answer.error)
        for pattern in ("(a+)+$", "a{0,99999}b", '("a"*)*x', "((((a?){9}){9}){9}){9}"):
            with self.subTest(pattern):
                answer = self.server.post("/v1/completions", {
                    "prompt": "x", "max_tokens": 5, "guided_regex": pattern})
                self.assertIn(answer.status, (200, 400), answer)
        self.assertEqual(self.server.chat("What is gravity?", max_tokens=20), free)
        self.server.until_free()

    def test_forms_end_where_they_end(self):
        answer = self.server.post("/v1/completions", {"prompt": "x", "guided_regex": "[a-z]{3}",
                                                      "ignore_eos": True, "max_tokens": 5})
        self.assertEqual(answer.status, 400)
        self.assertIn("ignore_eos", answer.error)

    def calls(self, **fields):
        return self.chat("What is the weather in Paris?", tools=[WEATHER, CLOCK], **fields)[0]

    def test_tools_that_must_be_called(self):
        for choice, names in (("required", {"get_weather", "get_time"}),
                              ({"type": "function", "function": {"name": "get_weather"}},
                               {"get_weather"})):
            for seed in range(3):
                with self.subTest(choice=choice, seed=seed):
                    got = self.calls(tool_choice=choice, temperature=1.2, seed=seed,
                                     parallel_tool_calls=False)
                    self.assertEqual(got["finish_reason"], "tool_calls", got)
                    self.assertIsNone(got["message"]["content"])
                    (call,) = got["message"]["tool_calls"]
                    self.assertIn(call["function"]["name"], names)
                    arguments = json.loads(call["function"]["arguments"])
                    if call["function"]["name"] == "get_weather":
                        self.assertEqual(list(arguments), ["city"])
                    else:
                        self.assertEqual(arguments, {})
                    self.assertEqual(call["type"], "function")
                    self.assertTrue(call["id"])

    def test_tools_that_may_be_called(self):
        got = self.calls(max_tokens=40)
        self.assertTrue(got["message"]["content"] or got["message"].get("tool_calls"))
        self.assertNotIn("<tool_call>", got["message"]["content"] or "")
        self.assertNotIn("tool_calls", self.calls(max_tokens=20, tool_choice="none")["message"])

    def test_streamed_calls(self):
        body = {"messages": [{"role": "user", "content": "What is the weather in Rome?"}],
                "temperature": 0, "max_tokens": 100, "tools": [WEATHER], "tool_choice": "required",
                "parallel_tool_calls": False}
        whole = self.server.good("/v1/chat/completions", body)["choices"][0]
        events = self.server.stream("/v1/chat/completions", body)
        calls = [call for e in events for c in e["choices"]
                 for call in c["delta"].get("tool_calls", [])]
        self.assertEqual([c["function"] for c in calls],
                         [c["function"] for c in whole["message"]["tool_calls"]])
        self.assertEqual(events[-1]["choices"][0]["finish_reason"], "tool_calls")
        self.assertFalse(any(c["delta"].get("content") for e in events for c in e["choices"]))

    def test_results_of_tools_go_back_in(self):
        call = {"id": "c1", "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}}
        answer = self.server.good("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "What is the weather in Rome?"},
                         {"role": "assistant", "content": None, "tool_calls": [call]},
                         {"role": "tool", "tool_call_id": "c1", "content": "22 degrees, sunny"}],
            "tools": [WEATHER], "temperature": 0, "max_tokens": 30})
        message = answer["choices"][0]["message"]
        self.assertTrue(message["content"] or message.get("tool_calls"))
        prompt = self.server.good("/apply-template", {
            "messages": [{"role": "user", "content": "x"}], "tools": [WEATHER]})["prompt"]
        self.assertTrue(re.search("get_weather", prompt))


if __name__ == "__main__":
    unittest.main()
