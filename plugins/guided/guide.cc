// A form that outputs must have, compiled for a model's vocabulary.
#include "guide.h"

#include <algorithm>
#include <bit>
#include <new>
#include <utility>

#include "json_forms.h"
#include "pattern.h"
#include "schema.h"
#include "tools.h"

namespace engine::guided {
namespace {

// Bulk marking pays from this many nodes of the trie on.
constexpr uint32_t kLargeSubtree = 16;

// No exception leaves: neither for want of memory nor from a library.
template <typename Body>
Status Contained(Body&& body) {
  return Status(Guard(std::forward<Body>(body)));
}

Status MakeNode(Kind kind, std::string_view text, Grammar* grammar, Node* node) {
  const Limits& limits = grammar->limits();
  if (text.size() > limits.text_bytes) {
    return Error(ENGINE_INVALID_ARGUMENT, "the form's text has ", text.size(),
                 " bytes; it can have ", limits.text_bytes);
  }
  JsonForms forms(grammar);
  switch (kind) {
    case Kind::kAnyObject:
      *node = forms.AnyObject();
      return grammar->status();
    case Kind::kRegex:
      return ParseRegex(text, RegexUse::kWhole, grammar, node);
    case Kind::kTools:
      return ToolsNode(text, grammar, node);
    case Kind::kSchema: {
      Json schema;
      ENGINE_RETURN_IF_ERROR(ParseJson(text, "the schema", limits, &schema));
      SchemaRequest request;
      request.schema = &schema;
      return SchemaNode(request, &forms, node);
    }
  }
  return Error(ENGINE_INVALID_ARGUMENT, "there is no kind of form with the number ",
               static_cast<int>(kind));
}

}  // namespace

Status CompileProgram(Kind kind, std::string_view text, const ByteSet& alphabet,
                      const Limits& limits, std::shared_ptr<const Program>* program) {
  return Contained([&]() -> Status {
    Budget budget(limits.compile);
    Grammar grammar(limits, &budget);
    Node node = 0;
    ENGINE_RETURN_IF_ERROR(MakeNode(kind, text, &grammar, &node));
    return BuildProgram(&grammar, node, alphabet, program);
  });
}

Status Guide::Compile(Kind kind, std::string_view text,
                      std::shared_ptr<const Vocabulary> vocabulary,
                      const std::vector<int32_t>& end_tokens, const Limits& limits,
                      std::shared_ptr<Guide>* guide) {
  return Contained([&]() -> Status {
    if (end_tokens.empty()) {
      return Error(ENGINE_INVALID_ARGUMENT,
                   "a guide needs an end token, to say that a text is "
                   "complete; the model names none");
    }
    for (const int32_t token : end_tokens) {
      if (token >= 0 && static_cast<size_t>(token) < vocabulary->size()) continue;
      return Error(ENGINE_INVALID_ARGUMENT, "end token ", token, " is not in the vocabulary of ",
                   vocabulary->size(), " tokens");
    }
    std::shared_ptr<const Program> program;
    ENGINE_RETURN_IF_ERROR(CompileProgram(kind, text, vocabulary->alphabet(), limits, &program));
    guide->reset(new Guide(std::move(program), std::move(vocabulary), end_tokens, limits));
    return Status();
  });
}

Guide::Guide(std::shared_ptr<const Program> program, std::shared_ptr<const Vocabulary> vocabulary,
             std::vector<int32_t> end_tokens, const Limits& limits)
    : vocabulary_(std::move(vocabulary)),
      end_tokens_(std::move(end_tokens)),
      limits_(limits),
      program_bytes_(program->Bytes()),
      matcher_(std::move(program), limits),
      path_(vocabulary_->deepest() + 1) {
  CountBytes();
}

void Guide::CountBytes() {
  bytes_.store(sizeof(*this) + program_bytes_ + matcher_.bytes() +
                   masks_.size() * (words() * sizeof(uint64_t) + sizeof(Kept)) +
                   streams_.size() * sizeof(Stream) + token_bytes_,
               std::memory_order_relaxed);
}

Guide::Stream* Guide::StreamOf(uint64_t id) {
  const auto it = streams_.find(id);
  if (it != streams_.end()) {
    stream_use_.splice(stream_use_.begin(), stream_use_, it->second.use);
    return &it->second;
  }
  if (streams_.size() >= std::max(1u, limits_.streams)) {
    const auto oldest = streams_.find(stream_use_.back());
    token_bytes_ -= oldest->second.tokens.capacity() * 8;
    streams_.erase(oldest);
    stream_use_.pop_back();
  }
  stream_use_.push_front(id);
  Stream& made = streams_[id];
  made.use = stream_use_.begin();
  made.age = age_;
  made.states = {matcher_.start()};
  return &made;
}

void Guide::Forget(uint64_t id) {
  const std::lock_guard lock(mutex_);
  const auto it = streams_.find(id);
  if (it == streams_.end()) return;
  token_bytes_ -= it->second.tokens.capacity() * 8;
  stream_use_.erase(it->second.use);
  streams_.erase(it);
}

void Guide::ForgetStates() {
  matcher_.Forget();
  masks_.clear();
  mask_use_.clear();
  ++age_;
}

Matcher::State Guide::AfterToken(Matcher::State state, int32_t token) {
  if (token < 0 || static_cast<size_t>(token) >= vocabulary_->size()) return Matcher::kDead;
  const std::string_view bytes = vocabulary_->bytes(token);
  // Special tokens have no bytes, and nothing follows an end token.
  if (bytes.empty()) return Matcher::kDead;
  if (std::find(end_tokens_.begin(), end_tokens_.end(), token) != end_tokens_.end()) {
    return Matcher::kDead;
  }
  for (const char c : bytes) {
    if (state == Matcher::kDead) break;
    state = matcher_.Advance(state, static_cast<uint8_t>(c));
  }
  return state;
}

Matcher::State Guide::Follow(Stream* stream, const int32_t* tokens, size_t count) {
  if (stream->age != age_ || stream->states.size() != stream->tokens.size() + 1) {
    stream->age = age_;
    stream->tokens.clear();
    stream->states = {matcher_.start()};
  }
  const size_t known = std::min(count, stream->tokens.size());
  const auto same = static_cast<size_t>(
      std::mismatch(tokens, tokens + known, stream->tokens.begin()).first - tokens);
  token_bytes_ -= stream->tokens.capacity() * 8;
  stream->tokens.resize(same);
  stream->states.resize(same + 1);
  for (size_t i = same; i < count; ++i) {
    const Matcher::State state = stream->states.back();
    if (state == Matcher::kDead) break;
    stream->tokens.push_back(tokens[i]);
    stream->states.push_back(AfterToken(state, tokens[i]));
  }
  token_bytes_ += stream->tokens.capacity() * 8;
  return stream->states.back();
}

uint64_t Guide::Unchanging(Matcher::State state) {
  uint64_t changing = 0;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const uint64_t kind = uint64_t{1} << Vocabulary::KindOf(static_cast<uint8_t>(byte));
    if ((changing & kind) != 0) continue;
    if (matcher_.Advance(state, static_cast<uint8_t>(byte)) != state) changing |= kind;
  }
  return ~changing;
}

void Guide::Walk(Matcher::State root, std::vector<uint64_t>* mask) {
  const std::vector<Vocabulary::TrieNode>& trie = vocabulary_->trie();
  const std::vector<int32_t>& order = vocabulary_->order();
  uint64_t* const words = mask->data();
  const auto mark = [&](uint32_t from, uint32_t to) {
    for (uint32_t i = from; i < to; ++i) {
      const auto token = static_cast<uint32_t>(order[i]);
      words[token / 64] |= uint64_t{1} << (token % 64);
    }
  };
  const auto end = static_cast<uint32_t>(trie.size() - 1);
  // The last state that a byte led back to, and the bytes that do so.
  Matcher::State still = Matcher::kDead;
  uint64_t unchanging = 0;
  path_[0] = root;
  for (uint32_t i = 0; i < end;) {
    const Vocabulary::TrieNode& node = trie[i];
    const Matcher::State from = path_[node.depth - 1];
    const Matcher::State state = matcher_.Advance(from, node.byte);
    if (state == Matcher::kDead) {
      i = node.end;
      continue;
    }
    if (state == from && node.end - i >= kLargeSubtree) {
      if (still != state) {
        still = state;
        unchanging = Unchanging(state);
      }
      if ((node.below & ~unchanging) == 0) {
        mark(node.first_token, trie[node.end].first_token);
        i = node.end;
        continue;
      }
    }
    mark(node.first_token, trie[i + 1].first_token);
    path_[node.depth] = state;
    ++i;
  }
}

Status Guide::MaskOf(Matcher::State state, Mask* mask) {
  const Matcher::State key = matcher_.Alike(state, vocabulary_->deepest());
  const auto it = masks_.find(key);
  if (it != masks_.end()) {
    mask_use_.splice(mask_use_.begin(), mask_use_, it->second.use);
    *mask = it->second.mask;
    return Status();
  }
  auto made = std::make_shared<MaskData>();
  made->words.resize(words());
  Walk(state, &made->words);
  // An end token that has bytes as well must not stand within a text.
  for (const int32_t token : end_tokens_) {
    uint64_t& word = made->words[static_cast<uint32_t>(token) / 64];
    const uint64_t bit = uint64_t{1} << (static_cast<uint32_t>(token) % 64);
    word = matcher_.Accepting(state) ? word | bit : word & ~bit;
  }
  if (matcher_.exhausted()) {
    return Error(ENGINE_RESOURCE_EXHAUSTED,
                 "the form can be read in so many ways here that a mask "
                 "takes too much work; fewer nested or overlapping "
                 "repetitions would do");
  }
  size_t allowed = 0;
  for (const uint64_t word : made->words) allowed += static_cast<size_t>(std::popcount(word));
  made->all = allowed == vocabulary_->size();
  if (allowed == 0) {
    return Error(ENGINE_FAILED_PRECONDITION,
                 "no token can go on from here and the text is not "
                 "complete: the vocabulary lacks a byte");
  }
  const size_t bytes = words() * sizeof(uint64_t) + sizeof(Kept);
  while (!masks_.empty() && (masks_.size() + 1) * bytes > limits_.mask_bytes) {
    masks_.erase(mask_use_.back());
    mask_use_.pop_back();
  }
  mask_use_.push_front(key);
  *mask = std::move(made);
  masks_[key] = {*mask, mask_use_.begin()};
  return Status();
}

Status Guide::AllowedLocked(uint64_t id, const int32_t* tokens, size_t count,
                            const uint64_t** mask) {
  *mask = nullptr;
  matcher_.StartWork();
  if (matcher_.bytes() > limits_.state_bytes) ForgetStates();
  Stream* stream = StreamOf(id);
  const Matcher::State state = Follow(stream, tokens, count);
  if (matcher_.exhausted()) {
    ForgetStates();
    return Error(ENGINE_RESOURCE_EXHAUSTED, "the form can be read in too many ways to follow ",
                 count, " tokens; fewer nested or overlapping repetitions would do");
  }
  if (state == Matcher::kDead) return Status();
  if (Status status = MaskOf(state, &stream->mask); !status.ok()) {
    if (matcher_.exhausted()) ForgetStates();
    return status;
  }
  if (!stream->mask->all) *mask = stream->mask->words.data();
  return Status();
}

Status Guide::Allowed(uint64_t stream, const int32_t* tokens, size_t count, const uint64_t** mask) {
  const std::lock_guard lock(mutex_);
  Status status = Contained([&] { return AllowedLocked(stream, tokens, count, mask); });
  CountBytes();
  return status;
}

Status Guide::Look(const int32_t* tokens, size_t count, bool* fits, bool* complete) {
  const std::lock_guard lock(mutex_);
  return Contained([&]() -> Status {
    *fits = *complete = false;
    matcher_.StartWork();
    if (matcher_.bytes() > limits_.state_bytes) ForgetStates();
    Matcher::State state = matcher_.start();
    for (size_t i = 0; i < count && state != Matcher::kDead; ++i) {
      state = AfterToken(state, tokens[i]);
    }
    if (matcher_.exhausted()) {
      ForgetStates();
      return Error(ENGINE_RESOURCE_EXHAUSTED, "the form can be read in too many ways");
    }
    *fits = state != Matcher::kDead;
    *complete = *fits && matcher_.Accepting(state);
    return Status();
  });
}

}  // namespace engine::guided
