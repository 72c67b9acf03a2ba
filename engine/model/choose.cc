#include "engine/model/choose.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <unordered_map>

#include "engine/growth.hpp"
#include "engine/kernels/kernels.h"
#include "engine/kernels/parallel.h"
#include "engine/philox.hpp"

namespace engine::model {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

struct Scratch {
  kernels::SampleScratch sample;
  std::vector<float> row;
  std::vector<int32_t> answer;  // tokens that were generated before the row
  std::unordered_map<int32_t, uint32_t> times;
};

// What is known of the sequence that a row belongs to.
struct Context {
  const int32_t* history = nullptr;  // [history_count]
  const int32_t* fed = nullptr;      // [fed_count], of this step
  uint32_t history_count = 0, fed_count = 0, prompt_count = 0;
  int32_t known = -1;
  bool whole = false;  // all tokens before the row are told, and which of them are the prompt

  uint64_t Answered() const {
    const uint64_t all = uint64_t{history_count} + fed_count;
    return all > prompt_count ? all - prompt_count : 0;
  }
  int32_t At(uint64_t i) const { return i < history_count ? history[i] : fed[i - history_count]; }
};

bool Repeats(const engine_sampling& s) {
  return s.repetition_penalty != 0 && s.repetition_penalty != 1;
}
bool HasPenalties(const engine_sampling& s) {
  return Repeats(s) || s.presence_penalty != 0 || s.frequency_penalty != 0;
}

bool NeedsContext(const engine_sampling& s) {
  return HasPenalties(s) || s.guide != nullptr || s.min_tokens != 0;
}

Status ContextOf(const engine_logits& logits, uint32_t row, Context* out) {
  const bool told = ENGINE_HAS(&logits, tokens) && logits.step != nullptr &&
                    logits.sequences != nullptr && logits.tokens != nullptr;
  if (!told) return Status();
  const uint32_t place = logits.sequences[row];
  if (place >= logits.step->count) {
    return Error(ENGINE_INVALID_ARGUMENT, "row ", row, " of the logits belongs to sequence ", place,
                 " of a step of ", logits.step->count);
  }
  const engine_step_sequence s = Known(At(logits.step->sequences, place));
  const uint32_t fed = logits.tokens[row];
  if (fed > s.token_count) {
    return Error(ENGINE_INVALID_ARGUMENT, "row ", row, " of the logits follows ", fed,
                 " tokens of a sequence that brought ", s.token_count);
  }
  out->fed = s.tokens;
  out->fed_count = fed;
  out->history = s.history;
  out->history_count = s.history != nullptr ? s.start : 0;
  out->prompt_count = s.prompt_count;
  out->whole = s.prompt_count != 0 && (s.start == 0 || s.history != nullptr);
  const uint32_t first = s.token_count - s.logits_count;
  if (s.known != nullptr && fed > first) out->known = s.known[fed - first - 1];
  return Status();
}

void Penalize(const engine_sampling& how, const Context& at, int64_t vocab, Scratch* scratch) {
  float* row = scratch->row.data();
  auto& times = scratch->times;  // of each token: in the answer; with the top bit, anywhere
  constexpr uint32_t kSeen = 1u << 31;
  times.clear();
  const uint64_t all = uint64_t{at.history_count} + at.fed_count;
  for (uint64_t i = 0; i < all; ++i) {
    const int32_t id = at.At(i);
    if (id < 0 || id >= vocab) continue;
    uint32_t& count = times[id];
    count |= kSeen;
    if (i >= at.prompt_count && (count & ~kSeen) < kSeen - 1) ++count;
  }
  const bool repeats = Repeats(how);
  const auto repetition = static_cast<float>(how.repetition_penalty);
  for (const auto& [id, count] : times) {
    float& x = row[id];
    if (repeats) x = x > 0 ? x / repetition : x * repetition;
    const uint32_t answered = count & ~kSeen;
    if (answered == 0) continue;
    x -= static_cast<float>(how.presence_penalty + how.frequency_penalty * answered);
  }
}

template <typename Id>
void Forbid(const Id* ids, size_t count, int64_t vocab, float* row) {
  for (size_t i = 0; i < count; ++i) {
    if (ids[i] >= 0 && ids[i] < vocab) row[ids[i]] = kNever;
  }
}

Status KeepForm(const engine_guide& guide, const Context& at, uint64_t stream, int64_t vocab,
                Scratch* scratch) {
  const uint64_t count = at.Answered();
  scratch->answer.resize(count);
  for (uint64_t i = 0; i < count; ++i) scratch->answer[i] = at.At(at.prompt_count + i);
  const uint64_t* allowed = nullptr;
  ENGINE_RETURN_IF_ERROR(
      Status(guide.allowed(guide.self, stream, scratch->answer.data(), count, &allowed)));
  if (allowed == nullptr) return Status();
  float* row = scratch->row.data();
  for (int64_t word = 0; word * 64 < vocab; ++word) {
    const uint64_t bits = allowed[word];
    if (bits == ~uint64_t{0}) continue;
    const int64_t end = std::min<int64_t>(vocab, word * 64 + 64);
    if (bits == 0) {
      std::fill(row + word * 64, row + end, kNever);
      continue;
    }
    for (int64_t i = word * 64; i < end; ++i) {
      if ((bits >> (i - word * 64) & 1) == 0) row[i] = kNever;
    }
  }
  return Status();
}

// The row as it is sampled: itself, or a copy that the wishes shaped.
Status Shape(const engine_sampling& how, const Context& at, uint64_t stream, const float* row,
             int64_t vocab, const std::vector<int64_t>& ends, Scratch* scratch, const float** out) {
  const bool early = how.min_tokens > at.Answered();
  if (how.bias_count == 0 && !HasPenalties(how) && !early && how.guide == nullptr) {
    *out = row;
    return Status();
  }
  scratch->row.assign(row, row + vocab);
  for (uint32_t i = 0; i < how.bias_count; ++i) {
    const int32_t id = how.bias_ids[i];
    if (id >= 0 && id < vocab) scratch->row[static_cast<size_t>(id)] += how.bias_values[i];
  }
  if (HasPenalties(how)) Penalize(how, at, vocab, scratch);
  if (early) {
    Forbid(ends.data(), ends.size(), vocab, scratch->row.data());
    Forbid(how.stop_ids, how.stop_count, vocab, scratch->row.data());
  }
  if (how.guide != nullptr) {
    ENGINE_RETURN_IF_ERROR(KeepForm(*how.guide, at, stream, vocab, scratch));
  }
  *out = scratch->row.data();
  return Status();
}

Status ChooseRow(const engine_logits& logits, uint32_t r, const engine_sampling& how,
                 const std::vector<int64_t>& ends, const engine_choices& out, Scratch* scratch) {
  const auto vocab = static_cast<int64_t>(logits.vocab);
  const float* row = logits.data + r * vocab;
  Context at;
  ENGINE_RETURN_IF_ERROR(ContextOf(logits, r, &at));
  if (!at.whole && NeedsContext(how)) {
    return Error(ENGINE_FAILED_PRECONDITION,
                 "penalties, forms and min_tokens need to know the tokens before, which the node "
                 "that made these logits, or the step, does not tell");
  }
  if (at.known >= 0) {
    if (at.known >= vocab) {
      return Error(ENGINE_OUT_OF_RANGE, "token ", at.known, " of a vocabulary of ", vocab);
    }
    out.ids[r] = at.known;
    out.margins[r] = 0;
  } else {
    const float* shaped = nullptr;
    ENGINE_RETURN_IF_ERROR(Shape(how, at, logits.requests[r], row, vocab, ends, scratch, &shaped));
    kernels::Sampling s{how.temperature, how.top_p, how.top_k, 0};
    if (how.typical_p > 0) s.typical_p = how.typical_p;
    s.min_p = how.min_p;
    if (s.temperature > 0) {
      const bool own = (how.flags & ENGINE_SAMPLING_OWN_DRAWS) != 0;
      const uint64_t stream = own ? logits.requests[r] >> 48 : logits.requests[r];
      s.draw = Philox(how.seed, stream).Uniform(logits.positions[r]);
    }
    out.ids[r] = static_cast<int32_t>(
        kernels::SampleRow(shaped, vocab, s, &scratch->sample, out.margins + r));
    if (out.ids[r] < 0) {
      return Error(ENGINE_DATA_LOSS, "the logits of request ", logits.requests[r],
                   " hold a NaN or nothing finite");
    }
  }
  if (out.logprobs == nullptr) return Status();
  const size_t first = size_t{r} * out.top_count;
  std::fill_n(out.top_ids + first, out.top_count, -1);
  std::fill_n(out.top_logprobs + first, out.top_count, NAN);
  out.logprobs[r] = NAN;
  if (how.logprobs == 0) return Status();
  const double sum = kernels::LogSum(row, vocab, &scratch->sample);
  out.logprobs[r] = static_cast<float>(static_cast<double>(row[out.ids[r]]) - sum);
  const int64_t tops = std::min(how.logprobs - 1, out.top_count);
  if (tops != 0) {
    kernels::TopTokens(row, vocab, tops, sum, &scratch->sample, out.top_ids + first,
                       out.top_logprobs + first);
  }
  return Status();
}

}  // namespace

Status Choose(const engine_logits& logits, const engine_sampling& fallback,
              const std::vector<int64_t>& ends, const engine_choices& out) {
  const auto vocab = static_cast<int64_t>(logits.vocab);
  if (vocab <= 0 || vocab > std::numeric_limits<int32_t>::max()) {
    return Error(ENGINE_INVALID_ARGUMENT, "logits over a vocabulary of ", logits.vocab);
  }
  const auto how = [&](uint32_t r) {
    const bool own = logits.sampling != nullptr && logits.sampling[r] != nullptr;
    return own ? Known(*logits.sampling[r]) : fallback;
  };
  // What a guide allows is valid until it is asked again for the same stream: rows of one sequence
  // that keeps to a form are chosen one after the other.
  std::vector<uint32_t> units;  // where each begins
  for (uint32_t r = 0; r < logits.rows; ++r) {
    const bool same = r != 0 && logits.requests[r] == logits.requests[r - 1];
    if (!same || how(r).guide == nullptr) units.push_back(r);
  }
  units.push_back(logits.rows);
  std::mutex mutex;
  Status failure;  // of the first row that fails
  uint32_t failed_row = UINT32_MAX;
  const auto count = static_cast<int64_t>(units.size() - 1);
  kernels::ParallelFor(count, 1, [&](int64_t begin, int64_t end) {
    thread_local Scratch scratch;
    for (uint32_t r = units[static_cast<size_t>(begin)]; r < units[static_cast<size_t>(end)]; ++r) {
      Status status = ChooseRow(logits, r, how(r), ends, out, &scratch);
      if (status.ok()) continue;
      std::lock_guard lock(mutex);
      if (r < failed_row) {
        failed_row = r;
        failure = std::move(status);
      }
    }
  });
  return failure;
}

}  // namespace engine::model
