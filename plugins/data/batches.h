// Examples laid into the rows of one batch. What is laid is never split, and in a shared row no
// label asks for a token of another example: each example comes with labels of its own, the last of
// them none.
#ifndef PLUGINS_DATA_BATCHES_H_
#define PLUGINS_DATA_BATCHES_H_

#include <cstdint>
#include <vector>

#include "spans.h"

namespace engine::data {

struct Batch {
  uint32_t rows = 0, length = 0, valid = 0;
  std::vector<int32_t> ids, labels;  // [rows, length]
  std::vector<int32_t> example;      // [rows, length], or empty: one example a row
  uint64_t next = 0;                 // position after its last example
};

class Packer {
 public:
  // `fill`: rows of at most `sequence` tokens are shared.
  Packer(uint32_t rows, uint32_t sequence, bool fill)
      : most_rows_(rows), sequence_(sequence), fill_(fill) {}

  // Takes it if there is room. REQUIRES: at most `sequence` tokens.
  bool Add(const Tokens& tokens);
  // No example that could come would find room.
  bool full() const;
  bool empty() const { return rows_.empty(); }
  // The batch so far, filled up to its longest row; begins anew.
  Batch Take();

 private:
  struct Row {
    std::vector<int32_t> ids, labels, example;
    int32_t examples = 0;
  };
  uint32_t most_rows_, sequence_;
  bool fill_;
  std::vector<Row> rows_;
};

}  // namespace engine::data

#endif  // PLUGINS_DATA_BATCHES_H_
