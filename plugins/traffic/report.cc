#include "report.h"

#include <algorithm>

#include "engine/util.hpp"

namespace engine::traffic {
namespace {

using nlohmann::ordered_json;

double Percentile(std::vector<double> v, double p) {
  if (v.empty()) return 0;
  std::sort(v.begin(), v.end());
  const auto at = static_cast<size_t>(p * static_cast<double>(v.size() - 1) + 0.5);
  return v[at];
}

double Seconds(uint64_t from, uint64_t to) {
  return to > from ? static_cast<double>(to - from) * 1e-9 : 0;
}

// Kernel time at a moment, by the last observation before it.
uint64_t KernelNs(const std::vector<Moment>& moments, uint64_t at) {
  const auto it = std::upper_bound(moments.begin(), moments.end(), at,
                                   [](uint64_t t, const Moment& m) { return t < m.at_ns; });
  return it == moments.begin() ? moments.front().kernel_ns : (it - 1)->kernel_ns;
}

ordered_json Wave(const Board& board, uint32_t wave) {
  std::vector<double> ttft, gaps;
  std::vector<std::vector<double>> by_turn(board.spec().turns);
  uint64_t begin = UINT64_MAX, end = 0, last_first = 0, first_last = UINT64_MAX;
  uint64_t tokens = 0, prompt = 0, cached = 0, preempted = 0, failed = 0, cancelled = 0;
  bool whole = true;
  for (const Record& r : board.records()) {
    if (r.wave != wave) continue;
    begin = std::min(begin, r.due_ns);
    end = std::max(end, r.last_ns);
    tokens += r.tokens;
    prompt += r.prompt + (r.turn == 0 ? board.spec().prefix : 0);
    cached += r.cached;
    preempted += r.preemptions;
    failed += r.failed;
    cancelled += r.cancelled;
    whole = whole && r.tokens > 1 && !r.cancelled;
    if (r.first_ns == 0) continue;
    last_first = std::max(last_first, r.first_ns);
    first_last = std::min(first_last, r.last_ns);
    const double ms = Seconds(r.due_ns, r.first_ns) * 1e3;
    ttft.push_back(ms);
    by_turn[r.turn].push_back(ms);
    for (uint32_t us : r.gaps_us) gaps.push_back(us * 1e-3);
  }
  ordered_json j;
  const double seconds = Seconds(begin, end);
  j["seconds"] = seconds;
  j["output_tokens_per_s"] = seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  j["prompt_tokens_per_s"] = seconds > 0 ? static_cast<double>(prompt) / seconds : 0;
  if (board.spec().streams == 1 && board.spec().turns == 1 && !ttft.empty()) {
    const double each = static_cast<double>(prompt - cached) / static_cast<double>(ttft.size());
    j["prefill_tokens_per_s"] = each / (Percentile(ttft, 0.5) * 1e-3);
  }
  j["decode_tokens_per_s"] = nullptr;
  j["engine_share"] = nullptr;
  // Conversations of several turns, and more requests than streams, never all generate at once;
  // one stream always does.
  if (whole && board.spec().streams == 1 && board.spec().turns == 1) {
    double all = 0, between = 0;
    for (const Record& r : board.records()) {
      if (r.wave != wave) continue;
      all += static_cast<double>(r.tokens - 1);
      between += Seconds(r.first_ns, r.last_ns);
    }
    if (between > 0) j["decode_tokens_per_s"] = all / between;
    if (board.spec().requests > 1) whole = false;
  }
  if (whole && last_first < first_last) {
    uint64_t inside = 0;
    for (const Record& r : board.records()) {
      if (r.wave != wave) continue;
      uint64_t at = r.first_ns;
      for (uint32_t us : r.gaps_us) {
        at += uint64_t{us} * 1000;
        inside += at > last_first && at <= first_last;
      }
    }
    const double window = Seconds(last_first, first_last);
    if (board.spec().streams != 1) {
      j["decode_tokens_per_s"] = static_cast<double>(inside) / window;
    }
    const uint64_t kernels =
        KernelNs(board.moments(), first_last) - KernelNs(board.moments(), last_first);
    j["engine_share"] = 1 - static_cast<double>(kernels) * 1e-9 / window;
  }
  j["ttft_ms_p50"] = Percentile(ttft, 0.5);
  j["ttft_ms_p95"] = Percentile(ttft, 0.95);
  j["gap_ms_p50"] = Percentile(gaps, 0.5);
  j["gap_ms_p95"] = Percentile(gaps, 0.95);
  double sum = 0;
  for (double g : gaps) sum += g;
  j["gap_ms_mean"] = gaps.empty() ? 0 : sum / static_cast<double>(gaps.size());
  if (board.spec().turns > 1) {
    for (const auto& times : by_turn) j["turn_ttft_ms"].push_back(Percentile(times, 0.5));
    j["last_turn_over_first"] =
        Percentile(by_turn.back(), 0.5) / std::max(1e-6, Percentile(by_turn.front(), 0.5));
  }
  j["output_tokens"] = tokens;
  j["prompt_tokens"] = prompt;
  j["cached_tokens"] = cached;
  j["preemptions"] = preempted;
  j["cancelled"] = cancelled;
  j["failed"] = failed;
  return j;
}

}  // namespace

nlohmann::ordered_json MakeReport(const Board& board) {
  ordered_json j;
  j["waves"] = ordered_json::array();
  for (uint32_t w = board.spec().warmup; w < board.spec().warmup + board.spec().waves; ++w) {
    j["waves"].push_back(Wave(board, w));
  }
  // The middle of each figure over the waves.
  ordered_json median;
  for (const auto& [key, value] : j["waves"][0].items()) {
    if (!value.is_number() && !value.is_null()) continue;
    std::vector<double> values;
    for (const auto& wave : j["waves"]) {
      if (wave[key].is_number()) values.push_back(wave[key].get<double>());
    }
    median[key] = values.empty() ? ordered_json() : ordered_json(Percentile(values, 0.5));
  }
  j["median"] = std::move(median);
  uint64_t checksum = 0;
  std::string error;
  for (size_t i = 0; i < board.records().size(); ++i) {
    const Record& r = board.records()[i];
    // How far a request came that was given up depends on time.
    if (!r.cancelled) checksum ^= (r.hash + i) * 0x9e3779b97f4a7c15u;
    if (error.empty()) error = r.error;
  }
  char text[20];
  std::snprintf(text, sizeof text, "%016lx", static_cast<unsigned long>(checksum));
  j["checksum"] = text;
  if (!error.empty()) j["first_error"] = error;
  j["peak_bytes"] = PeakBytes();
  return j;
}

}  // namespace engine::traffic
