// The figures of a load that is over.
#ifndef PLUGINS_TRAFFIC_REPORT_H_
#define PLUGINS_TRAFFIC_REPORT_H_

#include <nlohmann/json.hpp>

#include "board.h"

namespace engine::traffic {

// {"waves": [figures of each measured wave], "median": {...}, "checksum", "errors", ...}. Figures:
//   seconds            from the first arrival to the last token
//   output_tokens_per_s, prompt_tokens_per_s  over these
//   prefill_tokens_per_s  computed prompt tokens over time to first token, one stream only
//   decode_tokens_per_s   while all requests of the wave generate; null when they never all do
//   engine_share       1 - time in kernels / time that passed, in that window
//   ttft_ms_p50, ttft_ms_p95, gap_ms_p50, gap_ms_p95, gap_ms_mean
//   turn_ttft_ms, last_turn_over_first  medians by turn, with turns
//   cached_tokens, preemptions
nlohmann::ordered_json MakeReport(const Board& board);

}  // namespace engine::traffic

#endif  // PLUGINS_TRAFFIC_REPORT_H_
