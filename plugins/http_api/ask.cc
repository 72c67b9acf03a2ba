#include "ask.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "fields.h"
#include "tools.h"

namespace engine::http_api {
namespace {

constexpr size_t kMostName = 1024;
constexpr size_t kMostStops = 16, kMostStopBytes = 1024;
constexpr size_t kMostBias = 2048, kMostStopIds = 256;
constexpr size_t kMostSchema = 256 << 10;

void ReadStops(Fields* fields, Ask* ask) {
  const Json* v = fields->Find("stop");
  if (v == nullptr) return;
  const auto add = [&](const Json& item) {
    if (!item.is_string()) {
      return fields->Fail("stop", "must be a text or a list of texts, and holds ", TypeName(item));
    }
    const auto& text = item.get_ref<const std::string&>();
    if (text.empty()) return fields->Fail("stop", "holds an empty text, which stands everywhere");
    if (text.size() > kMostStopBytes) {
      return fields->Fail("stop", "holds a text of ", text.size(), " bytes; at most ",
                          kMostStopBytes, " are taken");
    }
    ask->stops.push_back(text);
  };
  if (!v->is_array()) return add(*v);
  if (v->size() > kMostStops) {
    return fields->Fail("stop", "holds ", v->size(), " texts; at most ", kMostStops, " are taken");
  }
  for (const Json& item : *v) add(item);
}

void ReadIds(Fields* fields, const char* name, size_t most, int64_t vocab,
             std::vector<int32_t>* out) {
  const Json* v = fields->Find(name);
  if (v == nullptr) return;
  if (!v->is_array()) return fields->Fail(name, "must be a list of token ids");
  if (v->size() > most) {
    return fields->Fail(name, "holds ", v->size(), " ids; at most ", most, " are taken");
  }
  for (const Json& item : *v) {
    int64_t id = 0;
    if (!Fields::ToWhole(item, &id) || id < 0 || id >= vocab) {
      return fields->Fail(name, "holds ", Line(item), ", which is no token id of the model (0 to ",
                          vocab - 1, ")");
    }
    out->push_back(static_cast<int32_t>(id));
  }
}

void ReadBias(Fields* fields, int64_t vocab, Ask* ask) {
  const Json* v = fields->Find("logit_bias");
  if (v == nullptr) return;
  if (!v->is_object()) {
    return fields->Fail("logit_bias", "must be an object of token ids and numbers, and is ",
                        TypeName(*v));
  }
  if (v->size() > kMostBias) {
    return fields->Fail("logit_bias", "holds ", v->size(), " tokens; at most ", kMostBias,
                        " are taken");
  }
  std::set<int32_t> seen;
  for (const auto& [key, bias] : v->items()) {
    int32_t id = 0;
    const auto end = std::from_chars(key.data(), key.data() + key.size(), id);
    if (end.ec != std::errc() || end.ptr != key.data() + key.size() || id < 0 || id >= vocab) {
      return fields->Fail("logit_bias", "names ", Quoted(key.substr(0, 64)),
                          ", which is no token id of the model (0 to ", vocab - 1, ")");
    }
    if (!bias.is_number() || !(std::abs(bias.get<double>()) <= 100)) {
      return fields->Fail("logit_bias", "of token ", key,
                          " must be a number from -100 to 100, and is ",
                          bias.is_number() ? Line(bias) : std::string(TypeName(bias)));
    }
    if (!seen.insert(id).second) return fields->Fail("logit_bias", "names token ", id, " twice");
    ask->bias_ids.push_back(id);
    // As far as it goes, it forbids and forces.
    const auto value = bias.get<float>();
    ask->bias_values.push_back(value <= -100 ? -1e9f : value >= 100 ? 1e9f : value);
  }
}

void TakeSchema(Fields* fields, const char* name, const Json& schema, Ask* ask) {
  if (!schema.is_object() && !schema.is_boolean()) {
    return fields->Fail(name, "must be a JSON schema, and is ", TypeName(schema));
  }
  ask->form = ENGINE_FORM_JSON_SCHEMA;
  ask->form_text = Line(schema);
  if (ask->form_text.size() > kMostSchema) {
    fields->Fail(name, "has ", ask->form_text.size(), " bytes; at most ", kMostSchema,
                 " are taken");
  }
}

// response_format, and the names that vLLM and llama.cpp have for the same.
void ReadForm(Fields* fields, Refusal* refusal, Ask* ask) {
  if (const Json* v = fields->Find("response_format")) {
    if (!v->is_object()) {
      return fields->Fail("response_format", "must be an object with a type, and is ",
                          TypeName(*v));
    }
    Fields inner(*v, refusal, "response_format.");
    std::string type;
    inner.Text("type", 64, &type);
    const Json* schema = nullptr;
    if (!inner.ok() || type == "text") {
      return;
    } else if (type == "json_object") {
      ask->form = ENGINE_FORM_JSON;
      schema = inner.Find("schema");
      if (schema != nullptr) TakeSchema(&inner, "schema", *schema, ask);
    } else if (type == "json_schema") {
      const Json* named = inner.Find("json_schema");
      if (named == nullptr || !named->is_object()) {
        return inner.Fail("json_schema", "must be there: an object with the schema");
      }
      schema = Fields(*named, refusal).Find("schema");
      if (schema == nullptr) return inner.Fail("json_schema.schema", "must be there");
      TakeSchema(&inner, "json_schema.schema", *schema, ask);
    } else if (type == "regex") {
      ask->form = ENGINE_FORM_REGEX;
      inner.Text("regex", kMostSchema, &ask->form_text);
      if (inner.Find("regex") == nullptr) inner.Fail("regex", "must be there");
    } else {
      inner.Fail("type", "is ", Quoted(type),
                 "; it can be text, json_object, json_schema or regex");
    }
    return;
  }
  const Json* options = fields->Find("structured_outputs");
  if (options != nullptr && !options->is_object()) {
    return fields->Fail("structured_outputs", "must be an object, and is ", TypeName(*options));
  }
  static const Json kEmpty = Json::object();
  Fields outputs(options != nullptr ? *options : kEmpty, refusal, "structured_outputs.");
  const auto schema = [&](Fields* from, const char* name) {
    const Json* v = from->Find(name);
    if (v != nullptr) TakeSchema(from, name, *v, ask);
  };
  const auto regex = [&](Fields* from, const char* name) {
    if (from->Find(name) == nullptr) return;
    ask->form = ENGINE_FORM_REGEX;
    from->Text(name, kMostSchema, &ask->form_text);
  };
  schema(&outputs, "json");
  regex(&outputs, "regex");
  schema(fields, "guided_json");
  regex(fields, "guided_regex");
  schema(fields, "json_schema");
  bool any = false;
  outputs.Flag("json_object", &any);
  if (any && ask->form == ENGINE_FORM_FREE) ask->form = ENGINE_FORM_JSON;
}

// How tokens are chosen.
void ReadSampling(Fields* fields, const AskLimits& limits, bool* has_seed, Ask* ask) {
  engine_sampling& s = ask->sampling;
  s.struct_size = sizeof s;
  s.temperature = limits.temperature;
  s.top_p = 1;
  s.flags = ENGINE_SAMPLING_OWN_DRAWS;
  fields->Number("temperature", 0, 2, &s.temperature);
  fields->Number("top_p", 0, 1, &s.top_p);
  if (const Json* v = fields->Find("top_p"); v != nullptr && fields->ok() && s.top_p == 0) {
    fields->Fail("top_p", "must be above 0, and at most 1");
  }
  int64_t top_k = 0;
  fields->Whole("top_k", -1, 10'000'000, &top_k);
  s.top_k = top_k > 0 ? static_cast<uint32_t>(top_k) : 0;
  fields->Number("min_p", 0, 1, &s.min_p);
  fields->Number("typical_p", 0, 1, &s.typical_p);
  fields->Number("repetition_penalty", 0.01, 100, &s.repetition_penalty);
  fields->Number("presence_penalty", -2, 2, &s.presence_penalty);
  fields->Number("frequency_penalty", -2, 2, &s.frequency_penalty);
  int64_t seed = 0;
  fields->Whole("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(),
                &seed, has_seed);
  s.seed = static_cast<uint64_t>(seed);
  fields->Whole("min_tokens", 0, 1 << 20, &s.min_tokens);
  bool ignore_eos = false;
  fields->Flag("ignore_eos", &ignore_eos);
  if (ignore_eos) s.flags |= ENGINE_SAMPLING_IGNORE_END;
  ReadIds(fields, "stop_token_ids", kMostStopIds, limits.vocab, &ask->stop_ids);
  ReadBias(fields, limits.vocab, ask);
}

void ReadPrompts(Fields* fields, const AskLimits& limits, Ask* ask) {
  const Json* v = fields->Find("prompt");
  if (v == nullptr) return fields->Fail("prompt", "must be there");
  const auto ids = [&](const Json& list) {
    if (list.empty()) return fields->Fail("prompt", "is empty");
    Prompt prompt;
    prompt.form = ENGINE_TEXT_IDS;
    if (static_cast<int64_t>(list.size()) >= limits.context) {
      return fields->Fail("prompt", "has ", list.size(), " tokens; the context of the model holds ",
                          limits.context, ", the answer included");
    }
    for (const Json& item : list) {
      int64_t id = 0;
      if (!Fields::ToWhole(item, &id)) {
        return fields->Fail("prompt",
                            "is a list of mixed things: it can be a text, a list of "
                            "texts, a list of token ids or a list of such lists");
      }
      if (id < 0 || id >= limits.vocab) {
        return fields->Fail("prompt", "holds ", Line(item),
                            ", which is no token id of the model (0 to ", limits.vocab - 1, ")");
      }
      prompt.ids.push_back(static_cast<int32_t>(id));
    }
    ask->prompts.push_back(std::move(prompt));
  };
  const auto text = [&](const Json& item) {
    Prompt prompt;
    prompt.form = ENGINE_TEXT_PLAIN;
    prompt.text = item.get<std::string>();
    if (prompt.text.empty()) return fields->Fail("prompt", "is empty");
    ask->prompts.push_back(std::move(prompt));
  };
  if (v->is_string()) return text(*v);
  if (!v->is_array()) {
    return fields->Fail("prompt",
                        "must be a text, a list of texts, a list of token ids or a list "
                        "of such lists, and is ",
                        TypeName(*v));
  }
  if (v->empty()) return fields->Fail("prompt", "is empty");
  if (v->front().is_number()) return ids(*v);
  if (v->size() > limits.max_prompts) {
    return fields->Fail("prompt", "holds ", v->size(), " prompts; at most ", limits.max_prompts,
                        " are taken");
  }
  for (const Json& item : *v) {
    if (!fields->ok()) return;
    if (item.is_string() && v->front().is_string()) {
      text(item);
    } else if (item.is_array() && v->front().is_array()) {
      ids(item);
    } else {
      return fields->Fail("prompt",
                          "is a list of mixed things: it can be a text, a list of texts, "
                          "a list of token ids or a list of such lists");
    }
  }
}

void ReadChat(Fields* fields, const Json& body, const AskLimits& limits, Refusal* refusal,
              Ask* ask) {
  ToolsRead tools = ReadTools(body, refusal);
  if (refusal->set()) return;
  if (tools.any && ask->form != ENGINE_FORM_FREE) {
    return fields->Fail("response_format", "and tools cannot both be asked for");
  }
  const Json* messages = fields->Find("messages");
  static const Json kNull;
  Json plain;
  if (!ReadMessages(messages != nullptr ? *messages : kNull, limits.template_has_tools,
                    tools.offered, &plain, refusal)) {
    return;
  }
  Prompt prompt;
  prompt.form = ENGINE_TEXT_MESSAGES;
  prompt.text = Line(plain);
  if (limits.template_has_tools && !tools.offered.empty()) prompt.tools = Line(tools.offered);
  ask->prompts.push_back(std::move(prompt));
  if (tools.any) {
    ask->calls_tools = true;
    ask->form = ENGINE_FORM_TOOLS;
    ask->form_text = std::move(tools.form);
  }
}

// The brief's own endpoint: a prompt as a turn of the user, or a conversation.
void ReadGenerate(Fields* fields, const AskLimits& limits, Refusal* refusal, Ask* ask) {
  const Json* messages = fields->Find("messages");
  Prompt prompt;
  if (messages != nullptr) {
    if (fields->Find("prompt") != nullptr) {
      return fields->Fail("prompt", "and messages are both there: give one of them");
    }
    Json plain;
    if (!ReadMessages(*messages, limits.template_has_tools, Json::array(), &plain, refusal)) return;
    prompt.form = ENGINE_TEXT_MESSAGES;
    prompt.text = Line(plain);
  } else {
    fields->Text("prompt", SIZE_MAX, &prompt.text);
    if (fields->ok() && prompt.text.empty()) {
      return fields->Fail("prompt", "must be there: the text to answer");
    }
    bool raw = false;
    fields->Flag("raw", &raw);
    prompt.form = raw || !limits.has_chat ? ENGINE_TEXT_PLAIN : ENGINE_TEXT_TURN;
  }
  ask->prompts.push_back(std::move(prompt));
}

void ReadMaxTokens(Fields* fields, Ask* ask) {
  constexpr int64_t kMost = 1 << 20;
  bool given = false;
  const int64_t least = ask->style == Style::kCompletion ? 0 : 1;
  for (const char* name : {"max_tokens", "max_completion_tokens", "max_new_tokens"}) {
    fields->Whole(name, least, kMost, &ask->max_tokens, &given);
  }
  if (!given && ask->style == Style::kCompletion) ask->max_tokens = 16;  // as OpenAI has it
  if (given && ask->max_tokens == 0) {
    ask->no_answer = true;
    ask->max_tokens = 1;
    if (!ask->echo && fields->ok()) {
      fields->Fail("max_tokens", "is 0: with echo the prompt alone comes back, without it nothing");
    }
  }
}

void ReadLogprobs(Fields* fields, Ask* ask) {
  if (ask->style == Style::kCompletion) {
    bool given = false;
    const Json* v = fields->Find("logprobs");
    if (v != nullptr && v->is_boolean()) {  // as some clients of chats send it
      given = v->get<bool>();
    } else {
      fields->Whole("logprobs", 0, 20, &ask->top_logprobs, &given);
    }
    ask->logprobs = given;
  } else {
    fields->Flag("logprobs", &ask->logprobs);
    bool given = false;
    fields->Whole("top_logprobs", 0, 20, &ask->top_logprobs, &given);
    if (given && ask->top_logprobs != 0 && !ask->logprobs && fields->ok()) {
      fields->Fail("top_logprobs", "needs logprobs: true");
    }
  }
  if (ask->logprobs) ask->sampling.logprobs = ask->top_logprobs + 1;
}

}  // namespace

Refusal Refused(int status, std::string message, std::string param) {
  Refusal r;
  r.status = status;
  r.message = std::move(message);
  r.param = std::move(param);
  return r;
}

Refusal Draining() {
  Refusal r = Refused(503, "the server is draining: it takes no new requests");
  r.retry_after = 1;
  r.retry = true;
  return r;
}

Json ToJson(const Refusal& r) {
  const char* type = r.status == 401   ? "authentication_error"
                     : r.status == 403 ? "permission_error"
                     : r.status == 404 ? "not_found_error"
                     : r.status == 429 ? "rate_limit_error"
                     : r.status == 501 ? "not_supported_error"
                     : r.status == 503 ? "unavailable_error"
                     : r.status >= 500 ? "server_error"
                                       : "invalid_request_error";
  Json error = {{"message", r.message}, {"type", type}};
  error["param"] = r.param.empty() ? Json(nullptr) : Json(r.param);
  error["code"] = r.status;
  return {{"error", std::move(error)}};
}

Refusal FromStatus(int32_t code, std::string_view message, uint64_t retry_after_us) {
  Refusal r;
  r.message = std::string(message);
  switch (code) {
    case ENGINE_INVALID_ARGUMENT:
    case ENGINE_OUT_OF_RANGE:
    case ENGINE_FAILED_PRECONDITION:
      r.status = 400;
      break;
    case ENGINE_NOT_FOUND:
      r.status = 404;
      break;
    case ENGINE_UNIMPLEMENTED:
      r.status = 501;
      break;
    case ENGINE_RESOURCE_EXHAUSTED:
      r.status = 429;
      r.retry = true;
      r.retry_after = retry_after_us != 0 ? static_cast<double>(retry_after_us) * 1e-6 : 1;
      break;
    case ENGINE_DEADLINE_EXCEEDED:
      r.status = 504;
      break;
    case ENGINE_UNAVAILABLE:
    case ENGINE_CANCELLED:
      r.status = 503;
      r.retry = true;
      r.retry_after = 1;
      break;
    default:
      r.status = 500;
  }
  return r;
}

AskRead ReadAsk(Style style, const Json& body, const AskLimits& limits) {
  AskRead read;
  Ask& ask = read.ask;
  ask.style = style;
  Refusal* refusal = &read.refusal;
  if (!body.is_object()) {
    refusal->status = 400;
    refusal->message = std::string("the body must be a JSON object, and is ") + TypeName(body);
    return read;
  }
  Fields fields(body, refusal);
  fields.Text("model", kMostName, &ask.model);
  if (style == Style::kGenerate) fields.Text("adapter", kMostName, &ask.model);
  fields.Flag("stream", &ask.stream);
  if (const Json* options = fields.Find("stream_options")) {
    if (!options->is_object()) {
      fields.Fail("stream_options", "must be an object, and is ", TypeName(*options));
    } else if (!ask.stream) {
      fields.Fail("stream_options", "needs stream: true");
    } else {
      Fields(*options, refusal, "stream_options.").Flag("include_usage", &ask.include_usage);
    }
  }
  fields.Whole("n", 1, limits.max_answers, &ask.n);
  if (style == Style::kCompletion) {
    int64_t best_of = ask.n;
    fields.Whole("best_of", 1, 128, &best_of);
    if (fields.ok() && best_of != ask.n) {
      fields.Fail("best_of", "must equal n: answers are not ranked here");
    }
    fields.Flag("echo", &ask.echo);
    std::string suffix;
    fields.Text("suffix", kMostName, &suffix);
    if (!suffix.empty()) fields.Fail("suffix", "is not supported: the model fills no gaps");
  }
  ReadSampling(&fields, limits, &read.has_seed, &ask);
  ReadMaxTokens(&fields, &ask);
  ReadLogprobs(&fields, &ask);
  ReadStops(&fields, &ask);
  fields.Whole("priority", 0, 64, &ask.priority);
  fields.Whole("timeout_ms", 1, 86'400'000, &ask.timeout_ms);
  fields.Text("cache_salt", kMostName, &ask.salt);
  fields.Flag("return_token_ids", &ask.return_ids);
  std::string user;
  fields.Text("user", 65536, &user);
  if (fields.ok()) ReadForm(&fields, refusal, &ask);
  if (!fields.ok()) return read;
  if (ask.echo && ask.stream && ask.logprobs) {
    fields.Fail("echo", "with logprobs is not streamed: leave stream out");
  }
  switch (style) {
    case Style::kChat:
      ReadChat(&fields, body, limits, refusal, &ask);
      break;
    case Style::kCompletion:
      ReadPrompts(&fields, limits, &ask);
      break;
    case Style::kGenerate:
      ReadGenerate(&fields, limits, refusal, &ask);
      break;
  }
  return read;
}

}  // namespace engine::http_api
