#include "spans.h"

#include <algorithm>

namespace engine::data {
namespace {

constexpr size_t kLongestName = 256;  // of a special token

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

size_t SkipSpace(std::string_view text, size_t at) {
  while (at < text.size() && IsSpace(text[at])) ++at;
  return at;
}

}  // namespace

std::string_view Reason(Fate fate) {
  switch (fate) {
    case Fate::kShort:
      return "shorter than min_tokens";
    case Fate::kLong:
      return "longer than sequence";
    case Fate::kUnlabelled:
      return "without a label that counts";
    case Fate::kGood:
      break;
  }
  return "";
}

std::vector<int32_t> Shift(const std::vector<int32_t>& ids, const std::vector<bool>& counts) {
  std::vector<int32_t> labels(ids.size(), kNoLabel);
  for (size_t t = 0; t + 1 < ids.size(); ++t) {
    if (counts[t + 1]) labels[t] = ids[t + 1];
  }
  return labels;
}

Status Encoder::Prepare() {
  // What encode puts around a text does not depend on it.
  static constexpr std::string_view kAny = "a";
  std::vector<int32_t> bare, framed;
  ENGINE_RETURN_IF_ERROR(model_.encode(kAny, false, false, &bare));
  ENGINE_RETURN_IF_ERROR(model_.encode(kAny, false, true, &framed));
  const auto at = std::search(framed.begin(), framed.end(), bare.begin(), bare.end());
  if (bare.empty() || at == framed.end()) {
    return Error(ENGINE_FAILED_PRECONDITION,
                 "the model's tokenizer encodes a text otherwise where it begins one");
  }
  prefix_.assign(framed.begin(), at);
  suffix_.assign(at + static_cast<std::ptrdiff_t>(bare.size()), framed.end());
  if (settings_.end_token.empty()) {
    for (int32_t id = 0; id < model_.vocab && end_ < 0; ++id) {
      if (model_.stops(id)) end_ = id;
    }
    return Status();
  }
  std::vector<int32_t> end;
  ENGINE_RETURN_IF_ERROR(model_.encode(settings_.end_token, true, false, &end));
  if (end.size() != 1) {
    return Error(ENGINE_INVALID_ARGUMENT, "end_token '", settings_.end_token, "' is ", end.size(),
                 " tokens of this model; it must be one");
  }
  end_ = end[0];
  return Status();
}

// The shortest beginning of `rest` that alone becomes this token; empty when none does.
Status Encoder::NameAt(std::string_view rest, int32_t id, std::string* name) const {
  std::vector<int32_t> ids;
  for (size_t n = 1; n <= std::min(rest.size(), kLongestName); ++n) {
    ENGINE_RETURN_IF_ERROR(model_.encode(rest.substr(0, n), true, false, &ids));
    if (ids.size() == 1 && ids[0] == id) {
      // Some take the white space before them with them.
      *name = rest.substr(SkipSpace(rest, 0), n - SkipSpace(rest, 0));
      return Status();
    }
  }
  return Status();
}

Status Encoder::Align(std::string_view text, const std::vector<int32_t>& ids,
                      std::vector<size_t>* ends, bool* found) {
  ends->clear();
  *found = false;
  size_t at = 0;
  bool after_special = false;
  for (const int32_t id : ids) {
    const std::string_view bytes = model_.bytes(id);
    std::string_view wanted = bytes;
    if (bytes.empty()) {
      std::string& name = names_[id];
      if (name.empty()) ENGINE_RETURN_IF_ERROR(NameAt(text.substr(at), id, &name));
      if (name.empty()) return Status();
      wanted = name;
    }
    // Special tokens may take the white space on either side with them.
    if (!text.substr(at).starts_with(wanted) && (bytes.empty() || after_special)) {
      at = SkipSpace(text, at);
    }
    if (!text.substr(at).starts_with(wanted)) return Status();
    at += wanted.size();
    ends->push_back(at);
    after_special = bytes.empty();
  }
  if (after_special) at = SkipSpace(text, at);
  *found = at == text.size();
  return Status();
}

Status Encoder::EndsOfPieces(std::string_view text, const std::vector<Span>& spans, bool special,
                             const std::vector<int32_t>& ids, std::vector<size_t>* ends) const {
  std::vector<size_t> borders;
  for (const Span& s : spans) {
    borders.push_back(s.begin);
    borders.push_back(s.end);
  }
  borders.push_back(text.size());
  ends->clear();
  std::vector<int32_t> piece, together;
  size_t begin = 0;
  for (const size_t border : borders) {
    if (border <= begin) continue;
    ENGINE_RETURN_IF_ERROR(
        model_.encode(text.substr(begin, border - begin), special, false, &piece));
    together.insert(together.end(), piece.begin(), piece.end());
    ends->resize(together.size(), border);
    begin = border;
  }
  if (together == ids) return Status();
  return Error(ENGINE_INVALID_ARGUMENT,
               "which tokens are the answer's cannot be told: the model's tokenizer changes this "
               "text, and encodes it otherwise in pieces; train_on: ALL needs no answers, and text "
               "in Unicode's form NFC is changed least");
}

Status Encoder::Answers(const Example& example, const std::string& text, size_t limit,
                        std::vector<Span>* spans) const {
  const std::vector<Message>& messages = example.messages;
  std::string list = "[", before, through;
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string so_far = list + "]";
    list += (i == 0 ? "" : ",") + messages[i].json;
    if (!messages[i].answer) continue;
    const auto at = [i](Status status) {
      return status.Prefix("message " + std::to_string(i + 1) + ": ");
    };
    ENGINE_RETURN_IF_ERROR(at(model_.render(so_far, example.tools, true, &before)));
    // What begins behind the last token that is kept needs no more rendering.
    if (before.size() >= limit) return Status();
    if (i + 1 == messages.size()) {
      through = text;
    } else {
      ENGINE_RETURN_IF_ERROR(at(model_.render(list + "]", example.tools, false, &through)));
    }
    if (!through.starts_with(before)) {
      return at(Error(ENGINE_INVALID_ARGUMENT,
                      "the chat format does not begin this answer as it begins one that is to be "
                      "generated, so that its place is not known; train_on: ALL needs no places"));
    }
    if (!text.starts_with(through)) {
      return at(Error(ENGINE_INVALID_ARGUMENT,
                      "the chat format renders this answer otherwise once the conversation goes "
                      "on, so that its place is not known; end the conversation with it, give it "
                      "\"weight\": 0, or set train_on: ALL"));
    }
    spans->push_back({before.size(), through.size()});
  }
  return Status();
}

Status Encoder::Chat(const Example& example, std::vector<int32_t>* ids, std::vector<bool>* counts,
                     size_t* endless) {
  const bool has_answer = std::any_of(example.messages.begin(), example.messages.end(),
                                      [](const Message& m) { return m.role == "assistant"; });
  if (!settings_.all && !has_answer) {
    return Error(ENGINE_INVALID_ARGUMENT,
                 "the conversation has no answer to train on: no message of the assistant");
  }
  std::string list = "[", text;
  for (const Message& m : example.messages) list += (list.size() == 1 ? "" : ",") + m.json;
  ENGINE_RETURN_IF_ERROR(model_.render(list + "]", example.tools, false, &text));
  ENGINE_RETURN_IF_ERROR(model_.encode(text, true, false, ids));
  counts->assign(ids->size(), settings_.all);
  if (settings_.all || ids->empty()) return Status();
  // No answer counts that would be cut off, and nothing where the whole would be left out.
  if (!settings_.cut && ids->size() > settings_.sequence) return Status();
  std::vector<size_t> ends;
  std::vector<Span> spans;
  bool found = false;
  ENGINE_RETURN_IF_ERROR(Align(text, *ids, &ends, &found));
  const size_t limit = found ? ends[std::min(ids->size(), settings_.sequence) - 1] : text.size();
  ENGINE_RETURN_IF_ERROR(Answers(example, text, limit, &spans));
  if (!found) ENGINE_RETURN_IF_ERROR(EndsOfPieces(text, spans, true, *ids, &ends));
  size_t t = 0;
  for (const Span& span : spans) {
    while (t < ids->size() && ends[t] <= span.begin) ++t;
    // A token belongs to where it ends: one that begins in the prompt must be asked for, too, or
    // the answer's first bytes would never be. Behind the token that ends the turn nothing is
    // generated any more.
    size_t last = t;
    bool stopped = false;
    for (; t < ids->size() && ends[t] <= span.end; ++t) {
      (*counts)[t] = true;
      if (!Stops((*ids)[t])) continue;
      last = t;
      stopped = true;
    }
    for (size_t k = last + 1; stopped && k < t; ++k) (*counts)[k] = false;
    *endless += stopped ? 0 : 1;
  }
  return Status();
}

Status Encoder::Plain(const Example& example, std::vector<int32_t>* ids,
                      std::vector<bool>* counts) {
  if (end_ < 0) {
    return Error(ENGINE_FAILED_PRECONDITION,
                 "the model names no token that ends a text; set end_token");
  }
  const std::string text = example.prompt + example.text;
  const size_t border = example.prompt.size();
  std::vector<int32_t> bare;
  ENGINE_RETURN_IF_ERROR(model_.encode(text, settings_.special, false, &bare));
  std::vector<size_t> ends(bare.size(), text.size());
  if (border != 0 && !settings_.all) {
    bool found = false;
    ENGINE_RETURN_IF_ERROR(Align(text, bare, &ends, &found));
    if (!found) {
      ENGINE_RETURN_IF_ERROR(
          EndsOfPieces(text, {{border, text.size()}}, settings_.special, bare, &ends));
    }
  }
  *ids = prefix_;
  counts->assign(prefix_.size(), settings_.all);
  for (size_t t = 0; t < bare.size(); ++t) {
    ids->push_back(bare[t]);
    counts->push_back(border == 0 || settings_.all || ends[t] > border);
  }
  ids->insert(ids->end(), suffix_.begin(), suffix_.end());
  if (suffix_.empty() || suffix_.back() != end_) ids->push_back(end_);
  counts->resize(ids->size(), true);
  return Status();
}

Fate Encoder::Finish(std::vector<int32_t> ids, const std::vector<bool>& counts, Tokens* out) const {
  out->whole = ids.size();
  if (ids.size() < settings_.min_tokens) return Fate::kShort;
  if (ids.size() > settings_.sequence) {
    if (!settings_.cut) return Fate::kLong;
    ids.resize(settings_.sequence);
  }
  out->labels = Shift(ids, counts);
  out->ids = std::move(ids);
  const bool any = std::any_of(out->labels.begin(), out->labels.end(),
                               [](int32_t label) { return label != kNoLabel; });
  return any ? Fate::kGood : Fate::kUnlabelled;
}

std::string Encoder::Shown(int32_t id) const {
  const std::string_view bytes = model_.bytes(id);
  if (!bytes.empty()) return std::string(bytes);
  if (id == end_ && !settings_.end_token.empty()) return settings_.end_token;
  const auto name = names_.find(id);
  if (name != names_.end() && !name->second.empty()) return name->second;
  return "<token " + std::to_string(id) + ">";
}

Status Encoder::Make(const Example& example, Tokens* out, Fate* fate) {
  std::vector<int32_t> ids;
  std::vector<bool> counts;
  out->endless = 0;
  ENGINE_RETURN_IF_ERROR(example.kind == Example::Kind::kChat
                             ? Chat(example, &ids, &counts, &out->endless)
                             : Plain(example, &ids, &counts));
  *fate = Finish(std::move(ids), counts, out);
  return Status();
}

}  // namespace engine::data
