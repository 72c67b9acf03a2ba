// Payloads of the SDK's types that own what they point to.
#ifndef PLUGINS_TEXT_PAYLOADS_H_
#define PLUGINS_TEXT_PAYLOADS_H_

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine/node.hpp"
#include "engine/request.hpp"
#include "engine/types.h"

namespace engine::text {

// A second reference to a packet of this call, for a payload that points into it.
inline Packet Share(const engine_packet* packet) {
  auto* mine = const_cast<engine_packet*>(packet);
  ThisHost().nodes->packet_retain(mine);
  return Packet(mine);
}

// All are zeroed by their base's value initialization before the owner fills them.
using Text = OwnedText;
struct Tokens : engine_tokens {
  std::vector<int32_t> owned, owned_continued;
  OwnedRequest owned_request;
};
struct Step : engine_step {
  std::vector<engine_step_sequence> owned_sequences;
  std::vector<int32_t> owned_tokens, owned_blocks, owned_history;
  std::shared_ptr<Packet> keep;  // of the prompt, whose sampling is pointed to
};

// Memory for logits, used again by the next step: it is large, and clearing it would cost more
// than sampling.
class LogitsBuffers {
 public:
  std::unique_ptr<float[]> Take(size_t count, size_t* capacity);
  void Give(std::unique_ptr<float[]> buffer, size_t capacity);

 private:
  static constexpr size_t kKept = 3;
  std::mutex mutex_;
  std::vector<std::pair<std::unique_ptr<float[]>, size_t>> free_;  // guarded by mutex_
};
struct Logits : engine_logits {
  ~Logits() {
    if (home != nullptr && buffer != nullptr) home->Give(std::move(buffer), capacity);
  }
  std::shared_ptr<LogitsBuffers> home;
  std::unique_ptr<float[]> buffer;
  size_t capacity = 0;
  std::vector<uint64_t> owned_requests;
  std::vector<uint32_t> owned_positions;
  std::vector<int32_t> owned_inputs;
  std::vector<const engine_sampling*> owned_sampling;
  std::vector<uint32_t> owned_sequences, owned_tokens;
  Packet keep;  // the step
};
struct Sampled : engine_sampled {
  std::vector<uint64_t> owned_requests;
  std::vector<int32_t> owned_ids, owned_inputs;
  std::vector<uint32_t> owned_positions;
  std::vector<float> owned_margins, owned_logprobs, owned_top_logprobs;
  std::vector<int32_t> owned_top_ids;
};
struct Token : engine_token {
  std::vector<int32_t> owned_prompt;
  std::string owned_error;
  engine_usage owned_usage;
  std::vector<int32_t> owned_top_ids;
  std::vector<float> owned_top_logprobs;
  std::shared_ptr<Packet> keep;  // of the prompt, whose request is pointed to
};
struct Event : engine_event {
  std::string owned;
  Packet keep;  // the token
};

}  // namespace engine::text

#endif  // PLUGINS_TEXT_PAYLOADS_H_
