// Requests and prompts that own what they point to, for nodes that make or copy them.
#ifndef ENGINE_REQUEST_HPP_
#define ENGINE_REQUEST_HPP_

#include <string>
#include <vector>

#include "engine/growth.hpp"
#include "engine/types.h"

namespace engine {

// A request with its own strings. Whoever sets a string or a list calls Finish after it.
struct OwnedRequest {
  OwnedRequest() = default;
  OwnedRequest(const OwnedRequest&) = delete;
  OwnedRequest& operator=(const OwnedRequest&) = delete;

  engine_request value = Sized<engine_request>();
  engine_sampling sampling = Sized<engine_sampling>();
  std::string id, session, salt, key, adapter;
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
  std::string form_text;
  std::vector<int32_t> bias_ids, stop_ids;
  std::vector<float> bias_values;
#endif

  // Points `value` at the strings; `with_sampling`: and at `sampling`.
  const engine_request* Finish(bool with_sampling) {
    value.id = Str(id);
    value.session = Str(session);
    value.salt = Str(salt);
    value.key = Str(key);
    value.adapter = Str(adapter);
    value.sampling = with_sampling ? &sampling : nullptr;
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
    value.form_text = Str(form_text);
    sampling.bias_ids = bias_ids.data();
    sampling.bias_values = bias_values.data();
    sampling.bias_count = static_cast<uint32_t>(bias_ids.size());
    sampling.stop_ids = stop_ids.data();
    sampling.stop_count = static_cast<uint32_t>(stop_ids.size());
#endif
    return &value;
  }
  // A guide is not copied: it lives as long as what `from` came with.
  const engine_request* Copy(const engine_request& from) {
    value = Known(from);
    id = std::string(View(value.id));
    session = std::string(View(value.session));
    salt = std::string(View(value.salt));
    key = std::string(View(value.key));
    adapter = std::string(View(value.adapter));
    if (from.sampling != nullptr) sampling = Known(*from.sampling);
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
    form_text = std::string(View(value.form_text));
    bias_ids.assign(sampling.bias_ids, sampling.bias_ids + sampling.bias_count);
    bias_values.assign(sampling.bias_values, sampling.bias_values + sampling.bias_count);
    stop_ids.assign(sampling.stop_ids, sampling.stop_ids + sampling.stop_count);
#endif
    return Finish(from.sampling != nullptr);
  }
};

// The payload of an engine.Text/1 packet. Zeroed by value initialization (std::make_unique).
struct OwnedText : engine_text {
  std::string owned, owned_tools;
  std::vector<int32_t> owned_ids;
  OwnedRequest owned_request;
};

}  // namespace engine

#endif  // ENGINE_REQUEST_HPP_
