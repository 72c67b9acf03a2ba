// forward and sample: a step in, tokens out.
#include <algorithm>
#include <cmath>

#include "engine/philox.hpp"
#include "nodes.h"
#include "payloads.h"

namespace engine::text {

Status Forward::Process(Call& call) {
  const engine_step* s = in.Get(call);
  engine_model* m = model.Get(call);
  engine_model_info info = {};
  info.struct_size = sizeof info;
  ThisHost().model->info(m, &info);
  auto payload = std::make_unique<Logits>();
  payload->owned.resize(s->count * static_cast<size_t>(info.vocab));
  ENGINE_RETURN_IF_ERROR(Status(ThisHost().model->step(m, s, payload->owned.data())));
  for (uint32_t i = 0; i < s->count; ++i) {
    payload->owned_requests.push_back(s->sequences[i].request);
    payload->owned_positions.push_back(s->sequences[i].start + s->sequences[i].token_count);
  }
  payload->rows = s->count;
  payload->vocab = static_cast<uint64_t>(info.vocab);
  payload->data = payload->owned.data();
  payload->requests = payload->owned_requests.data();
  payload->positions = payload->owned_positions.data();
  return out.Emit(call, std::move(payload));
}

Status Sample::Process(Call& call) {
  const engine_logits* l = in.Get(call);
  const auto vocab = static_cast<size_t>(l->vocab);
  auto payload = std::make_unique<Sampled>();
  for (uint32_t row = 0; row < l->rows; ++row) {
    const float* logits = l->data + row * vocab;
    // Two greatest logits, the first of equals winning, as argmax does.
    float first = -INFINITY, second = -INFINITY;
    size_t best = vocab;
    for (size_t i = 0; i < vocab; ++i) {
      if (std::isnan(logits[i])) {
        return Error(ENGINE_DATA_LOSS, "the logits of request ", l->requests[row],
                     " hold a NaN at token ", i);
      }
      if (logits[i] > first) {
        second = first;
        first = logits[i];
        best = i;
      } else if (logits[i] > second) {
        second = logits[i];
      }
    }
    if (best == vocab) return Error(ENGINE_DATA_LOSS, "no logit is greater than minus infinity");
    if (options.temperature > 0) {
      best_.clear();
      for (size_t i = 0; i < vocab; ++i) best_.emplace_back(logits[i], static_cast<int32_t>(i));
      const size_t keep = options.top_k == 0 ? vocab : std::min<size_t>(options.top_k, vocab);
      const auto likelier = [](const auto& a, const auto& b) {
        return a.first > b.first || (a.first == b.first && a.second < b.second);
      };
      if (keep < vocab) {
        std::nth_element(best_.begin(), best_.begin() + static_cast<long>(keep), best_.end(),
                         likelier);
        best_.resize(keep);
      }
      double total = 0;
      for (auto& [logit, id] : best_) {
        logit =
            static_cast<float>(std::exp(static_cast<double>(logit - first) / options.temperature));
        total += static_cast<double>(logit);
      }
      if (options.top_p < 1) {
        std::sort(best_.begin(), best_.end(), likelier);
        double sum = 0;
        size_t n = 0;
        while (n < best_.size() && (n == 0 || sum < options.top_p * total)) {
          sum += static_cast<double>(best_[n++].first);
        }
        best_.resize(n);
        total = sum;
      }
      const double draw = Philox(options.seed, l->requests[row]).Uniform(l->positions[row]) * total;
      double sum = 0;
      best = static_cast<size_t>(best_.back().second);
      for (const auto& [weight, id] : best_) {
        sum += static_cast<double>(weight);
        if (draw < sum) {
          best = static_cast<size_t>(id);
          break;
        }
      }
    }
    payload->owned_requests.push_back(l->requests[row]);
    payload->owned_ids.push_back(static_cast<int32_t>(best));
    payload->owned_margins.push_back(first - second);
  }
  payload->rows = l->rows;
  payload->requests = payload->owned_requests.data();
  payload->ids = payload->owned_ids.data();
  payload->margins = payload->owned_margins.data();
  return out.Emit(call, std::move(payload));
}

}  // namespace engine::text
