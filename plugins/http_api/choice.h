// The text of one answer as it grows: stop strings, calls of tools, log-probabilities.
// Invariant: text that may yet be cut off by a stop string is held back, so that nothing is ever
// taken back; what was given out is always the beginning of the final text.
#ifndef PLUGINS_HTTP_API_CHOICE_H_
#define PLUGINS_HTTP_API_CHOICE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ask.h"
#include "tools.h"

namespace engine::http_api {

// One token's place in an answer or a prompt.
struct TokenScore {
  int32_t id = -1;
  float logprob = 0;
  std::string bytes;
  struct Top {
    int32_t id;
    float logprob;
    std::string bytes;
  };
  std::vector<Top> top;
  bool scored = false;
  size_t offset = 0;  // of its text in the answer, in bytes
};

// What came of the engine for one answer.
struct Piece {
  uint64_t group = 0;
  uint32_t choice = 0, choices = 1;
  int32_t id = -1;
  std::string text;
  engine_finish finish = ENGINE_FINISH_NONE;
  int32_t code = 0;
  std::string error;
  uint64_t retry_after_us = 0;
  engine_usage usage = {};         // with a finish
  TokenScore score;                // where it was asked for
  std::vector<TokenScore> prompt;  // with the first, where it was asked for
  uint64_t made_ns = 0;
};

// What may be said now.
struct Delta {
  std::string text;
  std::vector<ToolCall> calls;
  std::vector<TokenScore> scores;
  std::vector<int32_t> ids;
  bool ended = false;
};

class Choice {
 public:
  // Takes a piece. True when the answer has said enough while the engine still makes it.
  bool Add(Piece piece, const Ask& ask, Delta* delta);

  bool ended() const { return ended_; }
  const char* finish_reason() const { return finish_reason_; }  // null: none yet
  const std::string& text() const { return text_; }             // without calls
  const std::vector<ToolCall>& calls() const { return calls_; }
  const std::vector<TokenScore>& scores() const { return scores_; }
  const std::vector<int32_t>& ids() const { return ids_; }
  uint32_t tokens() const { return tokens_; }
  // Of its own end in the engine; while it said enough earlier, as far as counted.
  const engine_usage& usage() const { return usage_; }
  bool has_usage() const { return has_usage_; }

 private:
  std::string raw_;   // all that came
  size_t given_ = 0;  // of it, in bytes
  std::string text_;
  ToolReader tool_reader_;
  std::vector<ToolCall> calls_;
  std::vector<TokenScore> scores_;
  size_t scores_given_ = 0;
  std::vector<int32_t> ids_;
  size_t ids_given_ = 0;
  uint32_t tokens_ = 0;
  bool ended_ = false;  // for the client
  bool has_usage_ = false;
  const char* finish_reason_ = nullptr;
  engine_usage usage_ = {};
};

}  // namespace engine::http_api

#endif  // PLUGINS_HTTP_API_CHOICE_H_
