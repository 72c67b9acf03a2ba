#include "feed.h"

namespace engine::data {

Feed::Feed(const FeedSettings& settings, Make make)
    : settings_(settings),
      make_(std::move(make)),
      packer_(settings.rows, settings.sequence, settings.fill),
      position_(settings.start) {}

// One past the last position.
uint64_t Feed::End() const {
  const uint64_t n = settings_.examples, epochs = settings_.epochs;
  return epochs == 0 || epochs > UINT64_MAX / n ? UINT64_MAX : epochs * n;
}

Status Feed::At(uint64_t position, Tokens** out, Fate* fate) {
  *out = &held_;
  *fate = Fate::kGood;
  if (position == held_at_) return Status();
  held_at_ = UINT64_MAX;
  const uint64_t epoch = position / settings_.examples;
  uint64_t i = position % settings_.examples;
  if (settings_.shuffle) {
    if (!order_.has_value() || epoch != epoch_) {
      order_.emplace(settings_.examples, settings_.seed, epoch);
      epoch_ = epoch;
    }
    i = order_->At(i);
  }
  bool fatal = false;
  ++seen_;
  Status status = make_(i, &held_, fate, &fatal);
  if (status.ok()) {
    ++fates_[static_cast<size_t>(*fate)];
    if (*fate == Fate::kGood) held_at_ = position;
    return Status();
  }
  if (fatal || !settings_.skip_bad) return status;
  if (bad_++ == 0) first_bad_ = status.message();
  *out = nullptr;
  return Status();
}

Status Feed::Next(const std::function<bool()>& cancelled, Batch* out, bool* there) {
  *there = false;
  if (settings_.limit != 0 && batches_ == settings_.limit) return Status();
  for (; position_ < End() && !packer_.full(); ++position_) {
    if (cancelled()) return Status();
    if (position_ % settings_.examples == 0) barren_ = 0;
    Tokens* tokens = nullptr;
    Fate fate = Fate::kGood;
    ENGINE_RETURN_IF_ERROR(At(position_, &tokens, &fate));
    if (tokens != nullptr && fate == Fate::kGood) {
      if (!packer_.Add(*tokens)) break;
    } else if (++barren_ >= settings_.examples) {
      // All of an epoch; another would be no better.
      return Error(ENGINE_INVALID_ARGUMENT, "none of ", settings_.examples,
                   " examples is of use: ", Told());
    }
  }
  if (packer_.empty()) return Status();
  *out = packer_.Take();
  out->next = position_;
  ++batches_;
  *there = true;
  return Status();
}

std::string Feed::Told() const {
  std::string out;
  const auto tell = [&](uint64_t count, std::string_view what) {
    if (count == 0) return;
    out.append(out.empty() ? "" : ", ").append(std::to_string(count)).append(" ").append(what);
  };
  for (const Fate fate : {Fate::kShort, Fate::kLong, Fate::kUnlabelled}) {
    tell(fates_[static_cast<size_t>(fate)], Reason(fate));
  }
  tell(bad_, "that are no examples");
  if (out.empty()) return out;
  out = "left out of " + std::to_string(seen_) + " examples: " + out;
  return bad_ == 0 ? out : out + " (the first: " + first_bad_ + ")";
}

}  // namespace engine::data
