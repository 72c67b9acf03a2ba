#include "reader.h"

#include <algorithm>

#include "engine/transform.hpp"
#include "engine/util.hpp"

namespace engine::data {
namespace {

// A text that becomes one stream is tokenized at once and held as ids.
constexpr size_t kLongestText = size_t{256} << 20;
// So many broken lines may stand before the one that tells the shape.
constexpr uint64_t kShapeTries = 1000;

}  // namespace

Status Reader::Open(engine_model* model, const DatasetOptions& options, bool any_shape) {
  options_ = &options;
  model_ = model;
  if (options.min_tokens > options.sequence) {
    return Error(ENGINE_INVALID_ARGUMENT, "min_tokens ", options.min_tokens, " is above sequence ",
                 options.sequence, ": no example could be used");
  }
  for (const std::string& pair : options.columns) ENGINE_RETURN_IF_ERROR(columns_.Add(pair));
  vocab_ = static_cast<uint32_t>(engine::Model(model).Info().vocab);
  ENGINE_RETURN_IF_ERROR(file_.Open(options.path));
  ENGINE_RETURN_IF_ERROR(ChooseForm());
  MakeEncoder();
  return Index(any_shape);
}

// What the file is, by its name and what was asked for.
Status Reader::ChooseForm() {
  using Asked = DatasetOptions::Shape;
  form_ = FormOf(options_->path, file_.bytes());
  const bool json = form_ == Form::kLines || form_ == Form::kList;
  switch (options_->shape) {
    case Asked::AUTO:
    case Asked::TEXT:
      shape_ = Shape::kText;
      if (form_ == Form::kTokens && options_->shape == Asked::TEXT) form_ = Form::kText;
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
      return Error(ENGINE_INVALID_ARGUMENT, "shape ", static_cast<int>(options_->shape),
                   " is unknown");
  }
  if (!json) form_ = Form::kLines;
  return Status();
}

// By the first object; with `any_shape`, by the first that has one.
Status Reader::ChooseShape(bool any_shape) {
  const uint64_t tries = any_shape ? std::min(objects_.size(), kShapeTries) : 1;
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

Status Reader::ReadText() {
  const std::string_view bytes = file_.bytes();
  if (bytes.size() > kLongestText) {
    return Error(ENGINE_OUT_OF_RANGE, "the text '", options_->path, "' has ", bytes.size(),
                 " bytes; at most ", kLongestText,
                 " are taken as one stream: give documents as JSON, {\"text\": ...} a line, or "
                 "token ids in a .bin file");
  }
  ENGINE_RETURN_IF_ERROR(CheckUtf8(options_->path, bytes));
  ENGINE_RETURN_IF_ERROR(
      engine::Model(model_).Encode(bytes, options_->special ? ENGINE_ENCODE_SPECIAL : 0, &stream_));
  stream_.shrink_to_fit();
  examples_ = (stream_.size() + options_->sequence - 1) / options_->sequence;
  if (examples_ != 0) return Status();
  return Error(ENGINE_INVALID_ARGUMENT, "the text '", options_->path, "' has no token");
}

Status Reader::Index(bool any_shape) {
  if (form_ == Form::kText) return ReadText();
  if (form_ == Form::kTokens) {
    const size_t width = options_->width == DatasetOptions::Width::U32 ? 4 : 2;
    ENGINE_RETURN_IF_ERROR(ids_.Build(options_->path, file_.bytes(), options_->header_bytes, width,
                                      vocab_, options_->sequence));
    examples_ = ids_.size();
    return Status();
  }
  ENGINE_RETURN_IF_ERROR(
      objects_.Build(options_->path, file_.bytes(), form_, size_t{options_->max_line_bytes}));
  examples_ = objects_.size();
  if (options_->shape == DatasetOptions::Shape::AUTO) {
    ENGINE_RETURN_IF_ERROR(ChooseShape(any_shape));
  }
  return encoder_->Prepare();
}

Status Reader::Make(uint64_t i, Tokens* tokens, Fate* fate, bool* fatal) {
  if (form_ == Form::kTokens || form_ == Form::kText) {
    std::vector<int32_t> ids;
    if (form_ == Form::kTokens) {
      ENGINE_RETURN_IF_ERROR(ids_.At(i, &ids));
    } else {
      const size_t begin = i * options_->sequence;
      const size_t end = std::min(stream_.size(), begin + options_->sequence);
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

std::string Reader::Where(uint64_t i) const {
  if (form_ == Form::kLines || form_ == Form::kList) return objects_.Where(i);
  return options_->path + ": token " + std::to_string(i * options_->sequence);
}

std::string_view Reader::shape() const {
  if (form_ == Form::kTokens) return "TOKENS";
  switch (shape_) {
    case Shape::kText:
      return "TEXT";
    case Shape::kPromptCompletion:
      return "PROMPT_COMPLETION";
    case Shape::kMessages:
      return "MESSAGES";
    case Shape::kAlpaca:
      return "ALPACA";
    case Shape::kShareGpt:
      return "SHAREGPT";
  }
  return "";
}

std::string_view Reader::form() const {
  switch (form_) {
    case Form::kLines:
      return "one object a line";
    case Form::kList:
      return "one list of objects";
    case Form::kText:
      return "one stream of text";
    case Form::kTokens:
      return "token ids";
  }
  return "";
}

void Reader::MakeEncoder() {
  SpanSettings s;
  s.sequence = options_->sequence;
  s.min_tokens = options_->min_tokens;
  s.cut = options_->too_long == DatasetOptions::TooLong::CUT;
  s.all = options_->train_on == DatasetOptions::TrainOn::ALL;
  s.special = options_->special;
  s.end_token = options_->end_token;
  data::Model m;
  m.vocab = static_cast<int32_t>(vocab_);
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

}  // namespace engine::data
