// serial_batcher: the decode loop of one sequence at a time.
// Invariant: at most one step is under way, and it belongs to current_.
#include <algorithm>

#include "engine/ext/draft/model.h"
#include "engine/util.hpp"
#include "nodes.h"
#include "payloads.h"

namespace engine::text {
// The view of any KV store of the model: sequences are the same for all of them.
const engine_kv_view* SerialBatcher::Kv(Call& call) const {
  const engine_model_host* api = ThisHost().model;
  engine_model* m = model.Get(call);
  const uint32_t count = api->site_count(m);
  for (uint32_t i = 0; i < count; ++i) {
    engine_site_info info = {};
    info.struct_size = sizeof info;
    Status status(api->site(m, i, &info));
    if (!status.ok() || info.kind != ENGINE_SITE_KV_STORE) continue;
    const engine_site_impl* impl = api->site_impl(m, i);
    return static_cast<const engine_kv_view*>(impl->extension(impl->self, ENGINE_EXT_KV_VIEW));
  }
  return nullptr;
}

Status SerialBatcher::EmitToken(Call& call, int32_t id, uint32_t finish, float margin,
                                std::string_view error) {
  const Request& r = *current_;
  auto payload = std::make_unique<Token>();
  payload->id = id;
  payload->request = r.group;
  payload->index = static_cast<uint32_t>(r.tokens.size() - r.prompt);
  payload->finish = finish;
  payload->margin = margin;
  payload->arrived_ns = r.arrived_ns;
  payload->made_ns = NowNs();
  if (payload->index == 0 || finish != ENGINE_FINISH_NONE) {
    payload->owned_prompt.assign(r.tokens.begin(), r.tokens.begin() + static_cast<long>(r.prompt));
    payload->prompt_ids = payload->owned_prompt.data();
    payload->prompt_count = static_cast<uint32_t>(r.prompt);
  }
  payload->owned_error = std::string(error);
  payload->error = Str(payload->owned_error);
  return token.Emit(call, std::move(payload), r.group);
}

Status SerialBatcher::End(Call& call, uint32_t finish, int32_t id, float margin,
                          std::string_view error) {
  Status status = EmitToken(call, id, finish, margin, error);
  if (current_->open) {
    Status closed(kv_->sequence_close(kv_->self, current_->sequence));
    if (status.ok()) status = std::move(closed);
  }
  current_.reset();
  if (!status.ok() || waiting_.empty()) return status;
  return Start(call);
}

Status SerialBatcher::Start(Call& call) {
  current_ = std::move(waiting_.front());
  waiting_.pop_front();
  // Resolved for each sequence: the model may have been replaced since the last one.
  kv_ = Kv(call);
  if (kv_ != nullptr) {
    Status status(kv_->sequence_open(kv_->self, &current_->sequence));
    if (!status.ok()) return End(call, ENGINE_FINISH_ERROR, -1, 0, status.message());
    current_->open = true;
  }
  return NextStep(call);
}

Status SerialBatcher::NextStep(Call& call) {
  Request& r = *current_;
  size_t count = r.tokens.size() - r.done;
  if (kv_ != nullptr) {
    count = std::min<size_t>(count, options.prefill_chunk);
    Status status(kv_->sequence_reserve(kv_->self, r.sequence, r.done + count));
    if (!status.ok()) return End(call, ENGINE_FINISH_ERROR, -1, 0, status.message());
  }
  auto payload = std::make_unique<Step>();
  payload->owned_tokens.assign(r.tokens.begin() + static_cast<long>(r.done),
                               r.tokens.begin() + static_cast<long>(r.done + count));
  engine_step_sequence s = {};
  s.request = r.group;
  s.tokens = payload->owned_tokens.data();
  s.token_count = static_cast<uint32_t>(count);
  s.start = static_cast<uint32_t>(r.done);
  if (kv_ != nullptr) {
    const int32_t* blocks = nullptr;
    uint32_t block_count = 0;
    ENGINE_RETURN_IF_ERROR(
        Status(kv_->sequence_blocks(kv_->self, r.sequence, &blocks, &block_count)));
    payload->owned_blocks.assign(blocks, blocks + block_count);
    s.blocks = payload->owned_blocks.data();
    s.block_count = block_count;
    r.done += count;
  }
  payload->owned_sequences = {s};
  payload->sequences = payload->owned_sequences.data();
  payload->count = 1;
  return step.Emit(call, std::move(payload), r.group);
}

Status SerialBatcher::OnSampled(Call& call, int32_t id, float margin) {
  Request& r = *current_;
  // A step of the middle of the prompt: its token is of no use.
  if (kv_ != nullptr && r.done < r.tokens.size()) return NextStep(call);
  const size_t made = r.tokens.size() - r.prompt;
  engine_model_info info = {};
  info.struct_size = sizeof info;
  ThisHost().model->info(model.Get(call), &info);
  if (!options.ignore_eos && ThisHost().model->token_stops(model.Get(call), id) != 0) {
    return End(call, ENGINE_FINISH_STOP, id, margin, {});
  }
  const bool last =
      made + 1 >= options.max_tokens || r.tokens.size() + 1 >= static_cast<size_t>(info.context);
  if (last) return End(call, ENGINE_FINISH_LENGTH, id, margin, {});
  ENGINE_RETURN_IF_ERROR(EmitToken(call, id, ENGINE_FINISH_NONE, margin, {}));
  r.tokens.push_back(id);
  return NextStep(call);
}

Status SerialBatcher::Process(Call& call) {
  if (const engine_packet* packet = fresh.Raw(call)) {
    auto request = std::make_unique<Request>();
    request->group = ThisHost().nodes->packet_group(packet);
    if (const engine_error_payload* error = fresh.Failure(call)) {
      // The request failed before it got here; its end is told like any other.
      std::swap(current_, request);
      current_->group = ThisHost().nodes->packet_group(packet);
      Status status = EmitToken(call, -1, ENGINE_FINISH_ERROR, 0, View(error->message));
      std::swap(current_, request);
      return status;
    }
    const engine_tokens* tokens = fresh.Get(call);
    request->tokens.assign(tokens->ids, tokens->ids + tokens->count);
    request->prompt = tokens->count;
    request->arrived_ns = tokens->arrived_ns;
    ThisHost().nodes->packet_retain(const_cast<engine_packet*>(packet));
    request->keep = Packet(const_cast<engine_packet*>(packet));
    waiting_.push_back(std::move(request));
    return current_ == nullptr ? Start(call) : Status();
  }
  if (current_ == nullptr) {
    return Error(ENGINE_INTERNAL, "a sampled token came back, but no sequence is running");
  }
  if (const engine_error_payload* error = running.Failure(call)) {
    return End(call, ENGINE_FINISH_ERROR, -1, 0, View(error->message));
  }
  const engine_sampled* sampled = running.Get(call);
  if (sampled->rows != 1 || sampled->requests[0] != current_->group) {
    return Error(ENGINE_INTERNAL, "the sampled token belongs to another sequence");
  }
  return OnSampled(call, sampled->ids[0], sampled->margins[0]);
}

Status SerialBatcher::Close(Call&) {
  Status status;
  if (current_ != nullptr && current_->open) {
    status = Status(kv_->sequence_close(kv_->self, current_->sequence));
  }
  current_.reset();
  waiting_.clear();
  return status;
}

}  // namespace engine::text
