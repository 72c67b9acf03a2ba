// What was found in a data set, gathered example by example, and told as text or as JSON.
// Invariant: every example was counted exactly once, as good, bad or left out.
#ifndef PLUGINS_DATA_REPORT_H_
#define PLUGINS_DATA_REPORT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.hpp"
#include "spans.h"

namespace engine::data {

struct ReportSettings {
  std::string file;
  size_t sequence = 512;
  size_t problems = 10;  // so many are kept; all are counted
  size_t shown = 1;      // so many examples are kept: the shortest, the first of equals
};

class Report {
 public:
  Report() = default;
  explicit Report(ReportSettings settings) : settings_(std::move(settings)) {}
  // What the file is in words, its shape, and how many examples there are.
  void Describe(std::string_view form, std::string_view shape, uint64_t examples);

  // `what` begins with the place.
  void Bad(std::string_view what);
  // An example that could be read; `encoder` knows its tokens.
  void Add(const std::string& where, const Tokens& tokens, Fate fate, const Encoder& encoder);

  std::string Text() const;
  std::string Json() const;
  // OK when every example could be read and some are of use.
  Status Verdict() const;

 private:
  // Tokens that follow each other and count alike.
  struct Part {
    bool counts = false;
    std::string text;
  };
  struct Shown {
    uint64_t order = 0;
    std::string where;
    Tokens tokens;
    std::vector<Part> parts;
  };
  // Of several numbers; percentiles are members of them (nearest rank).
  struct Spread {
    uint64_t total = 0, min = 0, median = 0, p90 = 0, p99 = 0, max = 0;
  };
  static Spread SpreadOf(std::vector<uint32_t> values);
  void Show(const std::string& where, const Tokens& tokens, const Encoder& encoder);
  uint64_t left_out() const;
  // Of the tokens that would be trained on, those that ask for nothing.
  double MaskedShare() const;

  ReportSettings settings_;
  std::string form_, shape_;
  uint64_t examples_ = 0;
  uint64_t fates_[4] = {};
  std::string first_[4];  // places of the first of each fate
  uint64_t bad_ = 0, cut_ = 0, cut_tokens_ = 0;
  uint64_t endless_ = 0;          // good ones with an answer that no token ends
  std::vector<uint32_t> tokens_;  // of all that could be read, before anything is cut
  std::vector<uint32_t> labels_;  // of those that are of use, after it
  uint64_t kept_ = 0;             // tokens of those that are of use, after it
  std::vector<std::string> problems_;
  std::vector<Shown> shown_;  // in the file's order
};

}  // namespace engine::data

#endif  // PLUGINS_DATA_REPORT_H_
