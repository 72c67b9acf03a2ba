// dataset: the file, the model's tokenizer and chat format, and the feed of batches put together.
#include "engine/plugin.hpp"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>

#include "engine/util.hpp"
#include "examples.h"
#include "feed.h"
#include "nlohmann/json.hpp"
#include "options.engine.hpp"
#include "source.h"
#include "spans.h"

namespace engine::data {
namespace {

// So many tokens of one batch: 1 GiB with labels, examples and the rows they came from.
constexpr uint64_t kMostTokens = uint64_t{1} << 26;
// A text that becomes one stream is tokenized at once and held as ids.
constexpr size_t kLongestText = size_t{256} << 20;
// So many broken lines may stand before the one that tells the shape.
constexpr uint64_t kShapeTries = 1000;

struct Payload : engine_train_batch {
  Batch batch;
};

}  // namespace

struct Dataset : Node {
  ENGINE_NODE(
      "dataset",
      "Gives the examples of a file into the graph as batches of tokens and labels, to train "
      "on or to evaluate.",
      .executor = "io")
  ENGINE_OPTIONS(DatasetOptions)
  Out<engine_train_batch> out{this, {.name = "BATCH", .doc = "One microbatch after the other."}};
  UseModel model{this,
                 ENGINE_TYPE_MODEL,
                 {.name = "MODEL", .doc = "Whose tokenizer and chat format are used."}};

  Status Open(Call& call) override {
    model_ = model.Get(call);
    if (uint64_t{options.batch} * options.sequence > kMostTokens) {
      return Error(ENGINE_INVALID_ARGUMENT, "batch ", options.batch, " times sequence ",
                   options.sequence, " is more than ", kMostTokens, " tokens");
    }
    if (options.min_tokens > options.sequence) {
      return Error(ENGINE_INVALID_ARGUMENT, "min_tokens ", options.min_tokens,
                   " is above sequence ", options.sequence, ": no example could be used");
    }
    for (const std::string& pair : options.columns) ENGINE_RETURN_IF_ERROR(columns_.Add(pair));
    info_ = engine::Model(model_).Info();
    ENGINE_RETURN_IF_ERROR(file_.Open(options.path));
    ENGINE_RETURN_IF_ERROR(ChooseForm());
    MakeEncoder();
    FeedSettings s;
    ENGINE_RETURN_IF_ERROR(Index(&s.examples));
    s.rows = options.batch;
    s.sequence = options.sequence;
    s.fill = options.pack == DatasetOptions::Pack::FILL;
    s.shuffle = options.shuffle;
    s.skip_bad = options.on_bad == OnBad::SKIP;
    s.seed = options.seed;
    s.start = options.start;
    if (options.has_resume) ENGINE_RETURN_IF_ERROR(ReadNext(options.resume, &s.start));
    position_ = s.start;
    s.epochs = options.epochs;
    s.limit = options.limit;
    feed_.emplace(s, [this](uint64_t i, Tokens* tokens, Fate* fate, bool* fatal) {
      return Make(i, tokens, fate, fatal);
    });
    return Status();
  }

  Status Process(Call& call) override {
    model_ = model.Get(call);
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

  Status Close(Call&) override {
    const std::string told = feed_.has_value() ? feed_->Told() : std::string();
    if (!told.empty()) Log(ENGINE_LOG_WARNING, name(), options.path, ": ", told);
    return Status();
  }

 private:
  // Where the trainer's newest checkpoint goes on, where there is one.
  static Status ReadNext(const std::string& folder, uint64_t* next) {
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

  // What the file is, by its name and what was asked for.
  Status ChooseForm() {
    using Asked = DatasetOptions::Shape;
    form_ = FormOf(options.path, file_.bytes());
    const bool json = form_ == Form::kLines || form_ == Form::kList;
    switch (options.shape) {
      case Asked::AUTO:
      case Asked::TEXT:
        shape_ = Shape::kText;
        if (form_ == Form::kTokens && options.shape == Asked::TEXT) form_ = Form::kText;
        return Status();
      case Asked::TOKENS:
        form_ = Form::kTokens;
        return Status();
      case Asked::PROMPT_COMPLETION:
        shape_ = Shape::kPromptCompletion;
        break;
      case Asked::MESSAGES:
        shape_ = Shape::kMessages;
        break;
      case Asked::ALPACA:
        shape_ = Shape::kAlpaca;
        break;
      case Asked::SHAREGPT:
        shape_ = Shape::kShareGpt;
        break;
      default:
        return Error(ENGINE_INVALID_ARGUMENT, "shape ", static_cast<int>(options.shape),
                     " is unknown");
    }
    if (!json) form_ = Form::kLines;
    return Status();
  }

  // Finds the examples; of a text that is one stream, makes its tokens.
  Status Index(uint64_t* examples) {
    const std::string_view bytes = file_.bytes();
    if (form_ == Form::kTokens) {
      const size_t width = options.width == DatasetOptions::Width::U32 ? 4 : 2;
      ENGINE_RETURN_IF_ERROR(ids_.Build(options.path, bytes, options.header_bytes, width,
                                        static_cast<uint32_t>(info_.vocab), options.sequence));
      *examples = ids_.size();
      return Status();
    }
    if (form_ == Form::kText) {
      if (bytes.size() > kLongestText) {
        return Error(ENGINE_OUT_OF_RANGE, "the text '", options.path, "' has ", bytes.size(),
                     " bytes; at most ", kLongestText,
                     " are taken as one stream: give documents as JSON, {\"text\": ...} a line, or "
                     "token ids in a .bin file");
      }
      ENGINE_RETURN_IF_ERROR(engine::Model(model_).Encode(
          bytes, options.special ? ENGINE_ENCODE_SPECIAL : 0, &stream_));
      stream_.shrink_to_fit();
      *examples = (stream_.size() + options.sequence - 1) / options.sequence;
      if (*examples != 0) return Status();
      return Error(ENGINE_INVALID_ARGUMENT, "the text '", options.path, "' has no token");
    }
    ENGINE_RETURN_IF_ERROR(
        objects_.Build(options.path, bytes, form_, size_t{options.max_line_bytes}));
    *examples = objects_.size();
    if (options.shape == DatasetOptions::Shape::AUTO) ENGINE_RETURN_IF_ERROR(ChooseShape());
    return encoder_->Prepare();
  }

  // By the first object; where bad ones are skipped, by the first that has a shape.
  Status ChooseShape() {
    const uint64_t tries =
        options.on_bad == OnBad::SKIP ? std::min(objects_.size(), kShapeTries) : 1;
    Status first;
    for (uint64_t i = 0; i < tries; ++i) {
      std::string_view text;
      Status status = objects_.At(i, &text);
      if (status.ok()) status = FindShape(text, columns_, &shape_);
      if (status.ok()) return status;
      if (i == 0) first = status.Prefix(objects_.Where(0) + ": ");
    }
    return first;
  }

  Status Make(uint64_t i, Tokens* tokens, Fate* fate, bool* fatal) {
    if (form_ == Form::kTokens || form_ == Form::kText) {
      std::vector<int32_t> ids;
      if (form_ == Form::kTokens) {
        ENGINE_RETURN_IF_ERROR(ids_.At(i, &ids));
      } else {
        const size_t begin = i * options.sequence;
        const size_t end = std::min(stream_.size(), begin + options.sequence);
        ids.assign(stream_.begin() + static_cast<int64_t>(begin),
                   stream_.begin() + static_cast<int64_t>(end));
      }
      const std::vector<bool> all(ids.size(), true);
      *fate = encoder_->Finish(std::move(ids), all, tokens);
      return Status();
    }
    std::string_view text;
    Example example;
    Status status = objects_.At(i, &text);
    if (status.ok()) status = ParseExample(text, shape_, columns_, &example);
    if (status.ok()) status = encoder_->Make(example, tokens, fate);
    if (status.ok()) return status;
    // Lines are at fault with these only; a template that refuses a conversation is one of them,
    // and a model without a chat format refuses every one.
    *fatal = status.code() != ENGINE_INVALID_ARGUMENT && status.code() != ENGINE_OUT_OF_RANGE &&
             status.code() != ENGINE_FAILED_PRECONDITION;
    return status.Prefix(objects_.Where(i) + ": ");
  }

  void MakeEncoder() {
    SpanSettings s;
    s.sequence = options.sequence;
    s.min_tokens = options.min_tokens;
    s.cut = options.too_long == DatasetOptions::TooLong::CUT;
    s.all = options.train_on == DatasetOptions::TrainOn::ALL;
    s.special = options.special;
    s.end_token = options.end_token;
    data::Model m;
    m.vocab = static_cast<int32_t>(info_.vocab);
    m.render = [this](const std::string& messages, const std::string& tools, bool generate,
                      std::string* text) {
      text->clear();
      return Status(ThisHost().model->chat_render(
          model_, Str(messages), Str(tools), generate ? ENGINE_CHAT_GENERATE : 0, &AppendTo, text));
    };
    m.encode = [this](std::string_view text, bool special, bool frame, std::vector<int32_t>* ids) {
      uint32_t flags = 0;
      if (special) flags |= ENGINE_ENCODE_SPECIAL;
      if (frame) flags |= ENGINE_ENCODE_BOS;
      return engine::Model(model_).Encode(text, flags, ids);
    };
    m.bytes = [this](int32_t id) {
      engine_str bytes = {};
      const Status ignored(ThisHost().model->token_bytes(model_, id, &bytes));
      return ignored.ok() ? View(bytes) : std::string_view();
    };
    m.stops = [this](int32_t id) { return ThisHost().model->token_stops(model_, id) != 0; };
    encoder_.emplace(std::move(m), std::move(s));
  }

  engine_model* model_ = nullptr;  // of the call under way
  engine_model_info info_ = {};
  Columns columns_;
  MappedFile file_;
  Form form_ = Form::kLines;
  Shape shape_ = Shape::kText;
  ObjectIndex objects_;          // kLines, kList
  TokenFile ids_;                // kTokens
  std::vector<int32_t> stream_;  // kText
  std::optional<Encoder> encoder_;
  std::optional<Feed> feed_;
  uint64_t position_ = 0;
};

}  // namespace engine::data

ENGINE_PLUGIN((engine::PluginInfo{.id = "engine.data",
                                  .version = "0.1.0",
                                  .summary = "Data sets as batches to train on.",
                                  .license = "Apache-2.0",
                                  .schemas = engine::data::kSchema,
                                  .schemas_size = sizeof engine::data::kSchema}),
              engine::Nodes<engine::data::Dataset>)
