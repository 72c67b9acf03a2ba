// A small Llama as a GGUF file, its weights stored as the test asks: whatever computes on blocks
// is tested without a download, and a plain reference can follow every number.
// Invariant: shapes that fit nothing evenly: rows that end within a group of 64 and of 128, a
// vocabulary that ends within a panel and within a vector, three query heads to a key head.
#ifndef TESTS_SMALL_MODEL_H_
#define TESTS_SMALL_MODEL_H_

#include <cstdint>
#include <string>

namespace engine::tests {

enum class Stored { kF32, kQ8_0, kQ4_0, kQ4_1 };

struct SmallModel {
  static constexpr int64_t kHidden = 192, kBlocks = 2, kHeads = 3, kKvHeads = 1, kHeadDim = 64,
                           kMlp = 160, kVocab = 300, kContext = 512;
};

// With `reordered` the same function, its inner dimensions in another order: each sum over them
// has the same terms, added in another order.
void WriteSmallModel(const std::string& path, Stored stored, bool reordered = false);

}  // namespace engine::tests

#endif  // TESTS_SMALL_MODEL_H_
