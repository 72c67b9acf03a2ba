// forward and sample: a step in, tokens out.
#include "nodes.h"
#include "payloads.h"

namespace engine::text {

std::unique_ptr<float[]> LogitsBuffers::Take(size_t count, size_t* capacity) {
  {
    std::lock_guard lock(mutex_);
    for (auto& [buffer, size] : free_) {
      if (size < count) continue;
      *capacity = size;
      std::unique_ptr<float[]> taken = std::move(buffer);
      std::swap(free_.back().first, buffer);
      std::swap(free_.back().second, size);
      free_.pop_back();
      return taken;
    }
    // Too small, all of them: larger ones come back.
    free_.clear();
  }
  *capacity = count;
  return std::unique_ptr<float[]>(new float[count]);
}

void LogitsBuffers::Give(std::unique_ptr<float[]> buffer, size_t capacity) {
  std::lock_guard lock(mutex_);
  if (free_.size() < kKept) free_.emplace_back(std::move(buffer), capacity);
}

Status Forward::Process(Call& call) {
  const engine_step* s = in.Get(call);
  engine_model* m = model.Get(call);
  engine_model_info info = Sized<engine_model_info>();
  ThisHost().model->info(m, &info);
  auto payload = std::make_unique<Logits>();
  size_t rows = 0;
  bool sampling = false;
  for (uint32_t i = 0; i < s->count; ++i) {
    const engine_step_sequence& sequence = At(s->sequences, i);
    if (sequence.logits_count > sequence.token_count) {
      return Error(ENGINE_INVALID_ARGUMENT, "sequence ", i, " of the step wants logits of ",
                   sequence.logits_count, " tokens, but brings ", sequence.token_count);
    }
    rows += sequence.logits_count;
    sampling |= sequence.sampling != nullptr;
  }
  const auto vocab = static_cast<size_t>(info.vocab);
  if (rows != 0) {
    payload->home = buffers_;
    payload->buffer = buffers_->Take(rows * vocab, &payload->capacity);
  }
  // An empty step only goes round: whoever sent it wants to be called again.
  if (s->count != 0) {
    ENGINE_RETURN_IF_ERROR(Status(ThisHost().model->step(m, s, payload->buffer.get())));
  }
  payload->owned_requests.reserve(rows);
  payload->owned_positions.reserve(rows);
  payload->owned_inputs.reserve(rows);
  if (sampling) payload->owned_sampling.reserve(rows);
  payload->owned_sequences.reserve(rows);
  payload->owned_tokens.reserve(rows);
  for (uint32_t i = 0; i < s->count; ++i) {
    const engine_step_sequence& sequence = At(s->sequences, i);
    for (uint32_t t = sequence.token_count - sequence.logits_count; t < sequence.token_count; ++t) {
      payload->owned_requests.push_back(sequence.request);
      payload->owned_positions.push_back(sequence.start + t + 1);
      payload->owned_inputs.push_back(sequence.tokens[t]);
      if (sampling) payload->owned_sampling.push_back(sequence.sampling);
      payload->owned_sequences.push_back(i);
      payload->owned_tokens.push_back(t + 1);
    }
  }
  payload->keep = Share(in.Raw(call));
  payload->step = s;
  payload->sequences = payload->owned_sequences.data();
  payload->tokens = payload->owned_tokens.data();
  payload->rows = static_cast<uint32_t>(rows);
  payload->vocab = static_cast<uint64_t>(info.vocab);
  payload->data = payload->buffer.get();
  payload->requests = payload->owned_requests.data();
  payload->positions = payload->owned_positions.data();
  payload->inputs = payload->owned_inputs.data();
  payload->sampling = sampling ? payload->owned_sampling.data() : nullptr;
  return out.Emit(call, std::move(payload));
}

Status Sample::Process(Call& call) {
  const engine_logits* l = in.Get(call);
  auto payload = std::make_unique<Sampled>();
  payload->owned_ids.resize(l->rows);
  payload->owned_margins.resize(l->rows);
  if (l->rows != 0) {
    engine_sampling fallback = Sized<engine_sampling>();
    fallback.top_k = options.top_k;
    fallback.temperature = options.temperature;
    fallback.top_p = options.top_p;
    fallback.seed = options.seed;
    engine_choices choices = Sized<engine_choices>();
    choices.ids = payload->owned_ids.data();
    choices.margins = payload->owned_margins.data();
    uint32_t told = 0;  // alternatives, plus 1
    for (uint32_t r = 0; l->sampling != nullptr && r < l->rows; ++r) {
      if (l->sampling[r] != nullptr) told = std::max(told, Known(*l->sampling[r]).logprobs);
    }
    if (told != 0) {
      choices.top_count = told - 1;
      payload->owned_logprobs.resize(l->rows);
      payload->owned_top_ids.resize(size_t{l->rows} * choices.top_count);
      payload->owned_top_logprobs.resize(payload->owned_top_ids.size());
      payload->logprobs = choices.logprobs = payload->owned_logprobs.data();
      payload->top_ids = choices.top_ids = payload->owned_top_ids.data();
      payload->top_logprobs = choices.top_logprobs = payload->owned_top_logprobs.data();
      payload->top_count = choices.top_count;
    }
    ENGINE_RETURN_IF_ERROR(
        Status(ThisHost().model->choose(model.Get(call), l, &fallback, &choices)));
  }
  payload->owned_requests.assign(l->requests, l->requests + l->rows);
  payload->owned_positions.assign(l->positions, l->positions + l->rows);
  if (l->inputs != nullptr) payload->owned_inputs.assign(l->inputs, l->inputs + l->rows);
  payload->rows = l->rows;
  payload->requests = payload->owned_requests.data();
  payload->ids = payload->owned_ids.data();
  payload->margins = payload->owned_margins.data();
  payload->positions = payload->owned_positions.data();
  payload->inputs = l->inputs != nullptr ? payload->owned_inputs.data() : nullptr;
  return out.Emit(call, std::move(payload));
}

}  // namespace engine::text
