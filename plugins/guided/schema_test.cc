#include "schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test_forms.h"

namespace engine::guided {
namespace {

using testing::HasSubstr;

struct Case {
  const char* schema;
  std::vector<std::string> yes, no;
};

void Check(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    for (const std::string& text : c.yes) {
      EXPECT_TRUE(Fits(Kind::kSchema, c.schema, text)) << c.schema << " and " << text;
    }
    for (const std::string& text : c.no) {
      EXPECT_FALSE(Fits(Kind::kSchema, c.schema, text)) << c.schema << " and " << text;
    }
  }
}

TEST(Schema, Types) {
  Check({
      {"true", {"1", "\"\"", "null", "[]", "{}", "[1,{\"a\":[true]}]"}, {"", "tru", "[1,]", "01"}},
      {"{}", {"-0.5e+7", "\"a\\n\\u0001\""}, {"\"\\a\"", "\"\n\"", "+1", ".5", "1.", "1e", "NaN"}},
      {R"({"type":"null"})", {"null"}, {"0", "nul"}},
      {R"({"type":"boolean"})", {"true", "false"}, {"null"}},
      {R"({"type":"integer"})",
       {"0", "-7", "123456789012345678"},
       {"-0", "01", "1.0", "1e3", "1234567890123456789"}},
      {R"({"type":"number"})", {"0", "-0.5", "1e5", "2.25E-3"}, {"\"1\"", "1e400"}},
      {R"({"type":["string","null"]})", {"\"x\"", "null"}, {"1", "[]"}},
      {R"({"type":"object"})",
       {"{}", "{\"a\": 1, \"b\":[]}", "{\n  \"a\": {}\n}"},
       {"[]", "{ }", "{\"a\":1,}"}},
      {R"({"type":"array"})", {"[]", "[1, \"a\"]", "[\n  1,\n  2\n]"}, {"{}", "[,]", "[1  ]"}},
      // Words that speak of one type mean it.
      {R"({"minLength":2})", {"\"ab\""}, {"\"a\"", "5"}},
      {R"({"properties":{"a":{}}})", {"{}", "{\"a\":1}"}, {"5", "{\"b\":1}"}},
  });
}

TEST(Schema, Enumerations) {
  Check({
      {R"({"enum":["a","b\n",1,2.5,null,{"k":[1]}]})",
       {"\"a\"", "\"b\\n\"", "1", "2.5", "null", "{\"k\":[1]}"},
       {"\"b\"", "a", "2", "{}"}},
      {R"({"const":"x"})", {"\"x\""}, {"\"y\"", "x"}},
      {R"({"type":"string","enum":["a",1,null]})", {"\"a\""}, {"1", "null"}},
      {R"({"type":"integer","enum":[1,2.5,3.0,"x"],"minimum":2})", {"3.0"}, {"1", "2.5"}},
      {R"({"enum":["a","bb","ccc"],"minLength":2,"pattern":"^[a-b]+$"})",
       {"\"bb\""},
       {"\"a\"", "\"ccc\""}},
      {R"({"allOf":[{"enum":[1,2,3]},{"enum":[2,3,4]},{"multipleOf":2}]})", {"2"}, {"1", "3", "4"}},
  });
}

TEST(Schema, Strings) {
  Check({
      {R"({"type":"string","minLength":1,"maxLength":3})",
       {"\"a\"", "\"abc\"", "\"\xc3\xa9\xf0\x9f\x98\x80x\"", "\"\\n\\\"\\\\\"",
        "\"\\u001f\\u001F\""},
       {"\"\"", "\"abcd\"", "\"\xff\"", "\"\\u0041\"", "\"\\/\"", "\"\\u0000\""}},
      {R"({"type":"string","maxLength":2000})",
       {"\"" + std::string(2000, 'x') + "\""},
       {"\"" + std::string(2001, 'x') + "\""}},
      {R"({"type":"string","pattern":"^a+$"})", {"\"a\"", "\"aaa\""}, {"\"\"", "\"ba\""}},
      {R"({"type":"string","pattern":"b"})", {"\"b\"", "\"abc\"", "\"\\nb\\\"\""}, {"\"a\""}},
      {R"({"type":"string","pattern":"^a|b$"})", {"\"ax\"", "\"xb\""}, {"\"xax\""}},
      {R"({"type":"string","pattern":"^[\"\\\\]$"})",
       {"\"\\\"\"", "\"\\\\\""},
       {"\"\"\"", "\"a\""}},
      {R"({"type":"string","pattern":"^[a-z]+(-[a-z]+)*$","minLength":3,"maxLength":5})",
       {"\"abc\"", "\"a-b\"", "\"a-b-c\""},
       {"\"ab\"", "\"abcdef\"", "\"ab-\"", "\"a--b\""}},
      // Lengths that no text of the pattern has must not be begun.
      {R"({"type":"string","pattern":"^(aaa)*$","minLength":4,"maxLength":6})",
       {"\"aaaaaa\""},
       {"\"aaa\""}},
      {R"({"allOf":[{"pattern":"^[a-m]+$"},{"pattern":"^[g-z]+$"},{"minLength":2}]})",
       {"\"gm\""},
       {"\"g\"", "\"ag\"", "\"gz\""}},
      {R"({"type":"string","format":"date"})",
       {"\"2024-02-28\""},
       {"\"2023-02-30\"", "\"2024-13-01\""}},
      {R"({"type":"string","format":"date-time"})",
       {"\"2024-01-31T23:59:59.5Z\"", "\"2024-01-31T00:00:00+02:00\""},
       {"\"2024-01-31 00:00:00Z\""}},
      {R"({"type":"string","format":"uuid"})",
       {"\"01234567-89ab-cdef-0123-456789abcdef\""},
       {"\"0\""}},
      {R"({"type":"string","format":"ipv4"})",
       {"\"127.0.0.1\"", "\"255.255.255.255\""},
       {"\"256.0.0.1\"", "\"01.1.1.1\""}},
      {R"({"type":"string","format":"email"})",
       {"\"a.b+c@x-y.example.com\""},
       {"\"a@b\"", "\"@x.com\""}},
      {R"({"type":"string","format":"uri"})", {"\"https://a.bc/d?e=f#g\""}, {"\"ftp://a.bc\""}},
      {R"({"type":"string","format":"nobody-knows"})", {"\"x\""}, {"1"}},
  });
  EXPECT_FALSE(Begins(Kind::kSchema,
                      R"({"type":"string","pattern":"^(aaa)*$","minLength":4,"maxLength":6})",
                      "\"aaaaaaa"));
}

TEST(Schema, Numbers) {
  Check({
      {R"({"type":"integer","minimum":-12,"maximum":105})",
       {"-12", "-9", "0", "7", "99", "100", "105"},
       {"-13", "106", "-0", "1000", "00"}},
      {R"({"type":"integer","exclusiveMinimum":0,"exclusiveMaximum":10})", {"1", "9"}, {"0", "10"}},
      {R"({"type":"integer","minimum":2.5,"maximum":1e3})", {"3", "1000"}, {"2", "1001"}},
      {R"({"type":"integer","minimum":-2.5})", {"-2", "5"}, {"-3"}},
      {R"({"type":"integer","maximum":1e300})", {"0", "999999999999999999"}, {"1.0"}},
      {R"({"type":"integer","multipleOf":7,"minimum":10,"maximum":40})",
       {"14", "21", "35"},
       {"7", "13", "42"}},
      {R"({"type":"number","minimum":0,"maximum":1})",
       {"0", "0.5", "1", "1.0", "0.999999"},
       {"-0.1", "1.000001", "2", "1e0"}},
      {R"({"type":"number","exclusiveMinimum":0.1,"exclusiveMaximum":0.2})",
       {"0.100001", "0.15", "0.199999"},
       {"0.1", "0.2", "0.10", "0.100000"}},
      {R"({"type":"number","minimum":-1.5})",
       {"-1.5", "-1.25", "0", "123456789.5"},
       {"-1.51", "-2"}},
      {R"({"type":"number","maximum":1e-3,"exclusiveMinimum":0})",
       {"0.001", "0.0005"},
       {"0", "0.002"}},
      {R"({"type":"number","multipleOf":5,"minimum":1,"maximum":12})", {"5", "10"}, {"1", "5.0"}},
      {R"({"allOf":[{"type":"number","minimum":3},{"type":"integer","maximum":5}]})",
       {"3", "5"},
       {"2", "6", "3.5"}},
  });
}

TEST(Schema, Objects) {
  const char* person = R"({"type":"object","properties":{"a":{"type":"integer"},
      "b":{"type":"string"},"c":{"type":"null"}},"required":["b"]})";
  Check({
      {person,
       {"{\"b\":\"\"}", "{\"a\":1,\"b\":\"\"}", "{\"a\": 1, \"b\": \"\", \"c\": null}",
        "{\n  \"a\": 1,\n  \"b\": \"\"\n}"},
       {"{}", "{\"a\":1}", "{\"b\":\"\",\"a\":1}", "{\"b\":\"\",\"d\":1}", "{,\"b\":\"\"}",
        "{\"b\":\"\",}", "{\"b\":\"\",\"b\":\"\"}"}},
      {R"({"type":"object","properties":{"a":{}},"additionalProperties":{"type":"integer"}})",
       {"{}", "{\"a\":\"x\",\"b\":1,\"ab\":2}", "{\"b\":1}", "{\"\":1}"},
       {"{\"b\":\"x\"}", "{\"a\":1,\"a\":2}", "{\"b\":1,\"a\":1}"}},
      {R"({"type":"object","additionalProperties":false})", {"{}", "{\n}"}, {"{\"a\":1}"}},
      {R"({"type":"object","properties":{},"required":[]})", {"{}"}, {"{\"a\":1}"}},
      {R"({"required":["x"]})", {"{\"x\":1}", "{\"x\":[],\"y\":2}"}, {"{}", "{\"y\":1}"}},
      {R"({"type":"object","properties":{"q\"\n\\":{}},"additionalProperties":true})",
       {"{\"q\\\"\\n\\\\\":1}", "{\"q\":1}"},
       {"{\"x\":1,\"q\\\"\\n\\\\\":1}"}},
      {R"({"patternProperties":{"^x-":{"type":"integer"}},"properties":{"x-a":{"minimum":5},"b":{}},
           "additionalProperties":false})",
       {"{}", "{\"x-a\":7,\"b\":\"\",\"x-b\":1}", "{\"x-\":0}"},
       {"{\"x-a\":4}", "{\"c\":1}", "{\"x-b\":\"\"}", "{\"b\":1,\"x-a\":7}"}},
      {R"({"type":"object","properties":{"a":{},"b":{},"c":{}},"minProperties":2})",
       {"{\"a\":1,\"c\":1}", "{\"a\":1,\"b\":1,\"c\":1}"},
       {"{}", "{\"b\":1}"}},
      {R"({"type":"object","properties":{"a":{},"b":{},"c":{}},"maxProperties":1})",
       {"{}", "{\"c\":1}"},
       {"{\"a\":1,\"b\":1}"}},
      {R"({"type":"object","maxProperties":2})",
       {"{}", "{\"a\":1,\"b\":1}"},
       {"{\"a\":1,\"b\":1,\"c\":1}"}},
      {R"({"type":"object","additionalProperties":{"type":"null"},"minProperties":1})",
       {"{\"a\":null}", "{\"a\":null,\"b\":null}"},
       {"{}"}},
      // What cannot be there is left out.
      {R"({"type":"object","properties":{"a":false,"b":{"type":"null"}}})",
       {"{}", "{\"b\":null}"},
       {"{\"a\":1}"}},
  });
  EXPECT_FALSE(Begins(Kind::kSchema, R"({"properties":{"a":false}})", "{\"a"));
}

TEST(Schema, Lists) {
  Check({
      {R"({"type":"array","items":{"type":"integer"}})", {"[]", "[1,2]"}, {"[\"a\"]"}},
      {R"({"type":"array","items":{"type":"null"},"minItems":1,"maxItems":2})",
       {"[null]", "[null, null]"},
       {"[]", "[null,null,null]"}},
      {R"({"type":"array","items":false})", {"[]"}, {"[1]"}},
      {R"({"prefixItems":[{"type":"integer"},{"type":"string"}]})",
       {"[]", "[1]", "[1,\"a\"]"},
       {"[\"a\"]", "[1,\"a\",2]"}},
      {R"({"prefixItems":[{"type":"integer"}],"items":{"type":"null"},"minItems":2})",
       {"[1,null]", "[1,null,null]"},
       {"[1]", "[null,null]"}},
      {R"({"type":"array","items":[{"type":"integer"}],"additionalItems":{"type":"null"}})",
       {"[1,null]"},
       {"[null]"}},
      {R"({"type":"array","prefixItems":[{"const":1}],"minItems":3})",
       {"[1,2,\"x\"]"},
       {"[1]", "[1,2,3,4]"}},
      {R"({"type":"array","items":{"const":1},"minItems":100,"maxItems":300})", {}, {"[1]"}},
      {R"({"type":"array","uniqueItems":true,"maxItems":1})", {"[]", "[1]"}, {"[1,1]"}},
  });
  const char* counted = R"({"type":"array","items":{"const":1},"minItems":100,"maxItems":300})";
  const auto ones = [](int n) {
    std::string text = "[1";
    for (int i = 1; i < n; ++i) text += ",1";
    return text + "]";
  };
  EXPECT_FALSE(Fits(Kind::kSchema, counted, ones(99)));
  EXPECT_TRUE(Fits(Kind::kSchema, counted, ones(100)));
  EXPECT_TRUE(Fits(Kind::kSchema, counted, ones(300)));
  EXPECT_FALSE(Fits(Kind::kSchema, counted, ones(301)));
}

TEST(Schema, Combinations) {
  Check({
      {R"({"anyOf":[{"type":"integer"},{"type":"string","maxLength":1}],"description":"x"})",
       {"1", "\"a\""},
       {"\"ab\"", "null"}},
      {R"({"type":"object","properties":{"a":{"type":"integer"}},"anyOf":[{"required":["a"]},{"maxProperties":0}]})",
       {"{}", "{\"a\":1}"},
       {"{\"a\":\"\"}"}},
      {R"({"oneOf":[{"type":"string"},{"type":"null"},{"type":"object","properties":{"k":{"const":1}},"required":["k"]},
           {"type":"object","properties":{"k":{"enum":[2,3]}},"required":["k"]}]})",
       {"\"\"", "null", "{\"k\":1}", "{\"k\":3}"},
       {"{\"k\":4}", "{}"}},
      {R"({"oneOf":[{"const":1},{"const":"a"},{"enum":[2]}]})", {"1", "2", "\"a\""}, {"3"}},
      {R"({"allOf":[{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]},
           {"properties":{"b":{"type":"null"},"a":{"minimum":3}}}]})",
       {"{\"a\":3}", "{\"a\":5,\"b\":null}"},
       {"{\"a\":2}", "{}"}},
      {R"({"$ref":"#/$defs/n","minimum":5,"$defs":{"n":{"type":"integer","maximum":7}}})",
       {"5", "7"},
       {"4", "8"}},
      {R"({"definitions":{"a/b":{"type":"null"}},"$ref":"#/definitions/a~1b"})", {"null"}, {"1"}},
      {R"({"$defs":{"x":{"$anchor":"here","type":"null"}},"$ref":"#here"})", {"null"}, {"1"}},
      {R"({"allOf":[{"$ref":"#/$defs/b"},{"$ref":"#/$defs/b"}],"$defs":{"b":{"type":"boolean"}}})",
       {"true"},
       {"1"}},
      // Trees.
      {R"({"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#"},{"type":"null"}]}},
           "required":["v","next"]})",
       {"{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}"},
       {"{\"v\":1}", "{\"v\":1,\"next\":{}}"}},
  });
}

TEST(Schema, NestingIsBoundedAndCanAlwaysEnd) {
  const std::string open(64, '['), close(64, ']');
  EXPECT_TRUE(Fits(Kind::kSchema, "true", open + close));
  EXPECT_FALSE(Begins(Kind::kSchema, "true", open + "["));
  EXPECT_TRUE(Begins(Kind::kSchema, "true", open + "1"));
  // A list whose elements need two more levels is not begun where only one is left.
  const char* pairs = R"({"$defs":{"p":{"type":"array","items":{"type":"object","properties":
      {"x":{"$ref":"#/$defs/p"}},"required":["x"]}}},"$ref":"#/$defs/p"})";
  std::string deep;
  for (int i = 0; i < 31; ++i) deep += "[{\"x\":";
  EXPECT_TRUE(Fits(
      Kind::kSchema, pairs, deep + "[]" + [] {
        std::string end;
        for (int i = 0; i < 31; ++i) end += "}]";
        return end;
      }()));
  EXPECT_TRUE(Begins(Kind::kSchema, pairs, deep + "["));
  EXPECT_FALSE(Begins(Kind::kSchema, pairs, deep + "[{"));
}

TEST(Schema, WhatCannotEndIsNotBegun) {
  const char* list = R"({"properties":{"x":{"prefixItems":[{"const":1}],"items":false,"minItems":2},
      "y":{"const":1}}})";
  EXPECT_TRUE(Fits(Kind::kSchema, list, "{\"y\":1}"));
  EXPECT_FALSE(Begins(Kind::kSchema, list, "{\"x"));
  const char* tree = R"({"properties":{"x":{"$ref":"#/$defs/a"}},"$defs":{"a":{"properties":
      {"x":{"$ref":"#/$defs/a"}},"required":["x"]}}})";
  EXPECT_TRUE(Fits(Kind::kSchema, tree, "{}"));
  EXPECT_FALSE(Begins(Kind::kSchema, tree, "{\"x"));
  const char* counted = R"({"properties":{"o":{"properties":{"a":{},"b":{}},"required":["a","b"],
      "maxProperties":1}}})";
  EXPECT_FALSE(Begins(Kind::kSchema, counted, "{\"o"));
}

TEST(Schema, WhiteSpaceIsBounded) {
  EXPECT_TRUE(Fits(Kind::kSchema, "true", "{\"a\": [1, 2,\n                3]}"));
  EXPECT_FALSE(Begins(Kind::kSchema, "true", " "));
  EXPECT_FALSE(Begins(Kind::kSchema, "true", "{\"a\":  "));
  EXPECT_FALSE(Begins(Kind::kSchema, "true", "[1,  "));
  EXPECT_FALSE(Begins(Kind::kSchema, "true", "[\n\n"));
  EXPECT_FALSE(Begins(Kind::kSchema, "true", "[\n                 "));
}

}  // namespace
}  // namespace engine::guided
