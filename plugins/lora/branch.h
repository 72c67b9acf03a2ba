// How large a branch is and how it is scaled, linear by linear: a rule for all, and exceptions by
// name. Invariant: what training saves and what PEFT wrote go through the same rules.
#ifndef PLUGINS_LORA_BRANCH_H_
#define PLUGINS_LORA_BRANCH_H_

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace engine::lora {

struct Branch {
  uint32_t rank = 0;
  double scale = 0;
};

struct BranchRules {
  using Matches = bool (*)(std::string_view pattern, std::string_view site);
  uint32_t rank = 8;
  double alpha = 16;
  bool rslora = false;
  std::vector<std::pair<std::string, uint32_t>> ranks;
  std::vector<std::pair<std::string, double>> alphas;
  Matches matches = nullptr;

  Branch Of(std::string_view site) const {
    Branch branch{rank, 0};
    double scaled_by = alpha;
    for (const auto& [pattern, value] : ranks) {
      if (matches(pattern, site)) branch.rank = value;
    }
    for (const auto& [pattern, value] : alphas) {
      if (matches(pattern, site)) scaled_by = value;
    }
    const auto r = static_cast<double>(branch.rank);
    branch.scale = scaled_by / (rslora ? std::sqrt(r) : r);
    return branch;
  }
};

inline constexpr uint32_t kMostRank = 65536;
inline constexpr double kMostAlpha = 1e6;

}  // namespace engine::lora

#endif  // PLUGINS_LORA_BRANCH_H_
