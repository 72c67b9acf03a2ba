// Guides by their text, for one vocabulary: the same form comes with many requests.
//
// Invariant: one text is compiled by one thread at a time, the others wait for it; what is kept
// stays within the budget of bytes, guides that are in use counted while they are in the cache.
// Safe for threads.
#ifndef PLUGINS_GUIDED_GUIDE_CACHE_H_
#define PLUGINS_GUIDED_GUIDE_CACHE_H_

#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "guide.h"

namespace engine::guided {

class GuideCache {
 public:
  GuideCache(std::shared_ptr<const Vocabulary> vocabulary, std::vector<int32_t> end_tokens,
             const Limits& limits, size_t bytes)
      : vocabulary_(std::move(vocabulary)),
        end_tokens_(std::move(end_tokens)),
        limits_(limits),
        bytes_(bytes) {}

  // Whether the text was compiled before, or refused, without waiting for anybody.
  bool Find(Kind kind, std::string_view text, Status* status, std::shared_ptr<Guide>* guide);
  // The guide, compiled when it is not there. That a text is wrong, or takes too long, is remembered
  // as well.
  Status Get(Kind kind, std::string_view text, std::shared_ptr<Guide>* guide);

  struct Counts {
    uint64_t found = 0, compiled = 0, refused = 0, evicted = 0;
    size_t kept = 0;
  };
  Counts counts() const;

 private:
  struct Entry {
    bool ready = false;
    Status status;
    std::shared_ptr<Guide> guide;
    std::list<std::string>::iterator use;
  };

  static std::string KeyOf(Kind kind, std::string_view text);
  void Evict(const std::string& spared);

  const std::shared_ptr<const Vocabulary> vocabulary_;
  const std::vector<int32_t> end_tokens_;
  const Limits limits_;
  const size_t bytes_;

  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::unordered_map<std::string, std::shared_ptr<Entry>> entries_;  // by kind and text
  std::list<std::string> use_;                                       // the latest first
  Counts counts_;
};

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_GUIDE_CACHE_H_
