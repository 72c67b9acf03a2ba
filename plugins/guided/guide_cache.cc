// Guides by their text.
#include "guide_cache.h"

namespace engine::guided {
namespace {

constexpr size_t kMostEntries = 1024;  // refusals among them

}  // namespace

// What any object is, no text says.
std::string GuideCache::KeyOf(Kind kind, std::string_view text) {
  std::string key(1, static_cast<char>(kind));
  if (kind != Kind::kAnyObject) key += text;
  return key;
}

bool GuideCache::Find(Kind kind, std::string_view text, Status* status,
                      std::shared_ptr<Guide>* guide) {
  if (text.size() > limits_.text_bytes) return false;
  const std::lock_guard lock(mutex_);
  const auto it = entries_.find(KeyOf(kind, text));
  if (it == entries_.end() || !it->second->ready) return false;
  use_.splice(use_.begin(), use_, it->second->use);
  ++counts_.found;
  *guide = it->second->guide;
  *status = it->second->status;
  return true;
}

Status GuideCache::Get(Kind kind, std::string_view text, std::shared_ptr<Guide>* guide) {
  guide->reset();
  if (text.size() > limits_.text_bytes) {  // not worth a key
    return Guide::Compile(kind, text, vocabulary_, end_tokens_, limits_, guide);
  }
  return Status(Guard([&]() -> Status {
    const std::string key = KeyOf(kind, text);
    std::shared_ptr<Entry> entry;
    {
      std::unique_lock lock(mutex_);
      const auto it = entries_.find(key);
      if (it != entries_.end()) {
        entry = it->second;
        use_.splice(use_.begin(), use_, entry->use);
        ready_.wait(lock, [&] { return entry->ready; });
        ++counts_.found;
        *guide = entry->guide;
        return entry->status;
      }
      entry = std::make_shared<Entry>();
      use_.push_front(key);
      entry->use = use_.begin();
      entries_.emplace(key, entry);
    }
    std::shared_ptr<Guide> made;
    Status status = Guide::Compile(kind, text, vocabulary_, end_tokens_, limits_, &made);
    const std::lock_guard lock(mutex_);
    entry->ready = true;
    entry->guide = made;
    entry->status = status;
    ++(status.ok() ? counts_.compiled : counts_.refused);
    // Only what the text itself is to blame for would come out the same again.
    if (!status.ok() && status.code() != ENGINE_INVALID_ARGUMENT &&
        status.code() != ENGINE_DEADLINE_EXCEEDED) {
      use_.erase(entry->use);
      entries_.erase(key);
    }
    ready_.notify_all();
    Evict(key);
    *guide = std::move(made);
    return status;
  }));
}

// From the least used on, but neither what is being compiled nor `spared`.
void GuideCache::Evict(const std::string& spared) {
  const auto cost = [](const std::string& key, const Entry& entry) {
    return 2 * key.size() + 256 + entry.status.message().size() +
           (entry.guide == nullptr ? 0 : entry.guide->Bytes());
  };
  size_t total = 0;
  for (const auto& [key, entry] : entries_) total += entry->ready ? cost(key, *entry) : 0;
  for (auto it = use_.end();
       (total > bytes_ || entries_.size() > kMostEntries) && it != use_.begin();) {
    --it;
    const auto found = entries_.find(*it);
    if (found == entries_.end()) {  // memory ran out while it was put in
      it = use_.erase(it);
      continue;
    }
    if (!found->second->ready || *it == spared) continue;
    total -= cost(found->first, *found->second);
    entries_.erase(found);
    it = use_.erase(it);
    ++counts_.evicted;
  }
}

GuideCache::Counts GuideCache::counts() const {
  const std::lock_guard lock(mutex_);
  Counts counts = counts_;
  counts.kept = entries_.size();
  return counts;
}

}  // namespace engine::guided
