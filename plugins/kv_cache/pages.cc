#include "pages.h"

#include <cstring>

namespace engine::kv_cache {

Pages::Pages(const Geometry& geometry, uint32_t total, char* memory)
    : geometry_(geometry),
      total_(total),
      memory_(memory),
      pages_(new Page[total]),
      tokens_(new int32_t[uint64_t{total} * geometry.page_tokens]),
      free_(total) {
  // Low pages first, so that a short run touches little memory.
  for (uint32_t i = total; i > 0; --i) {
    pages_[i - 1].next = first_free_;
    first_free_ = static_cast<int32_t>(i - 1);
  }
}

int32_t Pages::Take() {
  const int32_t page = first_free_;
  first_free_ = pages_[page].next;
  pages_[page] = Page();
  --free_;
  Hold(page, Holder::kSequence);
  return page;
}

void Pages::Hold(int32_t page, Holder holder) {
  Page& p = pages_[page];
  if (holder == Holder::kSequence) {
    if (p.sequences++ == 0) ++used_;
  } else {
    if (p.sessions++ == 0) ++by_sessions_;
  }
  if (p.listed) Unlist(page);
}

bool Pages::Drop(int32_t page, Holder holder) {
  Page& p = pages_[page];
  if (holder == Holder::kSequence) {
    if (--p.sequences == 0) --used_;
  } else {
    if (--p.sessions == 0) --by_sessions_;
  }
  return Settle(page);
}

void Pages::Copy(int32_t from, int32_t to, uint32_t count) {
  std::memcpy(data(to), data(from), geometry_.page_bytes);
  std::memcpy(tokens(to), tokens(from), count * sizeof(int32_t));
}

bool Pages::Settle(int32_t page) {
  Page& p = pages_[page];
  if (p.sequences + p.sessions != 0) return false;
  if (!p.findable) {
    p.next = first_free_;
    first_free_ = page;
    ++free_;
    return true;
  }
  const bool leaf = p.children == 0;
  if (leaf && !p.listed) List(page);
  if (!leaf && p.listed) Unlist(page);
  return false;
}

bool Pages::Unfind(int32_t page) {
  Page& p = pages_[page];
  if (p.listed) Unlist(page);
  p.findable = false;
  return Settle(page);
}

void Pages::List(int32_t page) {
  Page& p = pages_[page];
  // Pages that are let go are the newest; those that evicted children or sessions leave behind are
  // about as old as the oldest. Either way the place is near.
  int32_t older = kNoPage, newer = kNoPage;
  if (newest_ == kNoPage || pages_[newest_].stamp <= p.stamp) {
    older = newest_;
  } else {
    newer = oldest_;
    while (pages_[newer].stamp < p.stamp) newer = pages_[newer].newer;
    older = pages_[newer].older;
  }
  p.older = older;
  p.newer = newer;
  (older == kNoPage ? oldest_ : pages_[older].newer) = page;
  (newer == kNoPage ? newest_ : pages_[newer].older) = page;
  p.listed = true;
}

void Pages::Unlist(int32_t page) {
  Page& p = pages_[page];
  (p.older == kNoPage ? oldest_ : pages_[p.older].newer) = p.newer;
  (p.newer == kNoPage ? newest_ : pages_[p.newer].older) = p.older;
  p.older = p.newer = kNoPage;
  p.listed = false;
}

}  // namespace engine::kv_cache
