// jsonl_source and jsonl_sink: a file of requests in, a file of answers in the same order out.
// What both agree on: answers stand in the file in the order of the requests, one line each, so the
// number of whole lines tells where to go on; a packet's group is the request's place.
#ifndef PLUGINS_TEXT_JSONL_H_
#define PLUGINS_TEXT_JSONL_H_

#include <cstdio>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "answer.h"
#include "engine/node.hpp"
#include "nlohmann/json.hpp"
#include "options.engine.hpp"
#include "payloads.h"

namespace engine::text {

// The path of standard input, and of standard output.
inline constexpr std::string_view kStandardStream = "-";

// Where the answers of an earlier run end.
struct Answered {
  uint64_t lines = 0;
  uint64_t bytes = 0;  // of these lines; what comes after is torn
};
// A missing file has no answers. A file that jsonl_sink cannot have written is refused.
Status CountAnswered(const std::string& path, Answered* out);

// Reads one line as a request with the options' values where it is silent.
Status ParseRequest(std::string_view line, const JsonlSourceOptions& defaults, Text* out);

struct JsonlSource : Node {
  ENGINE_NODE("jsonl_source",
              "Gives the requests of a file into the graph, one JSON object a line. A line that "
              "is none is answered with what is wrong with it.",
              .executor = "io")
  ENGINE_OPTIONS(JsonlSourceOptions)
  Out<engine_text> out{this, {.name = "TEXT", .doc = "A prompt with its wishes."}};
  Out<engine_event> bad{this, {.name = "BAD", .doc = "The answers of lines that are no requests."}};
  Status Open(Call&) override;
  Status Process(Call& call) override;

 private:
  Status NextLine(std::string* line, bool* there);
  std::ifstream file_;
  std::streambuf* from_ = nullptr;  // of the file, or standard input
  std::string line_;
  uint64_t line_number_ = 0;  // of the file, from 1
  uint64_t place_ = 0;        // among the requests
  uint64_t answered_ = 0;
};

struct JsonlSink : Node {
  ENGINE_NODE("jsonl_sink",
              "Writes answers to a file, one JSON object a line, in the order of the requests. "
              "Started again with the same file it goes on behind the last whole line.",
              .policies = ENGINE_POLICY_ANY, .default_policy = ENGINE_POLICY_ANY, .executor = "io")
  ENGINE_OPTIONS(JsonlSinkOptions)
  In<engine_event> in{this, {.name = "EVENT", .doc = "Text of any requests."}};
  In<engine_event> bad{this,
                       {.name = "BAD",
                        .doc = "Answers of lines that are no requests.",
                        .flags = ENGINE_PORT_OPTIONAL}};
  Status Open(Call&) override;
  Status Process(Call& call) override;
  Status Close(Call&) override;

 private:
  struct Line {
    std::map<uint32_t, Answer> parts;  // by choice
    std::map<uint32_t, nlohmann::ordered_json> done;
    uint32_t choices = 1;
    bool complete = false;
  };
  Status Flush();
  void Tell(bool last);
  std::map<uint64_t, Line> lines_;  // by place; those before next_ are written
  std::FILE* file_ = nullptr;
  uint64_t next_ = 0;
  uint64_t total_ = 0;  // requests of the input; 0: not told
  uint64_t tokens_ = 0, began_ns_ = 0, told_ns_ = 0;
};

}  // namespace engine::text

#endif  // PLUGINS_TEXT_JSONL_H_
