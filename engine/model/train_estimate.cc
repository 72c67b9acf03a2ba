// What training holds and computes, for whoever decides what is computed again and for whoever
// wants to know before a run. Counts what train_ops.cc keeps; the trainer tells beside it what it
// was.
#include <algorithm>

#include "engine/kernels/gemm.h"
#include "engine/kernels/parallel.h"
#include "engine/model/autograd.h"
#include "engine/model/extensions.h"
#include "engine/model/model.h"
#include "engine/torch_ops.h"
#include "engine/util.hpp"

namespace engine::model {
namespace {

// Ranks of the branches at a linear together.
double RankOf(const Model& model, uint32_t site) {
  std::vector<const engine_low_rank*> branches;
  Peel(model.impl(site), &branches);
  double rank = 0;
  for (const engine_low_rank* low : branches) rank += low->rank;
  return rank;
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

namespace {

// Whether what stands at the site keeps only its input.
Status Recomputes(const engine_forward& pass, uint32_t site, bool* yes) {
  *yes = false;
  const engine_site_impl* at = &pass.model->impl(site);
  for (;;) {
    if (const auto* r = Ask<engine_recomputed>(*at, ENGINE_EXT_RECOMPUTED)) {
      uint8_t is = 0;
      ENGINE_RETURN_IF_ERROR(Status(r->in_pass(at->self, &pass, &is)));
      *yes = *yes || is != 0;
    }
    const auto* same = Ask<engine_same_function>(*at, ENGINE_EXT_SAME_FUNCTION);
    if (same == nullptr) return Status();
    at = same->base;
  }
}

// Products of rows x in x out in bf16 or f32, as fast as they run here.
double FlopsPerSecond(bool narrow, int64_t in, int64_t out) {
  const int64_t rows = 512;
  const uint32_t dtype = narrow ? ENGINE_BF16 : ENGINE_F32;
  const Tensor x = ops::Full({rows, in}, 0.5, dtype), w = ops::Full({out, in}, 0.5, dtype);
  const Tensor y = ops::Empty({rows, out}, ENGINE_F32);
  const kernels::GemmTerm term = {ops::Data<float>(x), in, in, ops::Data<float>(w), in};
  double best = 1e9;
  for (int i = 0; i < 4; ++i) {  // the first one warms up
    const uint64_t begin = NowNs();
    if (narrow) {
      ops::Linear(x, w);
    } else {
      kernels::Gemm({&term, 1}, rows, out, ops::Data<float>(y), out);
    }
    if (i > 0) best = std::min(best, static_cast<double>(NowNs() - begin) * 1e-9);
  }
  return 2 * static_cast<double>(rows * in * out) / best;
}

}  // namespace

Status Model::Estimate(int64_t batch, int64_t tokens, engine_train_estimate* out) {
  const uint32_t loss_site = static_cast<uint32_t>(sites_.size()) - 1;
  const bool narrow = Ask<engine_autocast>(impl(loss_site), ENGINE_EXT_AUTOCAST) != nullptr;
  const NarrowGuard guard(narrow);
  engine_forward pass;
  pass.model = shared_from_this();
  pass.batch = batch;
  pass.tokens = tokens;
  const auto rows = static_cast<double>(batch * tokens);
  const auto wide = static_cast<double>(DtypeBytes(dtype()));
  const double product = narrow ? 2 : wide;
  const ModelConfig& c = config();
  double kept = 0, weights = 0, flops = 0, most_inside = 0, looked_up = 0;
  // Forward and backward by a weight that is frozen, and by one that trains.
  const auto passes = [](bool trains) { return trains ? 3.0 : 2.0; };
  for (uint32_t site = 0; site < sites_.size(); ++site) {
    const Site& s = sites_[site];
    if (!s.weight.empty()) {
      const Param& param = *FindParam(s.weight);
      const bool linear = s.kind == ENGINE_SITE_LINEAR || s.kind == ENGINE_SITE_HEAD;
      const double count = static_cast<double>(param.rows()) * static_cast<double>(param.columns());
      if (linear) {
        flops += passes(param.trainable) * 2 * count * rows;
        const double rank = RankOf(*this, site);
        flops += 6 * rank * static_cast<double>(s.in + s.out) * rows;
      }
      const bool thin = linear && narrow;
      const bool held = param.tensor || param.packed != nullptr;
      // An embedding that is packed, as the head that it is tied to, is unpacked to look ids up.
      if (!linear && param.packed != nullptr) looked_up = count * wide;
      const bool again = s.kind == ENGINE_SITE_HEAD && c.tied_embedding && !thin;
      if (!held && !again && !base_->HasDense(param, thin)) weights += count * (thin ? 2 : wide);
    }
    // Its gradient comes whole from the embedding, and again from the head where it is tied.
    if (s.kind == ENGINE_SITE_EMBEDDING && FindParam(s.weight)->trainable) {
      kept += static_cast<double>(c.vocab * c.hidden) * wide / rows;
    }
    if (s.kind != ENGINE_SITE_BLOCK) continue;
    auto block = Sized<engine_site_cost>(), mlp = Sized<engine_site_cost>();
    ENGINE_RETURN_IF_ERROR(SiteCost(pass, site, &block));
    ENGINE_RETURN_IF_ERROR(SiteCost(pass, site + 9, &mlp));
    // Scores and values of causal attention, forward once and backward two and a half times.
    flops += 3.5 * 2 * static_cast<double>(tokens * c.heads * c.head_dim) * rows;
    bool whole = false, part = false;
    ENGINE_RETURN_IF_ERROR(Recomputes(pass, site, &whole));
    ENGINE_RETURN_IF_ERROR(Recomputes(pass, site + 9, &part));
    kept += block.input_bytes;
    if (whole) {
      flops += block.replay_flops * rows;
      most_inside = std::max(most_inside, block.saved_bytes);
      continue;
    }
    kept += block.saved_bytes - (part ? mlp.saved_bytes : 0);
    bool attention = false;
    ENGINE_RETURN_IF_ERROR(Recomputes(pass, site + 2, &attention));
    if (attention) {
      const auto row = static_cast<double>(c.hidden);
      kept -= block.saved_bytes - mlp.saved_bytes - row * wide - 2 * row * product;
    }
    if (part) {
      flops += mlp.replay_flops * rows;
      most_inside = std::max(most_inside, mlp.saved_bytes);
    }
  }
  const auto hidden = static_cast<double>(c.hidden), width = static_cast<double>(c.mlp);
  // Going back through an MLP: three of its inner width, and what enters and leaves the block.
  const double backward = rows * (3 * width * product + 3 * hidden * wide) + rows * most_inside;
  const auto chunk = static_cast<double>(std::min<int64_t>(LossChunk(c.vocab), batch * tokens));
  // In bf16 their gradient is narrowed beside them.
  const double logits = chunk * static_cast<double>(c.vocab) * (4 + (narrow ? 2 : 0));
  const double loss = logits + rows * 3 * hidden * wide;
  out->weight_bytes = static_cast<uint64_t>(weights);
  out->kept_bytes = static_cast<uint64_t>(rows * kept);
  // What is looked up is there before anything else is kept.
  out->working_bytes = static_cast<uint64_t>(std::max({loss, backward, looked_up - rows * kept}));
  out->flops = flops;
  out->flops_per_second = FlopsPerSecond(narrow, c.hidden, c.mlp);
  return Status();
}

}  // namespace engine::model
