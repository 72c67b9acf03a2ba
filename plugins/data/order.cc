// A Feistel network over the next even power of two. Places that it sends outside of [0, n) are
// sent on until they come inside: a permutation restricted to the cycles' inner points is one
// again.
#include "order.h"

namespace engine::data {
namespace {

// A bijection of 64 bits in which each bit of x reaches all: two multiplications between shifts,
// the finalizer of SplitMix64 (Steele, Lea and Flood 2014).
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

Order::Order(uint64_t n, uint64_t seed, uint64_t epoch) : n_(n) {
  // At least 2^6 points: over fewer the rounds' functions of one or two bits give few orders.
  half_ = 3;
  while (uint64_t{1} << (2 * half_) < n) ++half_;
  uint64_t state = Mix(seed + 0x9e3779b97f4a7c15u) ^ Mix(~epoch);
  for (uint64_t& key : keys_) key = Mix(state += 0x9e3779b97f4a7c15u);
}

uint64_t Order::At(uint64_t i) const {
  const uint64_t mask = (uint64_t{1} << half_) - 1;
  do {
    uint64_t left = i >> half_, right = i & mask;
    for (const uint64_t key : keys_) {
      const uint64_t next = left ^ (Mix(right ^ key) & mask);
      left = right;
      right = next;
    }
    i = left << half_ | right;
  } while (i >= n_);
  return i;
}

}  // namespace engine::data
