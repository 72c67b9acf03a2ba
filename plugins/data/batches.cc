#include "batches.h"

#include <algorithm>

namespace engine::data {

bool Packer::Add(const Tokens& tokens) {
  const size_t count = tokens.ids.size();
  const auto room = [&](const Row& row) { return row.ids.size() + count <= sequence_; };
  auto row = fill_ ? std::find_if(rows_.begin(), rows_.end(), room) : rows_.end();
  if (row == rows_.end()) {
    if (rows_.size() == most_rows_) return false;
    row = rows_.emplace(rows_.end());
  }
  row->ids.insert(row->ids.end(), tokens.ids.begin(), tokens.ids.end());
  row->labels.insert(row->labels.end(), tokens.labels.begin(), tokens.labels.end());
  row->example.insert(row->example.end(), count, row->examples++);
  return true;
}

bool Packer::full() const {
  if (rows_.size() < most_rows_) return false;
  // The shortest example that is of use has two tokens.
  return !fill_ || std::all_of(rows_.begin(), rows_.end(),
                               [this](const Row& row) { return row.ids.size() + 2 > sequence_; });
}

Batch Packer::Take() {
  Batch batch;
  batch.rows = static_cast<uint32_t>(rows_.size());
  for (const Row& row : rows_) {
    batch.length = std::max(batch.length, static_cast<uint32_t>(row.ids.size()));
  }
  const size_t size = size_t{batch.rows} * batch.length;
  batch.ids.reserve(size);
  batch.labels.reserve(size);
  if (fill_) batch.example.reserve(size);
  const auto lay = [&](std::vector<int32_t>* to, const std::vector<int32_t>& row, int32_t filler) {
    to->insert(to->end(), row.begin(), row.end());
    to->insert(to->end(), batch.length - row.size(), filler);
  };
  for (const Row& row : rows_) {
    lay(&batch.ids, row.ids, 0);
    lay(&batch.labels, row.labels, kNoLabel);
    if (fill_) lay(&batch.example, row.example, -1);
  }
  batch.valid = static_cast<uint32_t>(std::count_if(
      batch.labels.begin(), batch.labels.end(), [](int32_t label) { return label != kNoLabel; }));
  rows_.clear();
  return batch;
}

}  // namespace engine::data
