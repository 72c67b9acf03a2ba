// dataset: a reader's examples through the feed of batches.
#include <filesystem>
#include <utility>

#include "engine/util.hpp"
#include "nlohmann/json.hpp"
#include "nodes.h"

namespace engine::data {
namespace {

// So many tokens of one batch: 1 GiB with labels, examples and the rows they came from.
constexpr uint64_t kMostTokens = uint64_t{1} << 26;

struct Payload : engine_train_batch {
  Batch batch;
};

// Where the trainer's newest checkpoint goes on, where there is one.
Status ReadNext(const std::string& folder, uint64_t* next) {
  const std::string latest = folder + "/latest.json";
  if (!std::filesystem::exists(latest)) return Status();
  std::string text;
  ENGINE_RETURN_IF_ERROR(Status(ThisHost().model->read_text(Str(latest), &AppendTo, &text)));
  const auto j = nlohmann::json::parse(text, nullptr, false);
  if (!j.is_object() || !j.contains("next") || !j["next"].is_number_unsigned()) {
    return Error(ENGINE_DATA_LOSS, "'", latest, "' does not say where the data goes on");
  }
  *next = j["next"].get<uint64_t>();
  return Status();
}

}  // namespace

Status Dataset::Open(Call& call) {
  if (uint64_t{options.batch} * options.sequence > kMostTokens) {
    return Error(ENGINE_INVALID_ARGUMENT, "batch ", options.batch, " times sequence ",
                 options.sequence, " is more than ", kMostTokens, " tokens");
  }
  FeedSettings s;
  s.skip_bad = options.on_bad == OnBad::SKIP;
  ENGINE_RETURN_IF_ERROR(reader_.Open(model.Get(call), options, s.skip_bad));
  s.examples = reader_.size();
  s.rows = options.batch;
  s.sequence = options.sequence;
  s.fill = options.pack == DatasetOptions::Pack::FILL;
  s.shuffle = options.shuffle;
  s.seed = options.seed;
  s.start = options.start;
  if (options.has_resume) ENGINE_RETURN_IF_ERROR(ReadNext(options.resume, &s.start));
  position_ = s.start;
  s.epochs = options.epochs;
  s.limit = options.limit;
  feed_.emplace(s, [this](uint64_t i, Tokens* tokens, Fate* fate, bool* fatal) {
    return reader_.Make(i, tokens, fate, fatal);
  });
  return Status();
}

Status Dataset::Process(Call& call) {
  reader_.Use(model.Get(call));
  auto payload = std::make_unique<Payload>();
  bool there = false;
  Status status = feed_->Next([&] { return call.Cancelled(); }, &payload->batch, &there);
  if (!status.ok()) {
    // What follows a batch that is missing would not be what was asked for.
    call.FailRun(status);
    return status;
  }
  if (!there) {
    call.Finish();
    return Status();
  }
  const Batch& b = payload->batch;
  payload->rows = b.rows;
  payload->length = b.length;
  payload->valid = b.valid;
  payload->ids = b.ids.data();
  payload->labels = b.labels.data();
  payload->example = b.example.empty() ? nullptr : b.example.data();
  payload->struct_size = sizeof(engine_train_batch);
  payload->start = std::exchange(position_, b.next);
  payload->next = b.next;
  return out.Emit(call, std::move(payload));
}

Status Dataset::Close(Call&) {
  const std::string told = feed_.has_value() ? feed_->Told() : std::string();
  if (!told.empty()) Log(ENGINE_LOG_WARNING, name(), options.path, ": ", told);
  return Status();
}

}  // namespace engine::data
