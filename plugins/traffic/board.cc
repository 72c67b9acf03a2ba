#include "board.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "engine/philox.hpp"
#include "engine/util.hpp"

namespace engine::traffic {
namespace {

uint32_t Draw(const Range& range, double uniform) {
  const double span = static_cast<double>(range.most - range.least) + 1;
  return range.least + std::min(range.most - range.least, static_cast<uint32_t>(uniform * span));
}

}  // namespace

std::shared_ptr<Board> Board::Of(const std::string& name) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<Board>> boards;
  std::lock_guard lock(mutex);
  std::shared_ptr<Board> board = boards[name].lock();
  if (board == nullptr) boards[name] = board = std::make_shared<Board>();
  return board;
}

void Board::Begin(const Spec& spec) {
  std::lock_guard lock(mutex_);
  spec_ = spec;
  waves_ = spec.warmup + spec.waves;
  records_.clear();
  moments_.clear();
  records_.reserve(size_t{waves_} * spec.requests * spec.turns);
  const Philox lengths(spec.seed, "lengths");
  uint64_t draw = 0;
  for (uint32_t w = 0; w < waves_; ++w) {
    for (uint32_t c = 0; c < spec.requests; ++c) {
      for (uint32_t t = 0; t < spec.turns; ++t) {
        Record r;
        r.wave = w;
        r.conversation = c;
        r.turn = t;
        r.prompt = traffic::Draw(spec.prompt, lengths.Uniform(draw++));
        r.out = traffic::Draw(spec.out, lengths.Uniform(draw++));
        const bool cancel = lengths.Uniform(draw++) < spec.cancel;
        const Range some{1, std::max(1u, r.out / 2)};
        const uint32_t after = traffic::Draw(some, lengths.Uniform(draw++));
        if (cancel) r.cancel_after = after;
        records_.push_back(std::move(r));
      }
    }
  }
  wave_ = 0;
  ended_ = under_way_ = 0;
  wave_open_ = false;
}

size_t Board::WaveEnd() const { return size_t{wave_ + 1} * spec_.requests * spec_.turns; }

// Opens the next wave: first turns may go, in an open loop each at its time.
void Board::Draw() {
  const size_t first = size_t{wave_} * spec_.requests * spec_.turns;
  const Philox arrivals(spec_.seed, "arrivals " + std::to_string(wave_));
  uint64_t at = NowNs();
  for (uint32_t c = 0; c < spec_.requests; ++c) {
    const size_t index = first + size_t{c} * spec_.turns;
    if (spec_.rate > 0) {
      const double gap = -std::log(1 - arrivals.Uniform(c)) / spec_.rate;
      at += static_cast<uint64_t>(gap * 1e9);
      records_[index].due_ns = at;
    }
    ready_.push_back(index);
  }
  ended_in_wave_ = 0;
  wave_open_ = true;
}

Board::Next Board::Wait(uint64_t* index) {
  std::unique_lock lock(mutex_);
  const uint64_t limit = NowNs() + 100'000'000;
  for (;;) {
    if (!give_up_.empty()) {
      *index = give_up_.front();
      give_up_.pop_front();
      return Next::kCancel;
    }
    if (wave_ == waves_) return Next::kDone;
    if (!wave_open_) Draw();
    const uint64_t now = NowNs();
    uint64_t until = limit;
    if (!ready_.empty() && (spec_.streams == 0 || under_way_ < spec_.streams)) {
      Record& r = records_[ready_.front()];
      if (r.due_ns <= now) {
        *index = ready_.front();
        ready_.pop_front();
        r.sent_ns = now;
        if (r.due_ns == 0) r.due_ns = now;
        ++under_way_;
        return Next::kRequest;
      }
      until = std::min(until, r.due_ns);
    }
    if (now >= limit) return Next::kWait;
    changed_.wait_for(lock, std::chrono::nanoseconds(until > now ? until - now : 1));
  }
}

std::vector<int32_t> Board::Prompt(uint64_t index, int64_t vocab) const {
  const Record& r = records_[index];
  std::vector<int32_t> ids;
  // The first ids of a vocabulary are often special.
  const int64_t least = std::min<int64_t>(vocab / 4, 1000), span = vocab - least;
  const auto add = [&](const std::string& stream, uint32_t count) {
    const Philox random(spec_.seed, stream);
    for (uint32_t i = 0; i < count; ++i) {
      ids.push_back(static_cast<int32_t>(
          least +
          std::min(span - 1, static_cast<int64_t>(random.Uniform(i) * static_cast<double>(span)))));
    }
  };
  if (r.turn == 0) add("prefix " + std::to_string(r.wave), spec_.prefix);
  add("prompt " + std::to_string(index), r.prompt);
  return ids;
}

Record Board::Get(uint64_t index) const {
  std::lock_guard lock(mutex_);
  return records_[index];
}

bool Board::OnToken(uint64_t index, int32_t id, uint64_t made_ns, const Moment& moment) {
  std::lock_guard lock(mutex_);
  if (index >= records_.size()) return false;
  Record& r = records_[index];
  if (r.ended) return false;
  if (r.first_ns == 0) {
    r.first_ns = made_ns;
  } else {
    r.gaps_us.push_back(static_cast<uint32_t>((made_ns - r.last_ns) / 1000));
  }
  r.last_ns = made_ns;
  ++r.tokens;
  r.hash = (r.hash ^ static_cast<uint32_t>(id)) * 0x100000001b3u + 1;
  moments_.push_back(moment);
  if (r.cancel_after != 0 && r.tokens == r.cancel_after) {
    r.cancelled = true;
    give_up_.push_back(index);
    changed_.notify_all();
  }
  return false;
}

bool Board::OnEnd(uint64_t index, bool failed, const std::string& error, uint32_t cached,
                  uint32_t preemptions, const Moment& moment) {
  std::lock_guard lock(mutex_);
  if (index >= records_.size()) return false;
  Record& r = records_[index];
  if (r.ended) return false;
  r.ended = true;
  r.failed = failed;
  r.error = error;
  r.cached = cached;
  r.preemptions = preemptions;
  moments_.push_back(moment);
  --under_way_;
  ++ended_;
  ++ended_in_wave_;
  if (r.turn + 1 < spec_.turns) ready_.push_back(index + 1);
  if (ended_in_wave_ == size_t{spec_.requests} * spec_.turns) {
    ++wave_;
    wave_open_ = false;
  }
  changed_.notify_all();
  return ended_ == records_.size();
}

}  // namespace engine::traffic
