// An answer as it is gathered from events, and as a JSON object.
#ifndef PLUGINS_TEXT_ANSWER_H_
#define PLUGINS_TEXT_ANSWER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/types.h"
#include "nlohmann/json_fwd.hpp"

namespace engine::text {

struct Answer {
  std::string text;
  std::vector<int32_t> ids, prompt_ids;
  std::vector<float> margins;
  uint64_t arrived_ns = 0, first_ns = 0, last_ns = 0;

  // Takes what the event brings.
  void Add(const engine_event& event);
  double FirstAfter() const;  // seconds from the prompt's arrival to the first token
  double Rate() const;        // tokens a second after the first
};

const char* FinishName(uint32_t finish);
const char* CacheName(uint32_t reason);

// "id" and "choice" where there are such, then the text and how it ended; `figures`: also ids,
// margins and what it cost in time and memory. `end` is the event that ended the answer.
nlohmann::ordered_json ToJson(const Answer& answer, const engine_event& end, bool figures);

}  // namespace engine::text

#endif  // PLUGINS_TEXT_ANSWER_H_
