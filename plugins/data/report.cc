#include "report.h"

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "nlohmann/json.hpp"

namespace engine::data {
namespace {

using Json = nlohmann::ordered_json;

// Of a part that is shown as text: so many bytes at its beginning and at its end.
constexpr size_t kHead = 240, kTail = 60;

constexpr Fate kFates[] = {Fate::kShort, Fate::kLong, Fate::kUnlabelled};
const char* Name(Fate fate) {
  return fate == Fate::kShort ? "short" : fate == Fate::kLong ? "long" : "unlabelled";
}

// Pieces of a text may end within a code point, and a file's words may be no UTF-8.
std::string Dump(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string Quoted(const std::string& text) {
  if (text.size() <= kHead + kTail) return Dump(text);
  return Dump(text.substr(0, kHead)) + " ... " + Dump(text.substr(text.size() - kTail)) + " (" +
         std::to_string(text.size()) + " bytes)";
}

std::string Number(uint64_t n) { return std::to_string(n); }

// "3 examples", "1 example".
std::string Count(uint64_t n, const char* of) { return Number(n) + " " + of + (n == 1 ? "" : "s"); }

}  // namespace

void Report::Describe(std::string_view form, std::string_view shape, uint64_t examples) {
  form_ = form;
  shape_ = shape;
  examples_ = examples;
}

void Report::Bad(std::string_view what) {
  ++bad_;
  if (problems_.size() < settings_.problems) problems_.emplace_back(what);
}

void Report::Add(const std::string& where, const Tokens& tokens, Fate fate,
                 const Encoder& encoder) {
  const auto index = static_cast<size_t>(fate);
  if (fates_[index]++ == 0) first_[index] = where;
  tokens_.push_back(static_cast<uint32_t>(std::min<size_t>(tokens.whole, UINT32_MAX)));
  if (fate != Fate::kGood) return;
  if (tokens.ids.size() < tokens.whole) {
    ++cut_;
    cut_tokens_ += tokens.whole - tokens.ids.size();
  }
  if (tokens.endless != 0) ++endless_;
  kept_ += tokens.ids.size();
  labels_.push_back(
      static_cast<uint32_t>(std::count_if(tokens.labels.begin(), tokens.labels.end(),
                                          [](int32_t label) { return label != kNoLabel; })));
  Show(where, tokens, encoder);
}

void Report::Show(const std::string& where, const Tokens& tokens, const Encoder& encoder) {
  if (settings_.shown == 0) return;
  if (shown_.size() == settings_.shown) {
    const auto longest =
        std::max_element(shown_.begin(), shown_.end(), [](const Shown& a, const Shown& b) {
          return a.tokens.ids.size() < b.tokens.ids.size() ||
                 (a.tokens.ids.size() == b.tokens.ids.size() && a.order < b.order);
        });
    if (longest->tokens.ids.size() <= tokens.ids.size()) return;
    shown_.erase(longest);
  }
  Shown made{fates_[0], where, tokens, {}};
  for (size_t t = 0; t < tokens.ids.size(); ++t) {
    // A token counts when the one before asks for it.
    const bool counts = t != 0 && tokens.labels[t - 1] != kNoLabel;
    if (made.parts.empty() || made.parts.back().counts != counts)
      made.parts.push_back({counts, ""});
    made.parts.back().text += encoder.Shown(tokens.ids[t]);
  }
  shown_.push_back(std::move(made));
}

Report::Spread Report::SpreadOf(std::vector<uint32_t> values) {
  Spread s;
  if (values.empty()) return s;
  std::sort(values.begin(), values.end());
  // The smallest member that at least so many of a hundred do not exceed.
  const auto rank = [&](uint64_t percent) -> uint64_t {
    return values[(values.size() * percent + 99) / 100 - 1];
  };
  s.total = std::accumulate(values.begin(), values.end(), uint64_t{0});
  s.min = values.front();
  s.median = rank(50);
  s.p90 = rank(90);
  s.p99 = rank(99);
  s.max = values.back();
  return s;
}

uint64_t Report::left_out() const {
  uint64_t count = 0;
  for (const Fate fate : kFates) count += fates_[static_cast<size_t>(fate)];
  return count;
}

double Report::MaskedShare() const {
  if (kept_ == 0) return 0;
  const uint64_t labels = std::accumulate(labels_.begin(), labels_.end(), uint64_t{0});
  return 1 - static_cast<double>(labels) / static_cast<double>(kept_);
}

std::string Report::Text() const {
  std::string out = settings_.file + ": " + form_ + ", shape " + shape_ + ", " +
                    Count(examples_, "example") + "\n";
  const auto line = [&out](const std::string& name, const std::string& text) {
    out += "  " + name + std::string(10 - std::min<size_t>(name.size(), 9), ' ') + text + "\n";
  };
  line("good", Number(fates_[0]));
  line("cut", cut_ == 0 ? "0"
                        : Number(cut_) + " of the good ones, with more than " +
                              Number(settings_.sequence) + " tokens, would lose " +
                              Count(cut_tokens_, "token"));
  if (endless_ != 0) {
    line("endless", Number(endless_) +
                        " of the good ones have an answer that no token ends, so that the model "
                        "would not learn to stop; end_token can name one");
  }
  line("left out", Number(left_out()));
  for (const Fate fate : kFates) {
    const auto index = static_cast<size_t>(fate);
    if (fates_[index] == 0) continue;
    line("", Number(fates_[index]) + " " + std::string(Reason(fate)) + ", the first at " +
                 first_[index]);
  }
  line("bad", Number(bad_));
  char text[160];
  std::snprintf(text, sizeof text, "%-9s %12s %8s %8s %8s %8s %8s\n", "", "total", "min", "median",
                "90 %", "99 %", "max");
  out += std::string("  ") + text;
  const auto spread = [&](const char* name, const Spread& s) {
    const auto wide = [](uint64_t n) { return static_cast<unsigned long long>(n); };
    std::snprintf(text, sizeof text, "%-9s %12llu %8llu %8llu %8llu %8llu %8llu\n", name,
                  wide(s.total), wide(s.min), wide(s.median), wide(s.p90), wide(s.p99),
                  wide(s.max));
    out += std::string("  ") + text;
  };
  spread("tokens", SpreadOf(tokens_));
  spread("labels", SpreadOf(labels_));
  std::snprintf(text, sizeof text, "%.1f %% of the %llu tokens that are kept\n",
                100 * MaskedShare(), static_cast<unsigned long long>(kept_));
  out += std::string("  masked    ") + text;
  for (const Shown& s : shown_) {
    out += "example " + s.where + ", " + Count(s.tokens.ids.size(), "token") + ":\n";
    for (const Part& part : s.parts) {
      out += std::string(part.counts ? "  counts  " : "  masked  ") + Quoted(part.text) + "\n";
    }
  }
  if (bad_ == 0) return out;
  out += bad_ == problems_.size()
             ? "problems:\n"
             : "problems, the first " + Number(problems_.size()) + " of " + Number(bad_) + ":\n";
  for (const std::string& problem : problems_) out += "  " + problem + "\n";
  return out;
}

std::string Report::Json() const {
  nlohmann::ordered_json j;
  j["file"] = settings_.file;
  j["form"] = form_;
  j["shape"] = shape_;
  j["examples"] = examples_;
  j["good"] = fates_[0];
  j["bad"] = bad_;
  j["sequence"] = settings_.sequence;
  j["cut"] = cut_;
  j["cut_tokens"] = cut_tokens_;
  j["endless"] = endless_;
  for (const Fate fate : kFates) j["left_out"][Name(fate)] = fates_[static_cast<size_t>(fate)];
  const auto spread = [](const Spread& s) {
    return nlohmann::ordered_json{{"total", s.total}, {"min", s.min}, {"median", s.median},
                                  {"p90", s.p90},     {"p99", s.p99}, {"max", s.max}};
  };
  j["tokens"] = spread(SpreadOf(tokens_));
  j["labels"] = spread(SpreadOf(labels_));
  j["kept_tokens"] = kept_;
  j["masked_share"] = MaskedShare();
  j["shown"] = nlohmann::ordered_json::array();
  for (const Shown& s : shown_) {
    auto parts = nlohmann::ordered_json::array();
    for (const Part& part : s.parts)
      parts.push_back({{"counts", part.counts}, {"text", part.text}});
    j["shown"].push_back({{"where", s.where},
                          {"ids", s.tokens.ids},
                          {"labels", s.tokens.labels},
                          {"parts", std::move(parts)}});
  }
  j["problems"] = problems_;
  return Dump(j) + "\n";
}

Status Report::Verdict() const {
  if (bad_ != 0) {
    return Error(ENGINE_INVALID_ARGUMENT, bad_, " of ", Count(examples_, "example"), " in '",
                 settings_.file, "' ", bad_ == 1 ? "is" : "are",
                 " bad; mend them, or leave them out with on_bad: SKIP");
  }
  if (fates_[0] != 0) return Status();
  return Error(ENGINE_INVALID_ARGUMENT, "none of ", Count(examples_, "example"), " in '",
               settings_.file, "' is of use: all are left out, for the reasons told");
}

}  // namespace engine::data
