// The order of examples: a permutation of [0, n) that is computed, not stored, so that any place of
// any epoch is found at once. Same n, seed and epoch, same order, on every machine.
#ifndef PLUGINS_DATA_ORDER_H_
#define PLUGINS_DATA_ORDER_H_

#include <array>
#include <cstdint>

namespace engine::data {

class Order {
 public:
  // REQUIRES: 0 < n <= 2^62.
  Order(uint64_t n, uint64_t seed, uint64_t epoch);
  // Which of the n stands at place i. REQUIRES: i < n.
  uint64_t At(uint64_t i) const;

 private:
  static constexpr int kRounds = 6;
  uint64_t n_;
  int half_;  // the network permutes [0, 2^(2 * half_))
  std::array<uint64_t, kRounds> keys_;
};

}  // namespace engine::data

#endif  // PLUGINS_DATA_ORDER_H_
