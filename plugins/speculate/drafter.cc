// What to draft, and whether it pays.
#include "drafter.h"

#include <algorithm>

namespace engine::speculate {
namespace {

constexpr double kDecay = 0.97;       // of a step, in the regression
constexpr double kLearn = 0.15;       // weight of a sequence's newest draft
constexpr double kLearnAll = 0.02;    // and of it in the estimate over all
constexpr double kAssumedCost = 0.2;  // of a row, before steps of different sizes were seen
constexpr size_t kLookBack = 4096;    // tokens that are searched

}  // namespace

std::vector<int32_t> LookUp(const int32_t* a, size_t a_size, const int32_t* b, size_t b_size,
                            uint32_t ngram, uint32_t most) {
  const size_t size = a_size + b_size;
  std::vector<int32_t> draft;
  if (size < ngram + 1 || most == 0) return draft;
  const auto at = [&](size_t i) { return i < a_size ? a[i] : b[i - a_size]; };
  const int32_t last = at(size - 1);
  const size_t lowest = std::max<size_t>(ngram, size > kLookBack ? size - kLookBack : 0);
  for (size_t end = size - 1; end >= lowest; --end) {  // tokens [end - ngram, end) are compared
    if (at(end - 1) != last) continue;
    bool same = true;
    for (uint32_t k = 2; same && k <= ngram; ++k) same = at(end - k) == at(size - k);
    if (!same) continue;
    for (size_t i = end; i < size && draft.size() < most; ++i) draft.push_back(at(i));
    return draft;
  }
  return draft;
}

double Drafter::RowCost() const {
  const double variance = w_ * wrr_ - wr_ * wr_;
  if (w_ < 4 || variance < 0.01 * w_ * w_) return kAssumedCost;
  const double b = std::max(0.0, (w_ * wrt_ - wr_ * wt_) / variance);
  const double mean = wt_ / w_;  // of a step of wr_ / w_ rows
  const double whole = std::max(mean + b * (count_ - wr_ / w_), b * count_);
  return whole > 0 ? b * count_ / whole : kAssumedCost;
}

// What became of the last step's drafts, and how long it took.
void Drafter::Learn(const engine_step& step, uint64_t now) {
  bool goes_on = false;
  for (uint32_t i = 0; i < step.count; ++i) {
    const engine_step_sequence& s = At(step.sequences, i);
    const auto it = last_.find(s.request);
    if (it == last_.end() || s.start <= it->second.start) continue;
    goes_on = true;
    Sequence& known = it->second;
    if (known.draft == 0) continue;
    const uint32_t right = std::min(known.draft, s.start - known.start - 1);
    accepted_ += right;
    // Tokens behind the first wrong one were never judged.
    const uint32_t judged = std::min(known.draft, right + 1);
    for (uint32_t k = 0; k < judged; ++k) {
      const double outcome = k < right ? 1 : 0;
      known.right += kLearn * (outcome - known.right);
      right_ += kLearnAll * (outcome - right_);
    }
  }
  // Time counts only when the loop did not stand still in between.
  if (!goes_on || !decoding_ || sent_ns_ == 0 || now <= sent_ns_) return;
  const double t = static_cast<double>(now - sent_ns_), r = rows_;
  if (w_ > 4 && t > 8 * wt_ / w_) return;  // something else held it up
  for (double* sum : {&w_, &wr_, &wrr_, &wt_, &wrt_}) *sum *= kDecay;
  w_ += 1;
  wr_ += r;
  wrr_ += r * r;
  wt_ += t;
  wrt_ += r * t;
}

void Drafter::Draft(const engine_step& step, uint64_t now,
                    std::vector<std::vector<int32_t>>* drafts) {
  Learn(step, now);
  drafts->clear();
  drafts->resize(step.count);
  next_.clear();
  rows_ = 0;
  count_ = step.count;
  decoding_ = step.count != 0;
  const double cost = settings_.always ? 0 : RowCost();
  for (uint32_t i = 0; i < step.count; ++i) {
    const engine_step_sequence& s = At(step.sequences, i);
    rows_ += s.token_count;
    decoding_ &= s.token_count == 1;
    if (s.token_count != 1 || s.logits_count != 1 || s.room == 0) continue;
    Sequence mine;
    mine.right = right_;
    if (const auto it = last_.find(s.request); it != last_.end()) mine = it->second;
    mine.start = s.start;
    mine.draft = 0;
    ++mine.without;
    const uint32_t room = std::min(settings_.max_draft, s.room);
    uint32_t most = 0;
    for (double p = mine.right; most < room && p > cost; p *= mine.right) ++most;
    if (most == 0 && mine.without >= settings_.probe_steps) most = std::min(room, 1u);
    if (most != 0 && (s.history != nullptr || s.start == 0)) {
      (*drafts)[i] = LookUp(s.history, s.start, s.tokens, 1, settings_.ngram, most);
      mine.draft = static_cast<uint32_t>((*drafts)[i].size());
      if (mine.draft != 0) mine.without = 0;
      rows_ += mine.draft;
      drafted_ += mine.draft;
    }
    next_.emplace(s.request, mine);
  }
  // An empty step only goes round; what is known stays known.
  if (step.count != 0) last_.swap(next_);
}

}  // namespace engine::speculate
