// The everyday text kinds: prompts in, tokens, one sequence at a time, text out. They touch no
// tensors: raw views only.
#ifndef PLUGINS_TEXT_NODES_H_
#define PLUGINS_TEXT_NODES_H_

#include <cstdio>
#include <deque>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/node.hpp"
#include "options.engine.hpp"

namespace engine::text {

struct Prompt : Node {
  ENGINE_NODE("prompt",
              "Gives prompts into the graph. One from the option text, or one a line of "
              "a file, or of standard input when neither is given.",
              .executor = "io")
  ENGINE_OPTIONS(PromptOptions)
  Out<engine_text> out{this, {.name = "TEXT", .doc = "One prompt a packet."}};
  Status Open(Call&) override;
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
  Out<engine_step> step{this, {.name = "STEP", .doc = "One forward pass of one sequence."}};
  Out<engine_token> token{this, {.name = "TOKEN", .doc = "Each token, and each request's end."}};
  UseModel model{this, ENGINE_TYPE_MODEL, {.name = "MODEL", .doc = "Whose KV store is used."}};
  Status Process(Call& call) override;
  Status Close(Call& call) override;

 private:
  // A prompt that waits or runs.
  struct Request {
    uint64_t group = 0;
    uint64_t arrived_ns = 0;
    std::vector<int32_t> tokens;  // prompt, then what was generated
    size_t prompt = 0;
    size_t done = 0;  // tokens that the KV store holds
    uint64_t sequence = 0;
    bool open = false;  // `sequence` is open
    Packet keep;        // counts as work in flight until the request ends
  };
  Status Start(Call& call);
  Status NextStep(Call& call);
  Status OnSampled(Call& call, int32_t id, float margin);
  Status End(Call& call, uint32_t finish, int32_t id, float margin, std::string_view error);
  Status EmitToken(Call& call, int32_t id, uint32_t finish, float margin, std::string_view error);
  const engine_kv_view* Kv(Call& call) const;
  std::deque<std::unique_ptr<Request>> waiting_;
  std::unique_ptr<Request> current_;
  const engine_kv_view* kv_ = nullptr;  // of the current request
};

struct Forward : Node {
  ENGINE_NODE("forward",
              "Runs the model on a step and gives the logits of each sequence's last "
              "token.",
              .executor = "compute")
  ENGINE_OPTIONS(ForwardOptions)
  In<engine_step> in{this, {.name = "STEP", .doc = "What to run."}};
  Out<engine_logits> out{this,
                         {.name = "LOGITS",
                          .doc = "Logits of the last tokens.",
                          .shape = "[sequences, vocab]",
                          .dtype = "f32"}};
  UseModel model{this, ENGINE_TYPE_MODEL, {.name = "MODEL", .doc = "What is run."}};
  Status Process(Call& call) override;
};

struct Sample : Node {
  ENGINE_NODE("sample",
              "Chooses the next token of each sequence: greedy at temperature 0, else "
              "drawn after temperature, top-k and top-p.")
  ENGINE_OPTIONS(SampleOptions)
  In<engine_logits> in{
      this, {.name = "LOGITS", .doc = "Logits.", .shape = "[sequences, vocab]", .dtype = "f32"}};
  Out<engine_sampled> out{this, {.name = "SAMPLED", .doc = "One token a sequence."}};
  Status Process(Call& call) override;

 private:
  std::vector<std::pair<float, int32_t>> best_;  // kept, so that no token allocates
};

struct Detokenize : Node {
  ENGINE_NODE("detokenize", "Turns tokens into text, whole code points at a time.")
  ENGINE_OPTIONS(DetokenizeOptions)
  In<engine_token> in{this, {.name = "TOKEN", .doc = "Tokens of any requests."}};
  Out<engine_event> out{this, {.name = "EVENT", .doc = "Text of the same request."}};
  UseModel model{this, ENGINE_TYPE_MODEL, {.name = "MODEL", .doc = "Whose tokenizer is used."}};
  Status Process(Call& call) override;

 private:
  std::map<uint64_t, std::string> held_;  // bytes of an unfinished code point, by request
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
  struct Answer {
    std::string text;
    std::vector<int32_t> ids, prompt_ids;
    std::vector<float> margins;
    uint64_t arrived_ns = 0, first_ns = 0, last_ns = 0;
  };
  Status Finish(const engine_event& event, Answer& answer);
  Status Write(std::string_view text);
  std::map<uint64_t, Answer> answers_;
  std::FILE* file_ = nullptr;  // null: standard output
};

}  // namespace engine::text

#endif  // PLUGINS_TEXT_NODES_H_
