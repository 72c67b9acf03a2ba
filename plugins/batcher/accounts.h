// Fairness between those who ask (`key` of a request): a counter of tokens served for each, and
// whoever was served least is next (virtual token counter; Sheng et al. 2024, "Fairness in Serving
// Large Language Models").
// Invariant: a key that comes back is never behind those who stayed, so that time away saves up no
// right; an account without requests is kept only as long as it tells more than a new one would.
#ifndef PLUGINS_BATCHER_ACCOUNTS_H_
#define PLUGINS_BATCHER_ACCOUNTS_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace engine::batcher {

struct Account {
  uint64_t served = 0;    // tokens, weighted
  uint32_t requests = 0;  // that wait or run
};

class Accounts {
 public:
  // A request of this key begins; Leave ends it. The pointer stays valid until then.
  Account* Enter(std::string_view key) {
    auto it = all_.find(key);
    if (it == all_.end()) it = all_.emplace(std::string(key), Account{}).first;
    Account& account = it->second;
    if (account.requests++ == 0) {
      uint64_t least = UINT64_MAX;
      for (const auto& [name, other] : all_) {
        if (&other != &account && other.requests != 0) least = std::min(least, other.served);
      }
      if (least != UINT64_MAX) floor_ = std::max(floor_, least);
      account.served = std::max(account.served, floor_);
    }
    return &account;
  }
  void Leave(Account* account) {
    --account->requests;
    if (all_.size() <= kKept) return;
    for (auto it = all_.begin(); it != all_.end();) {
      // Any name may come in from outside: the idle ones go, and first those that lose nothing.
      const bool idle = it->second.requests == 0;
      it = idle && (it->second.served <= floor_ || all_.size() > kKept) ? all_.erase(it) : ++it;
    }
  }
  size_t size() const { return all_.size(); }

 private:
  static constexpr size_t kKept = 1024;
  std::map<std::string, Account, std::less<>> all_;
  uint64_t floor_ = 0;  // least that a key begins with
};

}  // namespace engine::batcher

#endif  // PLUGINS_BATCHER_ACCOUNTS_H_
