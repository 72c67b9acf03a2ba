// What schemas are refused for, and that nothing worse comes of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "test_forms.h"
#include "test_schemas.h"

namespace engine::guided {
namespace {

using testing::HasSubstr;
using Json = nlohmann::ordered_json;

TEST(SchemaRefusals, NameThePlaceAndTheWord) {
  const std::pair<const char*, const char*> cases[] = {
      {"123", "schema at '#': 123 is no schema"},
      {"[]", "schema at '#': [] is no schema"},
      {R"({"type":123})", "schema at '#': type: 123 is no type; types are null, boolean"},
      {R"({"type":"hiccup"})", "schema at '#': type: \"hiccup\" is no type"},
      {R"({"type":[]})", "schema at '#': type: the list is empty"},
      {R"({"properties":{"a":{"type":"x"}}})", "schema at '#/properties/a': type"},
      {R"({"properties":{"a/b~":5}})", "schema at '#/properties/a~1b~0': 5 is no schema"},
      {R"({"properties":[]})", "schema at '#': properties: it must be an object of schemas"},
      {R"({"required":"a"})", "schema at '#': required: it must be a list of names"},
      {R"({"required":[1]})", "schema at '#': required: it must be a list of names"},
      {R"({"enum":[]})", "schema at '#': enum: the list is empty"},
      {R"({"enum":5})", "schema at '#': enum: it must be a list"},
      {R"({"anyOf":[]})", "schema at '#': anyOf: the list is empty"},
      {R"({"minLength":-1,"type":"string"})",
       "schema at '#': minLength: it must be a whole number"},
      {R"({"maxItems":"3","type":"array"})", "schema at '#': maxItems: it must be a whole number"},
      {R"({"minimum":"3"})", "schema at '#': minimum: it must be a number"},
      {R"({"exclusiveMinimum":true})", "schema at '#': exclusiveMinimum: it must be a number"},
      {R"({"type":"string","pattern":5})", "schema at '#': pattern: it must be a string"},
      {R"({"type":"string","pattern":"^+a"})",
       "schema at '#': pattern: regular expression, byte 1"},
      {R"-({"type":"string","pattern":"(?=a)"})-",
       "pattern: regular expression, byte 0: look-around"},
      {R"({"not":{}})", "schema at '#': not: a negation"},
      {R"({"if":{},"then":{}})", "schema at '#': if: conditions"},
      {R"({"dependentRequired":{}})", "schema at '#': dependentRequired: write the cases as anyOf"},
      {R"({"items":{"contains":{}}})", "schema at '#/items': contains: use prefixItems"},
      {R"({"type":"array","uniqueItems":true})", "schema at '#': uniqueItems: elements cannot"},
      {R"({"propertyNames":{}})", "schema at '#': propertyNames"},
      {R"({"unevaluatedProperties":false})", "schema at '#': unevaluatedProperties"},
      {R"({"type":"number","multipleOf":0.01})", "schema at '#': multipleOf: only whole numbers"},
      {R"({"type":"integer","multipleOf":0})", "schema at '#': multipleOf: only whole numbers"},
      {R"({"allOf":[{"multipleOf":97},{"multipleOf":89}]})",
       "multipleOf: together with another one"},
      {R"({"patternProperties":{"a":{},"b":{}}})", "schema at '#': patternProperties: one pattern"},
      {R"({"type":"object","minProperties":2})", "schema at '#': minProperties: names of further"},
      {R"({"oneOf":[{"type":"integer"},{"type":"number"}]})",
       "schema at '#': oneOf: alternatives 0 and 1 may be valid at once"},
      {R"({"oneOf":[{"properties":{"a":{"const":1}}},{"properties":{"a":{"const":2}}}]})",
       "oneOf: alternatives 0 and 1"},
      {R"({"const":{"a":1},"required":["a"]})",
       "schema at '#': const: objects and lists are listed"},
      // References.
      {R"({"$ref":"#"})",
       "schema at '#': $ref: it comes back to itself before anything is written"},
      {R"({"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}})",
       "schema at '#/$defs/a': $ref: it comes back to itself"},
      {R"({"allOf":[{"$ref":"#"}]})", "schema at '#': $ref: it comes back to itself"},
      {R"({"anyOf":[{"$ref":"#"},{"type":"null"}]})",
       "schema at '#': $ref: it comes back to itself"},
      {R"({"oneOf":[{"$ref":"#"},{"type":"null"}]})",
       "schema at '#': $ref: it comes back to itself"},
      {R"({"properties":{"x":{"$ref":"#/$defs/a"}},"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"}]},
           "b":{"anyOf":[{"$ref":"#/$defs/a"}]}}})",
       "schema at '#/$defs/a': $ref: it comes back to itself"},
      {R"({"$ref":"http://169.254.169.254/latest"})",
       "schema at '#': $ref: only references within"},
      {R"({"$ref":"other.json#/a"})", "schema at '#': $ref: only references within"},
      {R"({"$ref":5})", "schema at '#': $ref: a reference is a string"},
      {R"({"$ref":"#/a/b"})", "schema at '#': $ref: nothing stands at '#/a'"},
      {R"({"$ref":"#/~2"})", "schema at '#': $ref: '~' or '%' escapes nothing here"},
      {R"({"$ref":"#none"})", "schema at '#': $ref: no schema has this $anchor"},
      // Nothing is valid.
      {"false", "no value is valid under the schema: schema at '#': false"},
      {R"({"type":"object","properties":{"a":false},"required":["a"]})",
       "no text fits the form, or none with at most 64 brackets open; schema at '#/properties/a'"},
      {R"({"type":"object","required":["a"],"additionalProperties":false})",
       "schema at '#/additionalProperties': false: nothing is valid here"},
      {R"({"type":"integer","minimum":3,"maximum":2})", "schema at '#': maximum: no integer"},
      {R"({"type":"integer","minimum":1e30})", "schema at '#': minimum: no integer of at most 18"},
      {R"({"type":"number","minimum":1e308})", "schema at '#': minimum: no decimal"},
      {R"({"type":"string","minLength":3,"maxLength":2})", "the least length exceeds"},
      {R"({"type":"array","minItems":3,"maxItems":2})", "the least number exceeds"},
      {R"({"type":"array","items":false,"minItems":1})", "no text fits the form"},
      {R"({"type":"string","pattern":"^a{3}$","maxLength":2})", "no text has it and the lengths"},
      {R"({"allOf":[{"type":"string"},{"type":"null"}]})", "type: no type is left"},
      {R"({"type":"string","enum":[1,2]})", "enum: none of the values is valid"},
      {R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})",
       "no text fits the form, or none with at most 64 brackets open"},
      // Not JSON.
      {"", "the schema is not JSON"},
      {"{", "the schema is not JSON"},
      {"NaN", "the schema is not JSON"},
      {"{} x", "the schema is not JSON"},
      {"\"\\ud800\"", "the schema is not JSON"},
      {"{\"a\xff\":1}", "the schema is not JSON"},
  };
  for (const auto& [schema, message] : cases) {
    EXPECT_THAT(RefusalOf(Kind::kSchema, schema), HasSubstr(message)) << schema;
    EXPECT_EQ(CodeOf(Kind::kSchema, schema), ENGINE_INVALID_ARGUMENT) << schema;
  }
}

std::string Repeated(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

TEST(SchemaRefusals, LargeTexts) {
  EXPECT_THAT(RefusalOf(Kind::kSchema, Repeated("[", 10000)),
              HasSubstr("the schema, byte 64: brackets are nested deeper than 64 levels"));
  EXPECT_THAT(RefusalOf(Kind::kSchema, Repeated("{\"not\":", 10000)),
              HasSubstr("brackets are nested deeper than 64 levels"));
  EXPECT_THAT(RefusalOf(Kind::kSchema, "{\"enum\":[" + Repeated("1,", 1'000'000) + "1]}"),
              HasSubstr("the form's text has 2000012 bytes; it can have 262144"));
  EXPECT_THAT(RefusalOf(Kind::kSchema, "{\"enum\":[" + Repeated("1,", 10'000) + "1]}"),
              HasSubstr("more than 10000 elements in one list"));
  Json wide = {{"type", "object"}};
  for (int i = 0; i < 4097; ++i) wide["properties"]["p" + std::to_string(i)] = true;
  EXPECT_THAT(RefusalOf(Kind::kSchema, wide.dump()), HasSubstr("more than 4096 members"));
  Json many = {{"allOf", Json::array()}};
  for (int i = 0; i < 30; ++i) {
    many["allOf"].push_back({{"anyOf", {{{"minLength", i}}, {{"maxLength", 90 + i}}}}});
  }
  EXPECT_THAT(RefusalOf(Kind::kSchema, many.dump()),
              HasSubstr("alternatives within alternatives come to more than 20000"));
  const std::string broad = R"({"type":"string","pattern":"^[a-z]{0,50000}$","maxLength":40000})";
  EXPECT_THAT(RefusalOf(Kind::kSchema, broad), HasSubstr("it takes too many states"));
}

TEST(SchemaRefusals, LargeButFine) {
  Json numbers = Json::array();
  for (int i = 0; i < 9999; ++i) numbers.push_back(i);
  EXPECT_EQ(RefusalOf(Kind::kSchema, Json{{"enum", numbers}}.dump()), "");
  EXPECT_EQ(RefusalOf(Kind::kSchema, "{\"const\":\"" + Repeated("a", 250'000) + "\"}"), "");
  Json text = {{"type", "string"}, {"maxLength", 2000}};
  for (int i = 0; i < 20; ++i) text = {{"type", "array"}, {"items", text}, {"maxItems", 2000}};
  std::shared_ptr<const Program> program;
  ASSERT_TRUE(
      CompileProgram(Kind::kSchema, text.dump(), ByteSet().set(), TestLimits(), &program).ok());
  EXPECT_LT(program->code.size(), 1000u);
  Json wide = {{"type", "object"}};
  for (int i = 0; i < 2000; ++i)
    wide["properties"]["p" + std::to_string(i)] = {{"type", "integer"}};
  EXPECT_TRUE(Fits(Kind::kSchema, wide.dump(), "{\"p0\":1,\"p1500\":2}"));
  wide["required"] = {"p1999"};
  EXPECT_TRUE(Fits(Kind::kSchema, wide.dump(), "{\"p1999\":2}"));
}

// Any change of a schema gives a refusal with a message, or a form that can be followed to its end.
TEST(SchemaRefusals, ChangedSchemasNeverDoHarm) {
  std::mt19937 random(5);
  for (int i = 0; i < 1000; ++i) {
    std::string text = RandomSchema(&random).dump();
    for (uint32_t n = 0; n <= i % 4u; ++n) {
      if (text.empty()) text = "{}";
      const size_t at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text[at] = "{}[]\",:0-e\\x"[random() % 12];
          break;
        case 1:
          text.erase(at, random() % 5);
          break;
        case 2:
          text.insert(at, text.substr(random() % text.size(), random() % 20));
          break;
        default:
          text.resize(std::max<size_t>(1, at));
      }
    }
    std::shared_ptr<Guide> guide;
    const Status status =
        Guide::Compile(Kind::kSchema, text, TestVocabulary(), {kEndToken}, TestLimits(), &guide);
    if (!status.ok()) {
      EXPECT_EQ(status.code(), ENGINE_INVALID_ARGUMENT) << text;
      EXPECT_FALSE(status.message().empty()) << text;
      continue;
    }
    std::string output, problem;
    EXPECT_TRUE(RandomOutput(guide.get(), *TestVocabulary(), 1, &random, &output, &problem))
        << problem << " under " << text << " after " << output.substr(0, 200);
  }
}

}  // namespace
}  // namespace engine::guided
