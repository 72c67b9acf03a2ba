#include "openapi.h"

namespace engine::http_api {
namespace {

Json Whole(int64_t least, int64_t most, const char* about) {
  return {
      {"type", {"integer", "null"}}, {"minimum", least}, {"maximum", most}, {"description", about}};
}
Json Number(double least, double most, const char* about) {
  return {
      {"type", {"number", "null"}}, {"minimum", least}, {"maximum", most}, {"description", about}};
}
Json Flag(const char* about) { return {{"type", {"boolean", "null"}}, {"description", about}}; }
Json Text(size_t most, const char* about) {
  return {{"type", {"string", "null"}}, {"maxLength", most}, {"description", about}};
}
Json Ref(const char* name) { return {{"$ref", std::string("#/components/schemas/") + name}}; }
Json Object(Json properties, Json required) {
  return {
      {"type", "object"}, {"properties", std::move(properties)}, {"required", std::move(required)}};
}

// Fields that all requests for text share.
Json CommonFields(const AskLimits& limits) {
  const int64_t last = limits.vocab - 1;
  Json fields;
  fields["model"] = Text(1024, "A model of /v1/models: the base, or one of its adapters.");
  fields["stream"] = Flag("Send the answer as server-sent events, as it is made.");
  fields["stream_options"] = {{"type", {"object", "null"}},
                              {"properties", {{"include_usage", Flag("A last event with usage.")}}},
                              {"description", "With stream alone."}};
  fields["n"] = Whole(1, limits.max_answers, "Answers to each prompt.");
  fields["temperature"] = Number(0, 2, "0 takes the likeliest token; 1 where nothing is said.");
  fields["top_p"] = {{"type", {"number", "null"}},
                     {"exclusiveMinimum", 0},
                     {"maximum", 1},
                     {"description", "Among the likeliest tokens that make up that probability."}};
  fields["top_k"] = Whole(-1, 10'000'000, "Among that many likeliest tokens; 0 and -1: all.");
  fields["min_p"] = Number(0, 1, "Only tokens at least that likely, the likeliest being 1.");
  fields["typical_p"] = Number(0, 1, "Locally typical sampling; 0 and 1: off.");
  fields["repetition_penalty"] = Number(0.01, 100, "Of tokens in prompt and answer; 1: none.");
  fields["presence_penalty"] = Number(-2, 2, "Of tokens in the answer.");
  fields["frequency_penalty"] = Number(-2, 2, "Of tokens in the answer, for each time.");
  fields["seed"] = Whole(std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(),
                         "The same request with the same seed has the same answer.");
  fields["max_tokens"] = Whole(1, 1 << 20, "Most tokens of an answer.");
  fields["max_completion_tokens"] = Whole(1, 1 << 20, "The same.");
  fields["min_tokens"] = Whole(0, 1 << 20, "No end before so many tokens.");
  fields["ignore_eos"] = Flag("Go on after end tokens, up to max_tokens.");
  const Json stop = {{"type", "string"}, {"minLength", 1}, {"maxLength", 256}};
  fields["stop"] = {
      {"anyOf", {{{"type", "null"}}, stop, {{"type", "array"}, {"items", stop}, {"maxItems", 16}}}},
      {"description", "Texts that end the answer, and are not part of it."}};
  fields["stop_token_ids"] = {{"type", {"array", "null"}},
                              {"items", {{"type", "integer"}, {"minimum", 0}, {"maximum", last}}},
                              {"maxItems", 256}};
  fields["logit_bias"] = {
      {"type", {"object", "null"}},
      {"propertyNames", {{"pattern", "^(0|[1-9][0-9]{0,2})$"}}},
      {"additionalProperties", {{"type", "number"}, {"minimum", -100}, {"maximum", 100}}},
      {"description", "Token ids, and what is added to their logits."}};
  fields["priority"] = Whole(0, 64, "1 is first; 0: as the server is set.");
  fields["timeout_ms"] = Whole(1, 86'400'000, "The request ends after that time.");
  fields["cache_salt"] = Text(1024, "Computed prompts are shared under the same salt alone.");
  fields["return_token_ids"] = Flag("Also token ids.");
  fields["user"] = Text(65536, "Taken, and not looked at.");
  fields["response_format"] = {
      {"description",
       "text, json_object, json_schema (with json_schema: {schema}) or regex (with regex)."}};
  return fields;
}

Json Message() {
  const Json part =
      Object({{"type", {{"const", "text"}}}, {"text", {{"type", "string"}}}}, {"type", "text"});
  return Object(
      {{"role", {{"enum", {"system", "developer", "user", "assistant", "tool"}}}},
       {"content", {{"anyOf", {{{"type", "string"}}, {{"type", "array"}, {"items", part}}}}}}},
      {"role", "content"});
}

Json Operation(const char* about, const Json& request, Json answer, bool events) {
  Json ok = {{"description", "The answer."},
             {"content", {{"application/json", {{"schema", std::move(answer)}}}}}};
  if (events) {
    ok["content"]["text/event-stream"] = Json::object();  // 3.1 has no schema for events
  }
  const Json error = {{"description", "What was wrong."},
                      {"content", {{"application/json", {{"schema", Ref("Error")}}}}}};
  Json operation = {{"summary", about}, {"responses", {{"200", std::move(ok)}}}};
  for (const char* status :
       {"400", "401", "404", "408", "413", "415", "429", "431", "501", "503", "504"}) {
    operation["responses"][status] = error;
  }
  if (!request.is_null()) {
    operation["requestBody"] = {{"required", true},
                                {"content", {{"application/json", {{"schema", request}}}}}};
  }
  return operation;
}

Json PathParameter(const char* name, const char* pattern) {
  Json schema = {{"type", "string"}, {"minLength", 1}};
  if (pattern != nullptr) schema["pattern"] = pattern;
  return Json::array({{{"name", name}, {"in", "path"}, {"required", true}, {"schema", schema}}});
}

}  // namespace

std::string OpenApiText(const AskLimits& limits, const std::string& model, bool keys) {
  const Json any = {{"type", "object"}};
  Json chat = CommonFields(limits);
  chat["messages"] = {{"type", "array"}, {"items", Message()}, {"minItems", 1}, {"maxItems", 4096}};
  chat["logprobs"] = Flag("Tell the log-probability of each token.");
  chat["top_logprobs"] = Whole(0, 20, "With logprobs: so many alternatives.");
  chat["tools"] = {{"type", {"array", "null"}},
                   {"maxItems", 128},
                   {"items", Object({{"type", {{"const", "function"}}}, {"function", any}},
                                    {"type", "function"})}};
  chat["tool_choice"] = {
      {"description", "none, auto, required, or an object that names a function."}};
  chat["parallel_tool_calls"] = Flag("Whether one answer may call several.");
  Json completion = CommonFields(limits);
  const Json id = {{"type", "integer"}, {"minimum", 0}, {"maximum", limits.vocab - 1}};
  const Json text = {{"type", "string"}, {"minLength", 1}};
  const Json ids = {
      {"type", "array"}, {"items", id}, {"minItems", 1}, {"maxItems", limits.context - 1}};
  completion["prompt"] = {
      {"anyOf",
       {text,
        ids,
        {{"type", "array"}, {"items", text}, {"minItems", 1}, {"maxItems", limits.max_prompts}},
        {{"type", "array"}, {"items", ids}, {"minItems", 1}, {"maxItems", limits.max_prompts}}}}};
  completion["echo"] = Flag("The prompt before the answer.");
  completion["logprobs"] = Whole(0, 20, "Tell log-probabilities, with so many alternatives.");
  completion["max_tokens"] = Whole(0, 1 << 20, "16 where nothing is said; 0 with echo alone.");
  completion["best_of"] = Whole(1, 128, "Must equal n.");
  Json generate = CommonFields(limits);
  generate["prompt"] = {{"type", "string"}, {"minLength", 1}};
  generate["messages"] = chat["messages"];
  generate["raw"] = Flag("The prompt as it is, not as a turn of the user.");
  generate["adapter"] = Text(1024, "The same as model.");

  Json paths;
  paths["/v1/chat/completions"]["post"] =
      Operation("Answer a conversation.", Object(chat, {"messages"}), any, true);
  paths["/v1/completions"]["post"] =
      Operation("Go on with texts.", Object(completion, {"prompt"}), any, true);
  Json own = Operation("Answer a prompt, within a session where one is named.",
                       Object(generate, Json::array()), any, true);
  own["parameters"] =
      Json::array({{{"name", "X-Session-ID"},
                    {"in", "header"},
                    {"required", false},
                    {"schema", {{"type", "string"}, {"pattern", "^[A-Za-z0-9._-]{1,128}$"}}}}});
  paths["/api/v1/model/generate"]["post"] = std::move(own);
  Json session = Operation("How much a session holds.", nullptr, any, false);
  session["parameters"] = PathParameter("id", "^[A-Za-z0-9._-]{1,128}$");
  paths["/api/v1/sessions/{id}"]["get"] = session;
  session["summary"] = "Forget a session.";
  session["responses"]["409"] = session["responses"]["400"];
  paths["/api/v1/sessions/{id}"]["delete"] = session;
  paths["/v1/models"]["get"] = Operation("The model and its adapters.", nullptr, any, false);
  Json one = Operation("One of them.", nullptr, any, false);
  one["parameters"] = PathParameter("id", nullptr);
  paths["/v1/models/{id}"]["get"] = std::move(one);
  paths["/tokenize"]["post"] =
      Operation("Turn a text, or a conversation, into token ids.",
                Object({{"prompt", {{"type", "string"}}},
                        {"content", {{"type", "string"}}},
                        {"messages", chat["messages"]},
                        {"add_special_tokens", Flag("Begin as the tokenizer says.")},
                        {"parse_special", Flag("Names of special tokens become those tokens.")}},
                       Json::array()),
                any, false);
  paths["/detokenize"]["post"] =
      Operation("Turn token ids into text.",
                Object({{"tokens", {{"type", "array"}, {"items", id}}}}, {"tokens"}), any, false);
  paths["/apply-template"]["post"] =
      Operation("A conversation in the model's format.",
                Object({{"messages", chat["messages"]}}, {"messages"}), any, false);
  paths["/v1/embeddings"]["post"] = Operation("Not supported.", any, any, false);
  for (const char* path :
       {"/health", "/v1/health", "/livez", "/readyz", "/version", "/props", "/openapi.json"}) {
    paths[path]["get"] = Operation("State.", nullptr, any, false);
  }
  Json metrics = Operation("Metrics in Prometheus' text format.", nullptr, any, false);
  metrics["responses"]["200"]["content"] = {{"text/plain", {{"schema", {{"type", "string"}}}}}};
  paths["/metrics"]["get"] = std::move(metrics);
  Json page = Operation("A page to chat with.", nullptr, any, false);
  page["responses"]["200"]["content"] = {{"text/html", {{"schema", {{"type", "string"}}}}}};
  paths["/"]["get"] = std::move(page);

  Json description = {{"openapi", "3.1.0"},
                      {"info", {{"title", "engine: " + model}, {"version", "1"}}}};
  description["paths"] = std::move(paths);
  Json error = Object({{"message", {{"type", "string"}}},
                       {"type", {{"type", "string"}}},
                       {"param", {{"type", {"string", "null"}}}},
                       {"code", {{"type", "integer"}}}},
                      {"message", "type", "param", "code"});
  description["components"]["schemas"]["Error"] = Object({{"error", error}}, {"error"});
  if (keys) {
    description["components"]["securitySchemes"]["key"] = {{"type", "http"}, {"scheme", "bearer"}};
    description["security"] = Json::array({{{"key", Json::array()}}});
  }
  return Line(description) + "\n";
}

}  // namespace engine::http_api
