// A small model on disk, for trying out plugins and for tests, where no model was downloaded: a
// Llama with a tokenizer of the 256 bytes and 64 made-up tokens.
#ifndef ENGINE_CLI_CONFORMANCE_SMALL_MODEL_H_
#define ENGINE_CLI_CONFORMANCE_SMALL_MODEL_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/status.hpp"

namespace engine::conformance {

struct SmallModelSize {
  int64_t hidden = 64, blocks = 2, heads = 4, kv_heads = 2, mlp = 96, context = 256;
  uint64_t seed = 7;
};
inline constexpr int32_t kSmallVocab = 320;

// Fills a parameter, in the order of the file; `norm`: the weight of a norm.
using SmallValues =
    std::function<void(const std::string& name, bool norm, std::vector<float>* values)>;

// A Hugging Face folder; without `fill`, its values are random by the size's seed and their names.
// Sizes that make no model are refused.
Status WriteSmallModel(const std::string& folder, const SmallModelSize& size,
                       const SmallValues& fill = nullptr);

}  // namespace engine::conformance

#endif  // ENGINE_CLI_CONFORMANCE_SMALL_MODEL_H_
