// The kv_cache transform: puts one pool behind the KvStore sites of all blocks.
#include "engine/plugin.hpp"

#include <cstring>
#include <optional>
#include <random>

#include "engine/torch_ops.h"
#include "engine/util.hpp"
#include "options.engine.hpp"
#include "pool.h"
#include "service.h"

namespace engine::kv_cache {
namespace {

static_assert(static_cast<int>(KvCacheOptions::Dtype::F32) == ENGINE_KV_F32 &&
              static_cast<int>(KvCacheOptions::Dtype::F16) == ENGINE_KV_F16 &&
              static_cast<int>(KvCacheOptions::Dtype::INT8) == ENGINE_KV_INT8);

// The memory of the pages and the pool in it.
struct Shared {
  std::optional<ops::Tensor> memory;
  std::optional<Service> service;  // gone before its memory is
};

// The store of one block.
class Store : public SiteImpl {
 public:
  Store(std::shared_ptr<Shared> shared, uint32_t block) : shared_(std::move(shared)) {
    const Pool& pool = shared_->service->pool();
    view_.struct_size = sizeof view_;
    view_.page_tokens = pool.geometry().page_tokens;
    view_.block = block;
    view_.format = pool.geometry().format;
    view_.base = pool.Piece(block, 0);
    view_.stride = pool.geometry().page_bytes;
    view_.pages = pool.pages();
  }
  Status Forward(engine_forward*, const AtenTensorHandle*, uint32_t, AtenTensorHandle*,
                 uint32_t) override {
    return Error(ENGINE_FAILED_PRECONDITION, "a KV store is not a function of tensors");
  }
  const void* Extension(std::string_view id) override {
    if (id == ENGINE_EXT_KV_VIEW) return &view_;
    return id == ENGINE_EXT_KV_POOL ? shared_->service->table() : nullptr;
  }

 private:
  const std::shared_ptr<Shared> shared_;
  engine_kv_view view_ = {};
};

struct KvCache : Transform {
  ENGINE_TRANSFORM(
      "kv_cache",
      "Keeps keys and values of past tokens, so that each step computes new tokens "
      "only; shares them between prompts that begin alike, and keeps sessions. Replaces the "
      "KvStore site of every block. Serving alone uses it: training runs over whole sequences.",
      ENGINE_PHASE_KV_STORAGE)
  ENGINE_OPTIONS(KvCacheOptions)

  Status Prepare() override {
    if (options.page_tokens % 16 != 0) {
      return Error(ENGINE_INVALID_ARGUMENT, "page_tokens is ", options.page_tokens,
                   "; it must be a multiple of 16");
    }
    ENGINE_RETURN_IF_ERROR(wire::ParseByteSize(options.session_budget, &session_budget_));
    return wire::ParseByteSize(options.budget, &budget_);
  }

  Status Plan(const Model& model, Diff& diff) override {
    Geometry geometry;
    uint32_t pages = 0;
    ENGINE_RETURN_IF_ERROR(GeometryOf(model.Info(), &geometry));
    ENGINE_RETURN_IF_ERROR(Pool::PagesWithin(geometry, budget_, &pages));
    const std::vector<engine_site_info> sites = model.Sites();
    const auto each = static_cast<int64_t>(pages * geometry.block_bytes);
    for (uint32_t i = 0; i < sites.size(); ++i) {
      if (sites[i].kind != ENGINE_SITE_KV_STORE) continue;
      ENGINE_RETURN_IF_ERROR(
          diff.Replace(i,
                       "pages of " + std::to_string(options.page_tokens) + " tokens, " +
                           FormatName(geometry.format) + ", room for " +
                           std::to_string(uint64_t{pages} * options.page_tokens) + " tokens",
                       0, each));
    }
    return Status();
  }

  Status Rewrite(const Model& model, uint32_t site, std::unique_ptr<SiteImpl>* out) override {
    if (shared_ == nullptr) ENGINE_RETURN_IF_ERROR(MakePool(model.Info()));
    const std::vector<engine_site_info> sites = model.Sites();
    const int32_t block = site < sites.size() ? sites[site].block : -1;
    if (block < 0 || static_cast<uint32_t>(block) >= shared_->service->pool().geometry().blocks) {
      return Error(ENGINE_INTERNAL, "site ", site, " is of block ", block, ", and the model has ",
                   shared_->service->pool().geometry().blocks, " blocks");
    }
    *out = std::make_unique<Store>(shared_, static_cast<uint32_t>(block));
    return Status();
  }

 private:
  Status GeometryOf(const engine_model_info& info, Geometry* geometry) const {
    geometry->format = static_cast<uint32_t>(options.dtype);
    geometry->page_tokens = options.page_tokens;
    geometry->blocks = static_cast<uint32_t>(info.blocks);
    geometry->kv_heads = info.kv_heads;
    geometry->head_dim = info.head_dim;
    return geometry->Complete();
  }

  Status MakePool(const engine_model_info& info) {
    if (info.dtype == ENGINE_F64) {
      return Error(ENGINE_UNIMPLEMENTED,
                   "keys and values are kept in F32, F16 or INT8; this model runs in F64");
    }
    auto shared = std::make_shared<Shared>();
    Config config;
    ENGINE_RETURN_IF_ERROR(GeometryOf(info, &config.geometry));
    config.budget = budget_;
    config.session_budget = session_budget_;
    config.session_timeout_ns = uint64_t{options.session_timeout} * 1'000'000'000u;
    config.prefix_sharing = options.prefix_sharing;
    config.fingerprint = info.fingerprint;
    config.vocab = info.vocab;
    config.now_ns = NowNs;
    std::random_device random;
    config.keys.k0 = (uint64_t{random()} << 32) | random();
    config.keys.k1 = (uint64_t{random()} << 32) | random();
    std::unique_ptr<Pool> pool;
    // The tensor's pages are the system's until a sequence touches them.
    ENGINE_RETURN_IF_ERROR(Pool::Make(
        std::move(config),
        [&](uint64_t bytes, char** memory) {
          shared->memory.emplace(ops::Empty({static_cast<int64_t>(bytes + 64)}, ENGINE_U8));
          const auto at = reinterpret_cast<uintptr_t>(ops::Data<char>(*shared->memory));
          *memory = reinterpret_cast<char*>((at + 63) / 64 * 64);
          return Status();
        },
        &pool));
    shared->service.emplace(std::move(pool), ThisHost().metrics);
    shared_ = std::move(shared);
    return Status();
  }

  uint64_t budget_ = 0, session_budget_ = 0;
  std::shared_ptr<Shared> shared_;
};

}  // namespace
}  // namespace engine::kv_cache

ENGINE_PLUGIN((engine::PluginInfo{
                  .id = "engine.kv_cache",
                  .version = "0.1.0",
                  .summary = "Paged keys and values, shared prefixes, sessions; a hard budget.",
                  .license = "Apache-2.0",
                  .schemas = engine::kv_cache::kSchema,
                  .schemas_size = sizeof engine::kv_cache::kSchema}),
              engine::Nodes<>, engine::Transforms<engine::kv_cache::KvCache>)
