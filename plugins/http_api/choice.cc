#include "choice.h"

#include <algorithm>

namespace engine::http_api {
namespace {

// Where a stop string begins at or after `from`, the first of all; npos: nowhere.
size_t FindStop(const std::string& text, size_t from, const std::vector<std::string>& stops) {
  size_t best = std::string::npos;
  for (const std::string& stop : stops) {
    const size_t begin = from > stop.size() - 1 ? from - (stop.size() - 1) : 0;
    best = std::min(best, text.find(stop, begin));
  }
  return best;
}

// Bytes at the end of the text that may begin a stop string.
size_t MayStop(std::string_view text, const std::vector<std::string>& stops) {
  size_t most = 0;
  for (const std::string& stop : stops) {
    for (size_t n = std::min(stop.size() - 1, text.size()); n > most; --n) {
      if (text.substr(text.size() - n) == std::string_view(stop).substr(0, n)) most = n;
    }
  }
  return most;
}

}  // namespace

bool Choice::Add(Piece piece, const Ask& ask, Delta* delta) {
  if (piece.finish != ENGINE_FINISH_NONE) {
    usage_ = piece.usage;
    has_usage_ = true;
  }
  if (ended_) return false;
  const size_t before = raw_.size();
  if (!ask.no_answer) {
    raw_ += piece.text;
    const bool said = piece.id >= 0 && piece.finish != ENGINE_FINISH_STOP;
    if (piece.id >= 0) ++tokens_;
    if (said && ask.return_ids) ids_.push_back(piece.id);
    if (said && piece.score.scored) {
      piece.score.offset = before;
      scores_.push_back(std::move(piece.score));
    }
  }
  bool last = piece.finish != ENGINE_FINISH_NONE;
  bool enough = false;
  const size_t stop = FindStop(raw_, before, ask.stops);
  if (stop != std::string::npos) {
    raw_.resize(stop);
    while (!scores_.empty() && scores_.back().offset >= stop) scores_.pop_back();
    enough = !last;
    last = true;
    finish_reason_ = "stop";
  } else if (last) {
    finish_reason_ = piece.finish == ENGINE_FINISH_STOP ? "stop" : "length";
  }
  const size_t safe = last ? raw_.size() : raw_.size() - MayStop(raw_, ask.stops);
  const std::string_view fresh = std::string_view(raw_).substr(given_, safe - given_);
  given_ = safe;
  if (ask.calls_tools) {
    std::vector<ToolCall> calls;
    tool_reader_.Add(fresh, last, &delta->text, &calls);
    for (ToolCall& call : calls) {
      calls_.push_back(call);
      delta->calls.push_back(std::move(call));
    }
    if (last && !calls_.empty() && finish_reason_ == std::string_view("stop")) {
      finish_reason_ = "tool_calls";
    }
  } else {
    delta->text = std::string(fresh);
  }
  text_ += delta->text;
  // Scores go with the text that they belong to.
  while (scores_given_ < scores_.size() && (last || scores_[scores_given_].offset < given_)) {
    delta->scores.push_back(scores_[scores_given_++]);
  }
  for (; ids_given_ < ids_.size(); ++ids_given_) delta->ids.push_back(ids_[ids_given_]);
  delta->ended = ended_ = last;
  return enough;
}

}  // namespace engine::http_api
