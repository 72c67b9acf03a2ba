// What a request for text asks for, read from its JSON body.
// Invariant: an Ask that was read without a refusal holds only values within their ranges; what
// depends on the model (adapter, context, vocabulary of a prompt's ids) is judged later, by those
// who use it.
#ifndef PLUGINS_HTTP_API_ASK_H_
#define PLUGINS_HTTP_API_ASK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/types.h"
#include "json_read.h"

namespace engine::http_api {

// Why a request is not served, as it is told to the client.
struct Refusal {
  int status = 0;  // of HTTP; 0: none
  std::string message;
  std::string param;                 // the field, where it is one's fault
  const char* challenge = "Bearer";  // of 401: how a key may be brought
  std::string allow;                 // of 405: the methods that would do
  double retry_after = 0;            // seconds; 0: not told
  bool retry = false;                // whether the same request may do better later

  bool set() const { return status != 0; }
};
Refusal Refused(int status, std::string message, std::string param = "");
Refusal Draining();
Json ToJson(const Refusal& refusal);
// The refusal that a status of the engine amounts to.
Refusal FromStatus(int32_t code, std::string_view message, uint64_t retry_after_us);

// Which of the APIs a request came by.
enum class Style { kChat, kCompletion, kGenerate };

struct Prompt {
  engine_text_form form = ENGINE_TEXT_AS_NODE;
  std::string text;  // of ENGINE_TEXT_MESSAGES: the JSON list
  std::string tools;
  std::vector<int32_t> ids;
};

struct Ask {
  Style style = Style::kChat;
  std::string model;
  std::vector<Prompt> prompts;
  bool stream = false, include_usage = false, echo = false;
  bool no_answer = false;  // max_tokens 0: the prompt alone is scored
  uint32_t n = 1;
  uint32_t max_tokens = 0;  // 0: not said
  uint32_t priority = 0;
  uint64_t timeout_ms = 0;
  std::vector<std::string> stops;
  bool logprobs = false;
  uint32_t top_logprobs = 0;
  engine_sampling sampling = {};  // without its pointers
  std::vector<int32_t> bias_ids, stop_ids;
  std::vector<float> bias_values;
  engine_form form = ENGINE_FORM_FREE;
  std::string form_text;
  bool calls_tools = false;  // the answer may be, or is, calls of tools
  bool return_ids = false;
  std::string session, salt;
};

struct AskLimits {
  uint32_t max_answers = 8, max_prompts = 64;
  int64_t vocab = 0, context = 0;
  double temperature = 1;
  bool has_chat = true;
  bool template_has_tools = false;  // else tools are described in a system message
};

// What a seed that was not given becomes is up to the caller: has_seed tells.
struct AskRead {
  Ask ask;
  bool has_seed = false;
  Refusal refusal;
};
AskRead ReadAsk(Style style, const Json& body, const AskLimits& limits);

// The messages of a chat in the form that templates take: contents as texts.
bool ReadMessages(const Json& value, bool template_has_tools, const Json& tools, Json* out,
                  Refusal* refusal);

}  // namespace engine::http_api

#endif  // PLUGINS_HTTP_API_ASK_H_
