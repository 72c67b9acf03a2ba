// Which sessions were used when, by tenant, so that those that nobody uses are forgotten. What they
// hold lies in the KV pool, which also makes room by itself; this is the list of names alone.
// Invariant: at most `kMost` names.
#ifndef PLUGINS_HTTP_API_SESSIONS_H_
#define PLUGINS_HTTP_API_SESSIONS_H_

#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace engine::http_api {

// [A-Za-z0-9._-]{1,128}, but what a path takes for a way up.
inline bool IsSessionName(std::string_view name) {
  if (name.empty() || name.size() > 128 || name == "." || name == "..") return false;
  for (const char c : name) {
    const bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '.' || c == '_' || c == '-';
    if (!good) return false;
  }
  return true;
}

struct SessionId {
  int key = 0;
  std::string name;
  auto operator<=>(const SessionId&) const = default;
};

class Sessions {
 public:
  static constexpr size_t kMost = 65536;
  // It is used now. Gives the names that had to go for it.
  std::vector<SessionId> Touch(const SessionId& id, uint64_t now) {
    if (const auto at = places_.find(id); at != places_.end()) order_.erase(at->second);
    order_.emplace_back(id, now);
    places_[id] = std::prev(order_.end());
    return places_.size() > kMost ? Take(1) : std::vector<SessionId>();
  }
  bool Has(const SessionId& id) const { return places_.count(id) != 0; }
  void Forget(const SessionId& id) {
    const auto at = places_.find(id);
    if (at == places_.end()) return;
    order_.erase(at->second);
    places_.erase(at);
  }
  // Those not used since `before` go, and are given.
  std::vector<SessionId> Expire(uint64_t before) {
    size_t count = 0;
    for (auto it = order_.begin(); it != order_.end() && it->second < before; ++it) ++count;
    return Take(count);
  }
  size_t size() const { return places_.size(); }

 private:
  std::vector<SessionId> Take(size_t count) {
    std::vector<SessionId> taken;
    for (; count != 0; --count) {
      taken.push_back(std::move(order_.front().first));
      places_.erase(taken.back());
      order_.pop_front();
    }
    return taken;
  }
  using Order = std::list<std::pair<SessionId, uint64_t>>;
  Order order_;  // the least recently used first
  std::map<SessionId, Order::iterator> places_;
};

}  // namespace engine::http_api

#endif  // PLUGINS_HTTP_API_SESSIONS_H_
