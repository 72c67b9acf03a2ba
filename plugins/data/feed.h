// Batches of a run: which examples, in which order, from where to where. A batch is a function of
// the position that it begins at: nothing is carried from one to the next, so that a run that
// begins at `next` of a batch goes on exactly as the one that made it.
#ifndef PLUGINS_DATA_FEED_H_
#define PLUGINS_DATA_FEED_H_

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "batches.h"
#include "order.h"

namespace engine::data {

struct FeedSettings {
  uint64_t examples = 0;  // of the file; above 0
  uint32_t rows = 1, sequence = 512;
  bool fill = false, shuffle = true, skip_bad = false;
  uint64_t seed = 0, start = 0;
  uint32_t epochs = 1;  // 0: for ever
  uint64_t limit = 0;   // batches; 0: no limit
};

class Feed {
 public:
  // Example i of the file. An error means that it is none, but for what no other example would do
  // better either: that is put into *fatal.
  using Make = std::function<Status(uint64_t i, Tokens* out, Fate* fate, bool* fatal)>;

  Feed(const FeedSettings& settings, Make make);

  // *there is false at the end, and when `cancelled` said so.
  Status Next(const std::function<bool()>& cancelled, Batch* out, bool* there);
  // What was left out; empty when nothing was.
  std::string Told() const;

 private:
  Status At(uint64_t position, Tokens** out, Fate* fate);
  uint64_t End() const;

  const FeedSettings settings_;
  const Make make_;
  Packer packer_;
  std::optional<Order> order_;  // of epoch_
  uint64_t epoch_ = 0;
  uint64_t position_;
  uint64_t batches_ = 0;
  uint64_t seen_ = 0;  // examples that were looked at
  uint64_t bad_ = 0, fates_[4] = {};
  uint64_t barren_ = 0;  // examples of no use in this epoch
  std::string first_bad_;
  // The one that found no room in the last batch, to spare making it again.
  uint64_t held_at_ = UINT64_MAX;
  Tokens held_;
};

}  // namespace engine::data

#endif  // PLUGINS_DATA_FEED_H_
