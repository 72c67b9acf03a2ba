// What training holds of a block, for whoever decides what is computed again. Counts what
// train_ops.cc keeps; measured against the allocator in tests/checkpoint_test.cc.
#include "engine/model/autograd.h"
#include "engine/model/extensions.h"
#include "engine/model/model.h"
#include "engine/util.hpp"

namespace engine::model {
namespace {

// Rank of the branch at a linear; 0: none.
double RankOf(const Model& model, uint32_t site) {
  const auto* low = Ask<engine_low_rank>(Through(model.impl(site)), ENGINE_EXT_LOW_RANK);
  return low == nullptr ? 0 : low->rank;
}

bool Known(const Model& model, uint32_t site) {
  return !model.base().plain_sites && OriginalBehind(model, site);
}

}  // namespace

Status SiteCost(const engine_forward& pass, uint32_t site, engine_site_cost* out) {
  const Model& model = *pass.model;
  const ModelConfig& c = model.config();
  const engine_site_kind kind = model.sites()[site].kind;
  const bool block = kind == ENGINE_SITE_BLOCK;
  const uint32_t mlp = block ? site + 9 : site;
  if ((!block && kind != ENGINE_SITE_MLP) || !Known(model, mlp) ||
      (block && (!Known(model, site) || !Known(model, site + 2)))) {
    return Error(ENGINE_UNIMPLEMENTED, "what training holds at site '", model.sites()[site].name,
                 "' is not known");
  }
  const auto wide = static_cast<double>(DtypeBytes(model.dtype()));
  const bool narrow = NarrowProducts();
  const double product = narrow ? 2 : wide;  // bytes of what enters and leaves products
  const auto hidden = static_cast<double>(c.hidden), width = static_cast<double>(c.mlp);
  double ranks = RankOf(model, mlp + 1) + RankOf(model, mlp + 2) + RankOf(model, mlp + 3);
  out->input_bytes = hidden * product;
  out->saved_bytes = (2 * width + ranks) * product;
  // The product with down is left out.
  out->replay_flops = 4 * hidden * width;
  if (!block) return Status();
  const auto q = static_cast<double>(c.heads * c.head_dim);
  const auto kv = static_cast<double>(c.kv_heads * c.head_dim);
  const auto heads = static_cast<double>(c.heads);
  ranks = 0;
  for (const uint32_t linear : {3u, 4u, 5u, 7u}) ranks += RankOf(model, site + linear);
  double attention = 2 * q + 2 * kv;
  // LibTorch's attention, in F64, keeps keys and values once a query head.
  if (model.dtype() == ENGINE_F64) attention = 4 * q;
  out->input_bytes = hidden * wide;
  out->saved_bytes += hidden * wide + 2 * hidden * product + (attention + ranks) * product +
                      heads * (narrow ? 4 : wide);
  const auto tokens = static_cast<double>(pass.tokens);
  out->replay_flops += 2 * hidden * (2 * q + 2 * kv) + 2 * tokens * q;
  return Status();
}

}  // namespace engine::model
