// Sizes of the structs that release 1.0 of the SDK froze: what every maker fills at least, so what
// a reader may rely on without ENGINE_HAS. A struct that a later release adds is listed with the
// size that it had first.
#ifndef ENGINE_SIZES_HPP_
#define ENGINE_SIZES_HPP_

#include <cstdint>

// clang-format off
#define ENGINE_STRUCTS(X) \
  X(engine_status, 64) \
  X(engine_host, 32) \
  X(engine_plugin, 112) \
  X(engine_cancel, 16) \
  X(engine_sampling, 32) \
  X(engine_request, 112) \
  X(engine_text, 40) \
  X(engine_tokens, 56) \
  X(engine_step_sequence, 72) \
  X(engine_step, 16) \
  X(engine_logits, 56) \
  X(engine_sampled, 48) \
  X(engine_usage, 40) \
  X(engine_token, 112) \
  X(engine_event, 32) \
  X(engine_train_batch, 56) \
  X(engine_train_step, 56) \
  X(engine_async, 24) \
  X(engine_autograd, 64) \
  X(engine_kv_view, 40) \
  X(engine_kv_open, 56) \
  X(engine_kv_match, 16) \
  X(engine_kv_stats, 112) \
  X(engine_kv_pool, 112) \
  X(engine_log, 16) \
  X(engine_metrics, 32) \
  X(engine_model_info, 144) \
  X(engine_site_info, 64) \
  X(engine_shard, 24) \
  X(engine_param_info, 128) \
  X(engine_export, 32) \
  X(engine_loss_how, 40) \
  X(engine_site_cost, 32) \
  X(engine_train_estimate, 48) \
  X(engine_model_host, 432) \
  X(engine_port_desc, 88) \
  X(engine_slot_desc, 56) \
  X(engine_kind_desc, 176) \
  X(engine_error_payload, 56) \
  X(engine_node_vtable, 40) \
  X(engine_nodes_plugin, 24) \
  X(engine_nodes_host, 168) \
  X(engine_resource_vtable, 24) \
  X(engine_resources_plugin, 24) \
  X(engine_site_impl, 40) \
  X(engine_packed_linear, 16) \
  X(engine_low_rank, 104) \
  X(engine_autocast, 8) \
  X(engine_same_function, 16) \
  X(engine_recomputed, 16) \
  X(engine_tasks, 24) \
  X(engine_diff, 24) \
  X(engine_transform_vtable, 40) \
  X(engine_transforms_plugin, 24) \
  X(engine_guide, 24) \
  X(engine_choices, 48)
// clang-format on

#define ENGINE_DECLARE(name, size) struct name;
ENGINE_STRUCTS(ENGINE_DECLARE)
#undef ENGINE_DECLARE

namespace engine {

template <typename T>
inline constexpr uint32_t kFirstSize = 0;
#define ENGINE_SIZE(name, size) \
  template <>                   \
  inline constexpr uint32_t kFirstSize<::name> = size;
ENGINE_STRUCTS(ENGINE_SIZE)
#undef ENGINE_SIZE

// True when `p` points to a struct that holds all that the first release of its kind had.
template <typename T>
bool Complete(const T* p) {
  static_assert(kFirstSize<T> != 0);
  return p != nullptr && p->struct_size >= kFirstSize<T>;
}

}  // namespace engine

#endif  // ENGINE_SIZES_HPP_
