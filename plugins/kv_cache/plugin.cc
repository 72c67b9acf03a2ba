// The kv_cache transform: puts one pool behind the KvStore sites of all blocks.
#include "engine/plugin.hpp"

#include "engine/torch_ops.h"
#include "options.engine.hpp"
#include "pool.h"

namespace engine::kv_cache {
namespace {

// The store of one block.
class Store : public SiteImpl {
 public:
  Store(std::shared_ptr<Pool> pool, uint32_t block) : pool_(std::move(pool)), block_(block) {
    view_.struct_size = sizeof view_;
    view_.page_tokens = pool_->shape().page_tokens;
    view_.block = block;
    view_.self = this;
    view_.page = [](void* s, int32_t i) { return Of(s)->pool_->Page(Of(s)->block_, i); };
    view_.sequence_open = [](void* s, uint64_t* id) -> engine_status* {
      return Guard([&] { return Of(s)->pool_->Open(id); });
    };
    view_.sequence_reserve = [](void* s, uint64_t id, uint64_t n) -> engine_status* {
      return Guard([&] { return Of(s)->pool_->Reserve(id, n); });
    };
    view_.sequence_blocks = [](void* s, uint64_t id, const int32_t** b,
                               uint32_t* n) -> engine_status* {
      return Guard([&] { return Of(s)->pool_->Blocks(id, b, n); });
    };
    view_.sequence_close = [](void* s, uint64_t id) -> engine_status* {
      return Guard([&] { return Of(s)->pool_->Close(id); });
    };
    view_.stats = [](void* s, engine_kv_stats* out) { *out = Of(s)->pool_->Stats(); };
  }
  Status Forward(engine_forward*, const AtenTensorHandle*, uint32_t, AtenTensorHandle*,
                 uint32_t) override {
    return Error(ENGINE_FAILED_PRECONDITION, "a KV store is not a function of tensors");
  }
  const void* Extension(std::string_view id) override {
    return id == ENGINE_EXT_KV_VIEW ? &view_ : nullptr;
  }

 private:
  static Store* Of(void* self) { return static_cast<Store*>(self); }
  const std::shared_ptr<Pool> pool_;
  const uint32_t block_;
  engine_kv_view view_ = {};
};

struct KvCache : Transform {
  ENGINE_TRANSFORM(
      "kv_cache",
      "Keeps keys and values of past tokens, so that each step computes new tokens "
      "only. Replaces the KvStore site of every block. Serving alone uses it: training "
      "runs over whole sequences.",
      ENGINE_PHASE_KV_STORAGE)
  ENGINE_OPTIONS(KvCacheOptions)

  Status Prepare() override {
    if (options.page_tokens % 16 != 0) {
      return Error(ENGINE_INVALID_ARGUMENT, "page_tokens is ", options.page_tokens,
                   "; it must be a multiple of 16");
    }
    return wire::ParseByteSize(options.budget, &budget_);
  }

  Status Plan(const Model& model, Diff& diff) override {
    const engine_model_info info = model.Info();
    Shape shape = ShapeOf(info);
    const uint64_t pages =
        budget_ > Pool::kSequenceCost ? (budget_ - Pool::kSequenceCost) / Pool::PageCost(shape) : 0;
    const std::vector<engine_site_info> sites = model.Sites();
    const auto each = static_cast<int64_t>(pages * shape.page_bytes() / shape.blocks);
    for (uint32_t i = 0; i < sites.size(); ++i) {
      if (sites[i].kind != ENGINE_SITE_KV_STORE) continue;
      ENGINE_RETURN_IF_ERROR(diff.Replace(
          i,
          "pages of " + std::to_string(options.page_tokens) + " tokens, f32, room for " +
              std::to_string(pages * options.page_tokens) + " tokens",
          0, each));
    }
    return Status();
  }

  Status Rewrite(const Model& model, uint32_t site, std::unique_ptr<SiteImpl>* out) override {
    if (pool_ == nullptr) {
      const engine_model_info info = model.Info();
      if (info.dtype == ENGINE_F64) {
        return Error(ENGINE_UNIMPLEMENTED,
                     "keys and values are kept in f32; this model runs in F64");
      }
      std::unique_ptr<Pool> pool;
      // The tensor's pages are the system's until a sequence touches them.
      ENGINE_RETURN_IF_ERROR(Pool::Make(
          ShapeOf(info), budget_,
          [&](int64_t floats, float** memory) {
            memory_.emplace(ops::Empty({floats + 16}, ENGINE_F32));
            const auto at = reinterpret_cast<uintptr_t>(ops::Data<float>(*memory_));
            *memory = reinterpret_cast<float*>((at + 63) / 64 * 64);
            return Status();
          },
          &pool));
      pool_ = std::move(pool);
    }
    const std::vector<engine_site_info> sites = model.Sites();
    *out = std::make_unique<Store>(pool_, static_cast<uint32_t>(sites[site].block));
    return Status();
  }

 private:
  Shape ShapeOf(const engine_model_info& info) const {
    return {options.page_tokens, static_cast<uint32_t>(info.blocks), info.kv_heads, info.head_dim};
  }
  uint64_t budget_ = 0;
  std::optional<ops::Tensor> memory_;
  std::shared_ptr<Pool> pool_;
};

}  // namespace
}  // namespace engine::kv_cache

ENGINE_PLUGIN((engine::PluginInfo{.id = "engine.kv_cache",
                                  .version = "0.1.0",
                                  .summary = "Paged keys and values under a hard budget.",
                                  .license = "Apache-2.0",
                                  .schemas = engine::kv_cache::kSchema,
                                  .schemas_size = sizeof engine::kv_cache::kSchema}),
              engine::Nodes<>, engine::Transforms<engine::kv_cache::KvCache>)
