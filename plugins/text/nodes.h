// The everyday text kinds: prompts in, tokens, one sequence at a time, text out. They touch no
// tensors: raw views only.
#ifndef PLUGINS_TEXT_NODES_H_
#define PLUGINS_TEXT_NODES_H_

#include <cstdio>
#include <deque>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "answer.h"
#include "engine/ext/kv.h"
#include "engine/growth.hpp"
#include "engine/node.hpp"
#include "options.engine.hpp"
#include "payloads.h"

namespace engine::text {

struct Prompt : Node {
  ENGINE_NODE("prompt",
              "Gives prompts into the graph. One from the option text, or one a line of "
              "a file, or of standard input when neither is given.",
              .executor = "io")
  ENGINE_OPTIONS(PromptOptions)
  Out<engine_text> out{this, {.name = "TEXT", .doc = "One prompt a packet."}};
  UseModel model{this,
                 ENGINE_TYPE_MODEL,
                 {.name = "MODEL", .doc = "Where the adapter is looked up.", .optional = true}};
  Status Open(Call& call) override;
  Status Process(Call& call) override;

 private:
  Status Give(Call& call, std::string text);
  Status Read(bool* came);
  bool TakeLine(std::string* line);
  std::ifstream file_;
  std::string pending_;  // read, but not given yet
  size_t searched_ = 0;  // bytes of it that hold no end of a line
  bool at_end_ = false;
};

struct Tokenize : Node {
  ENGINE_NODE("tokenize",
              "Turns text into token ids. Invalid UTF-8 is replaced by U+FFFD first. "
              "A prompt that leaves no room in the model's context is refused with both numbers.")
  ENGINE_OPTIONS(TokenizeOptions)
  In<engine_text> in{this, {.name = "TEXT", .doc = "A prompt."}};
  Out<engine_tokens> out{this, {.name = "TOKENS", .doc = "Its ids."}};
  UseModel model{this, ENGINE_TYPE_MODEL, {.name = "MODEL", .doc = "Whose tokenizer is used."}};
  Status Process(Call& call) override;

 private:
  Status Encode(const engine_model* m, const engine_text& text, bool continues,
                std::vector<int32_t>* ids);
  Status Fits(const engine_model* m, size_t bytes);
  const engine_model* measured_ = nullptr;  // whose longest token is known
  size_t longest_ = 1;                      // in bytes
};

// The token of the only row that came back; null: no token.
struct SampledRow {
  int32_t id = -1;
  const engine_sampled* sampled = nullptr;
};

struct SerialBatcher : Node {
  ENGINE_NODE("serial_batcher",
              "Serves one sequence after the other. The plain stand-in of a "
              "batcher: each step holds one sequence.",
              .emission = ENGINE_EMIT_MANY, .policies = ENGINE_POLICY_ANY,
              .default_policy = ENGINE_POLICY_ANY)
  ENGINE_OPTIONS(SerialBatcherOptions)
  In<engine_tokens> fresh{this, {.name = "NEW", .doc = "Prompts.", .flags = ENGINE_PORT_ERRORS}};
  In<engine_sampled> running{
      this, {.name = "RUNNING", .doc = "Sampled tokens coming back.", .flags = ENGINE_PORT_ERRORS}};
  In<engine_cancel> cancel{this,
                           {.name = "CANCEL",
                            .doc = "Requests that nobody waits for any longer.",
                            .flags = ENGINE_PORT_OPTIONAL}};
  Out<engine_step> step{this, {.name = "STEP", .doc = "One forward pass of one sequence."}};
  Out<engine_token> token{this, {.name = "TOKEN", .doc = "Each token, and each answer's end."}};
  UseModel model{this, ENGINE_TYPE_MODEL, {.name = "MODEL", .doc = "Whose KV store is used."}};
  Status Process(Call& call) override;
  Status Close(Call& call) override;

 private:
  // One answer that waits or runs.
  struct Sequence {
    uint64_t group = 0;
    uint32_t choice = 0, choices = 1;
    uint64_t arrived_ns = 0, deadline_ns = UINT64_MAX;
    std::vector<int32_t> tokens;  // prompt, then what was generated
    size_t prompt = 0;
    size_t done = 0;     // tokens that steps were sent for
    size_t written = 0;  // of them, those that the KV store holds
    uint32_t max_tokens = 0;
    uint32_t adapter = 0;  // its number in the model
    uint64_t sequence = 0;
    bool open = false;  // `sequence` is open
    bool cancelled = false;
    bool enough = false;                                  // whoever asked has all that was wanted
    engine_sampling sampling = Sized<engine_sampling>();  // of the request, as far as it has one
    engine_usage usage = Sized<engine_usage>();
    const engine_request* request = nullptr;
    std::shared_ptr<Packet> keep;  // of the prompt; counts as work in flight until the end
  };
  Status TakeIn(Call& call, const engine_packet* packet);
  Status Start(Call& call);
  Status NextStep(Call& call);
  Status OnSampled(Call& call, const engine_sampled& sampled);
  Status End(Call& call, uint32_t finish, const Status& why, const SampledRow& row = {});
  Status EmitToken(Call& call, const Sequence& answer, const SampledRow& row, uint32_t finish,
                   const Status& why);
  bool Stops(Call& call, const Sequence& answer, int32_t id) const;
  std::mutex mutex_;  // guards all below: the batcher that it stands in for is entered by two
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::unique_ptr<Sequence> current_;
  static constexpr size_t kCancelsKept = 1024;
  std::deque<uint64_t> cancelled_early_;  // groups whose cancel came before their prompt
  const engine_kv_pool* pool_ = nullptr;  // of the current answer
};

struct Forward : Node {
  ENGINE_NODE("forward",
              "Runs the model on a step and gives the logits that each of its sequences asks "
              "for.",
              .executor = "compute")
  ENGINE_OPTIONS(ForwardOptions)
  In<engine_step> in{this, {.name = "STEP", .doc = "What to run."}};
  Out<engine_logits> out{this,
                         {.name = "LOGITS",
                          .doc = "Logits of the last tokens.",
                          .shape = "[rows, vocab]",
                          .dtype = "f32"}};
  UseModel model{this, ENGINE_TYPE_MODEL, {.name = "MODEL", .doc = "What is run."}};
  // Weights are packed before the first request comes.
  Status Open(Call& call) override { return Status(ThisHost().model->prepare(model.Get(call))); }
  Status Process(Call& call) override;

 private:
  std::shared_ptr<LogitsBuffers> buffers_ = std::make_shared<LogitsBuffers>();
};

struct Sample : Node {
  ENGINE_NODE("sample",
              "Chooses the next token of each row of logits: greedy at temperature 0, else "
              "drawn after temperature, top-k and top-p. A request's own settings go before the "
              "options.",
              .executor = "compute")
  ENGINE_OPTIONS(SampleOptions)
  In<engine_logits> in{
      this, {.name = "LOGITS", .doc = "Logits.", .shape = "[rows, vocab]", .dtype = "f32"}};
  Out<engine_sampled> out{this, {.name = "SAMPLED", .doc = "One token a row."}};
  UseModel model{
      this,
      ENGINE_TYPE_MODEL,
      {.name = "MODEL", .doc = "Whose threads are used; nothing depends on it.", .optional = true}};
  Status Process(Call& call) override;
};

struct Detokenize : Node {
  ENGINE_NODE("detokenize", "Turns tokens into text, whole code points at a time.")
  ENGINE_OPTIONS(DetokenizeOptions)
  In<engine_token> in{this, {.name = "TOKEN", .doc = "Tokens of any requests."}};
  Out<engine_event> out{this, {.name = "EVENT", .doc = "Text of the same request."}};
  UseModel model{this, ENGINE_TYPE_MODEL, {.name = "MODEL", .doc = "Whose tokenizer is used."}};
  Status Process(Call& call) override;

 private:
  // Bytes of an unfinished code point, by request and answer.
  std::map<std::pair<uint64_t, uint32_t>, std::string> held_;
};

struct TextSink : Node {
  ENGINE_NODE("text_sink", "Writes text as it comes, and closes each request with its figures.",
              .executor = "io")
  ENGINE_OPTIONS(TextSinkOptions)
  In<engine_event> in{this, {.name = "EVENT", .doc = "Text of any requests."}};
  Status Open(Call&) override;
  Status Process(Call& call) override;
  Status Close(Call&) override;

 private:
  Status Finish(const engine_event& event, const Answer& answer);
  Status Write(std::string_view text);
  std::map<std::pair<uint64_t, uint32_t>, Answer> answers_;  // by request and answer
  std::FILE* file_ = nullptr;                                // null: standard output
};

}  // namespace engine::text

#endif  // PLUGINS_TEXT_NODES_H_
