// Payloads of the SDK's types that own what they point to.
#ifndef PLUGINS_TEXT_PAYLOADS_H_
#define PLUGINS_TEXT_PAYLOADS_H_

#include <string>
#include <vector>

#include "engine/types.h"

namespace engine::text {

// All are zeroed by their base's value initialization before the owner fills them.
struct Text : engine_text {
  std::string owned;
};
struct Tokens : engine_tokens {
  std::vector<int32_t> owned;
};
struct Step : engine_step {
  std::vector<engine_step_sequence> owned_sequences;
  std::vector<int32_t> owned_tokens, owned_blocks;
};
struct Logits : engine_logits {
  std::vector<float> owned;
  std::vector<uint64_t> owned_requests;
  std::vector<uint32_t> owned_positions;
};
struct Sampled : engine_sampled {
  std::vector<uint64_t> owned_requests;
  std::vector<int32_t> owned_ids;
  std::vector<float> owned_margins;
};
struct Token : engine_token {
  std::vector<int32_t> owned_prompt;
  std::string owned_error;
};
struct Event : engine_event {
  std::string owned;
  std::vector<int32_t> owned_prompt;
  std::string owned_error;
};

}  // namespace engine::text

#endif  // PLUGINS_TEXT_PAYLOADS_H_
