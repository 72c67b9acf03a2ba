#include "tests/serving.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>
#include <stdexcept>

#include "engine/kernels/isa.h"
#include "engine/util.hpp"

namespace engine::tests {
namespace {

constexpr WeightFormat kFormats[] = {
    {"F32", Stored::kF32, "", nullptr},
    {"BF16", Stored::kF32, "dtype: BF16", nullptr},
    {"Q8_0", Stored::kQ8_0, "", nullptr},
    {"Q4_0", Stored::kQ4_0, "", nullptr},
    {"Q4_1", Stored::kQ4_1, "", nullptr},
    {"Q4_1_decoded", Stored::kQ4_1, "weights: DECODED", nullptr},
    {"int8_groups_32", Stored::kF32, "", "scheme: GROUPS group: 32"},
    {"int8_groups_64", Stored::kF32, "", "scheme: GROUPS group: 64"},
    {"int8_groups_128", Stored::kF32, "", "scheme: GROUPS group: 128"},
    {"int8_per_channel", Stored::kF32, "", "scheme: PER_CHANNEL"},
};

void Check(engine_status* status) { Must(Status(status)); }

}  // namespace

void Must(const Status& status) {
  if (!status.ok()) throw std::runtime_error(std::string(status.message()));
}

std::span<const WeightFormat> WeightFormats() { return kFormats; }

const WeightFormat& FormatNamed(const std::string& name) {
  for (const WeightFormat& f : kFormats) {
    if (name == f.name) return f;
  }
  throw std::runtime_error("no format is named " + name);
}

std::string ChainText(const std::string& path, const WeightFormat& format, const std::string& kv) {
  std::string text =
      "resource { name: \"base\" load { path: \"" + path + "\" " + format.load + " } }\n";
  std::string from = "base";
  if (format.int8 != nullptr) {
    from = "small";
    text +=
        "resource { name: \"small\" from: \"base\" int8 { " + std::string(format.int8) + " } }\n";
  }
  return text + "resource { name: \"kv\" from: \"" + from + "\" kv_cache { " + kv + " } }\n";
}

Road::Road(const std::string& name) : before_(kernels::IsaName(kernels::ActiveIsa())) {
  there_ = kernels::ForceIsa(name).ok();
}
Road::~Road() { Must(kernels::ForceIsa(before_)); }

std::string FirstDifference(std::span<const float> want, std::span<const float> got,
                            int64_t vocab) {
  std::ostringstream out;
  out.precision(9);
  if (want.size() != got.size()) {
    out << want.size() << " logits are wanted, there are " << got.size();
    return out.str();
  }
  // Bits, so that a zero of the other sign and a NaN are seen too.
  if (std::memcmp(want.data(), got.data(), want.size() * sizeof(float)) == 0) return "";
  const auto width = static_cast<size_t>(vocab);
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::memcmp(&want[i], &got[i], sizeof(float)) == 0) continue;
    out << "row " << i / width << ", logit " << i % width << ": " << want[i] << " is wanted, "
        << got[i] << " is there";
    break;
  }
  return out.str();
}

double MostDifference(std::span<const float> want, std::span<const float> got) {
  double most = 0, top = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double w = static_cast<double>(want[i]);
    most = std::max(most, std::fabs(w - static_cast<double>(got[i])));
    top = std::max(top, std::fabs(w));
  }
  return most / top;
}

Serving::Serving(model::Model* model) : model_(model), pool_(model::PoolOf(*model)) {
  if (pool_ == nullptr) throw std::runtime_error("the model keeps no keys and values");
}

Serving::Sequence Serving::Open(std::vector<int32_t> tokens, const How& how) {
  Sequence s;
  s.tokens = std::move(tokens);
  s.how = how;
  Must(Reopen(&s));
  return s;
}

Status Serving::Reopen(Sequence* s) {
  engine_kv_open open = Sized<engine_kv_open>();
  open.flags = s->how.share ? 0 : ENGINE_KV_OPEN_NO_SHARING;
  open.tokens = s->tokens.data();
  open.token_count = static_cast<uint32_t>(s->tokens.size());
  open.adapter = s->how.adapter;
  open.session = Str(s->how.session);
  open.salt = Str(s->how.salt);
  engine_kv_match match = Sized<engine_kv_match>();
  ENGINE_RETURN_IF_ERROR(Status(pool_->sequence_open(pool_->self, &open, &s->id, &match)));
  s->done = s->cached = match.cached;
  s->reason = match.reason;
  return Status();
}

Status Serving::Reserve(Sequence* s, uint32_t count) {
  return Status(pool_->sequence_reserve(pool_->self, s->id, uint64_t{s->done} + count));
}

std::vector<float> Serving::Step(std::span<const Part> parts) {
  std::vector<engine_step_sequence> sequences;
  std::vector<std::vector<int32_t>> fed;
  uint64_t rows = 0;
  for (const Part& part : parts) {
    const Sequence& of = *part.sequence;
    auto& tokens =
        fed.emplace_back(of.tokens.begin() + of.done, of.tokens.begin() + of.done + part.count);
    tokens.insert(tokens.end(), part.drafts.begin(), part.drafts.end());
    Must(Reserve(part.sequence, static_cast<uint32_t>(tokens.size())));
    rows += part.logits;
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    const Part& part = parts[i];
    engine_step_sequence s = Sized<engine_step_sequence>();
    s.request = part.sequence->id;
    s.tokens = fed[i].data();
    s.token_count = static_cast<uint32_t>(fed[i].size());
    s.start = part.sequence->done;
    s.logits_count = part.logits;
    s.adapter = part.sequence->how.adapter;
    Check(pool_->sequence_blocks(pool_->self, part.sequence->id, &s.blocks, &s.block_count));
    sequences.push_back(s);
  }
  std::vector<float> logits(rows * static_cast<uint64_t>(vocab()));
  const engine_step step = {sizeof(engine_step), static_cast<uint32_t>(sequences.size()),
                            sequences.data()};
  Must(model_->Step(step, logits.data()));
  for (size_t i = 0; i < parts.size(); ++i) {
    Sequence* s = parts[i].sequence;
    s->done += std::min(parts[i].told, static_cast<uint32_t>(fed[i].size()));
    Check(pool_->sequence_written(pool_->self, s->id, fed[i].data(), s->done));
  }
  return logits;
}

void Serving::Cut(Sequence* s, uint32_t done) {
  Check(pool_->sequence_truncate(pool_->self, s->id, done));
  s->done = done;
}

Status Serving::Fork(const Sequence& s, Sequence* copy) {
  *copy = s;
  copy->how.session.clear();  // the session stays with the first
  return Status(pool_->sequence_fork(pool_->self, s.id, &copy->id));
}

void Serving::Close(Sequence* s) {
  Check(pool_->sequence_close(pool_->self, s->id, 0));
  s->id = 0;
  s->done = 0;
}

Status Serving::Keep(Sequence* s) {
  Status status(pool_->sequence_close(pool_->self, s->id, ENGINE_KV_CLOSE_KEEP));
  s->id = 0;
  s->done = 0;
  return status;
}

Status Serving::SaveSession(const How& how, const std::string& path) {
  return Status(
      pool_->session_save(pool_->self, Str(how.session), Str(how.salt), how.adapter, Str(path)));
}
Status Serving::RestoreSession(const How& how, const std::string& path) {
  return Status(
      pool_->session_restore(pool_->self, Str(how.session), Str(how.salt), how.adapter, Str(path)));
}
Status Serving::DropSession(const How& how) {
  return Status(pool_->session_drop(pool_->self, Str(how.session), Str(how.salt), how.adapter));
}

engine_kv_stats Serving::Stats() const {
  engine_kv_stats stats = Sized<engine_kv_stats>();
  pool_->stats(pool_->self, &stats);
  return stats;
}

std::vector<float> Serving::Alone(const std::vector<int32_t>& tokens, uint32_t first,
                                  uint32_t adapter) {
  Sequence s = Open(tokens, {.share = false, .adapter = adapter});
  const auto count = static_cast<uint32_t>(tokens.size());
  const Part all{&s, count, count - first};
  std::vector<float> logits = Step({&all, 1});
  Close(&s);
  return logits;
}

}  // namespace engine::tests
