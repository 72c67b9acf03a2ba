#include "engine/model/lower.h"

#include <algorithm>
#include <cstring>

#include "engine/kernels/parallel.h"
#include "engine/model/extensions.h"
#include "engine/torch_ops.h"

namespace engine::model {
namespace {

constexpr int64_t kOwnPageTokens = 16;

// A small matrix of a branch, packed in f32 whatever the model's dtype.
Status PackTensor(const Tensor& t, std::shared_ptr<kernels::PackedMatrix>* out) {
  const Tensor f32 = ops::Contiguous(ops::To(ops::Detach(t), ENGINE_F32));
  ENGINE_RETURN_IF_ERROR(
      kernels::PackedMatrix::Make(kernels::Format::kF32, f32.size(0), f32.size(1), out));
  for (int64_t r = 0; r < f32.size(0); r += kernels::kPanel) {
    (*out)->SetRows(r, std::min(kernels::kPanel, f32.size(0) - r),
                    ops::Data<float>(f32) + r * f32.size(1));
  }
  return Status();
}

void Reserve(std::vector<float>* v, int64_t size) {
  if (v->size() < static_cast<size_t>(size)) v->resize(static_cast<size_t>(size));
}

// Looks through implementations that compute the same function as what they replaced.
const engine_site_impl& Through(const engine_site_impl& impl) {
  const engine_site_impl* at = &impl;
  while (const auto* same = Ask<engine_same_function>(*at, ENGINE_EXT_SAME_FUNCTION)) {
    at = same->base;
  }
  return *at;
}

// True when the model's own implementation stands at the site, recomputation and the like aside.
bool OriginalBehind(const Model& model, uint32_t site) {
  const Impl* entry = &model.impl_entry(site);
  while (!entry->made_by.empty()) {
    const auto* same = Ask<engine_same_function>(entry->c, ENGINE_EXT_SAME_FUNCTION);
    if (same == nullptr || entry->replaced == nullptr) return false;
    entry = entry->replaced.get();
  }
  return true;
}

}  // namespace

Status Lowered::NormOf(Model* model, uint32_t site, std::vector<float>* weight) {
  if (!OriginalBehind(*model, site)) {
    return Error(ENGINE_UNIMPLEMENTED, "site '", model->sites()[site].name,
                 "' was replaced by something that serving cannot run");
  }
  const Param* param = model->FindParam(model->sites()[site].weight);
  weight->resize(static_cast<size_t>(param->columns()));
  ENGINE_RETURN_IF_ERROR(model->ReadRows(*param, 0, 1, weight->data()));
  if (dtype_ == ENGINE_BF16) {
    for (float& w : *weight) w = kernels::FromBf16(kernels::ToBf16(w));
  }
  return Status();
}

Status Lowered::ResolveLinear(Model* model, uint32_t site, const engine_site_impl& impl,
                              bool original, LinearPlan* plan) {
  const engine_site_impl& at = Through(impl);
  if (const auto* packed = Ask<engine_packed_linear>(at, ENGINE_EXT_PACKED_LINEAR)) {
    plan->matrix = packed->packed->matrix;
    return Status();
  }
  if (const auto* low = Ask<engine_low_rank>(at, ENGINE_EXT_LOW_RANK)) {
    const Impl* entry = &model->impl_entry(site);
    while (entry != nullptr && &entry->c != low->base) entry = entry->replaced.get();
    ENGINE_RETURN_IF_ERROR(
        ResolveLinear(model, site, *low->base, entry != nullptr && entry->made_by.empty(), plan));
    if (plan->matrix == nullptr) return Status();  // the whole site runs unfused
    Branch branch;
    branch.scale = static_cast<float>(low->scale);
    ENGINE_RETURN_IF_ERROR(PackTensor(ops::Borrow(low->a), &branch.a));
    ENGINE_RETURN_IF_ERROR(PackTensor(ops::Borrow(low->b), &branch.b));
    plan->branches.push_back(std::move(branch));
    return Status();
  }
  if (!original) return Status();  // unknown: unfused
  const Param* param = model->FindParam(model->sites()[site].weight);
  return model->base().Packed(*param, &plan->matrix);
}

Status Lowered::LinearOf(Model* model, uint32_t site, LinearPlan* plan) {
  plan->site = site;
  plan->out = model->sites()[site].out;
  return ResolveLinear(model, site, model->impl(site), OriginalBehind(*model, site), plan);
}

Status Lowered::Make(Model* model, std::shared_ptr<Lowered>* out) {
  auto lowered = std::make_shared<Lowered>();
  lowered->config_ = model->config();
  lowered->dtype_ = model->dtype();
  const ModelConfig& c = lowered->config_;
  // Kernels of attention go over a head's dimensions a whole vector at a time.
  if (c.head_dim % 16 != 0) {
    return Error(ENGINE_UNIMPLEMENTED, "heads of ", c.head_dim,
                 " cannot be served; their size must be a multiple of 16");
  }
  lowered->rope_ =
      kernels::RopeTable::Make(model->context(), c.head_dim, c.rope_theta, c.rope_divisors);
  if (model->dtype() != ENGINE_F32 && model->dtype() != ENGINE_BF16) {
    return Error(ENGINE_UNIMPLEMENTED, "serving runs in F32 or BF16; this model was loaded in ",
                 model->dtype() == ENGINE_F64 ? "F64" : "another dtype");
  }
  for (uint32_t site = 0; site < model->sites().size(); ++site) {
    const Site& s = model->sites()[site];
    switch (s.kind) {
      case ENGINE_SITE_EMBEDDING:
      case ENGINE_SITE_ATTENTION:
        if (!OriginalBehind(*model, site)) {
          return Error(ENGINE_UNIMPLEMENTED, "site '", s.name,
                       "' was replaced by something that serving cannot run");
        }
        break;
      case ENGINE_SITE_BLOCK: {
        if (!OriginalBehind(*model, site)) {
          return Error(ENGINE_UNIMPLEMENTED, "site '", s.name,
                       "' was replaced by something that serving cannot run");
        }
        BlockPlan block;
        ENGINE_RETURN_IF_ERROR(lowered->NormOf(model, site + 1, &block.norm1));
        ENGINE_RETURN_IF_ERROR(lowered->LinearOf(model, site + 3, &block.q));
        ENGINE_RETURN_IF_ERROR(lowered->LinearOf(model, site + 4, &block.k));
        ENGINE_RETURN_IF_ERROR(lowered->LinearOf(model, site + 5, &block.v));
        ENGINE_RETURN_IF_ERROR(lowered->LinearOf(model, site + 7, &block.o));
        ENGINE_RETURN_IF_ERROR(lowered->NormOf(model, site + 8, &block.norm2));
        block.mlp_site = site + 9;
        block.unfused_mlp = !OriginalBehind(*model, site + 9);
        if (!block.unfused_mlp) {
          ENGINE_RETURN_IF_ERROR(lowered->LinearOf(model, site + 10, &block.gate));
          ENGINE_RETURN_IF_ERROR(lowered->LinearOf(model, site + 11, &block.up));
          ENGINE_RETURN_IF_ERROR(lowered->LinearOf(model, site + 12, &block.down));
        }
        lowered->blocks_.push_back(std::move(block));
        break;
      }
      case ENGINE_SITE_KV_STORE:
        if (const auto* view = Ask<engine_kv_view>(model->impl(site), ENGINE_EXT_KV_VIEW)) {
          if (view->page_tokens == 0 || view->page_tokens % 16 != 0) {
            return Error(ENGINE_INVALID_ARGUMENT, "site '", s.name, "' keeps pages of ",
                         view->page_tokens, " tokens; kernels need a multiple of 16");
          }
          lowered->kv_.push_back(view);
        } else if (!model->IsOriginal(site)) {
          return Error(ENGINE_UNIMPLEMENTED, "site '", s.name, "' offers no ", ENGINE_EXT_KV_VIEW);
        }
        break;
      case ENGINE_SITE_NORM:
        if (s.block < 0)
          ENGINE_RETURN_IF_ERROR(lowered->NormOf(model, site, &lowered->final_norm_));
        break;
      case ENGINE_SITE_HEAD:
        ENGINE_RETURN_IF_ERROR(lowered->LinearOf(model, site, &lowered->head_));
        break;
      default:
        break;
    }
  }
  if (!lowered->kv_.empty() && lowered->kv_.size() != lowered->blocks_.size()) {
    return Error(ENGINE_FAILED_PRECONDITION, "a KV store stands at ", lowered->kv_.size(), " of ",
                 lowered->blocks_.size(), " blocks; all or none must keep keys and values");
  }
  lowered->embedding_param_ = model->FindParam("model.embed_tokens.weight");
  // A tied head that is packed dense holds the rows already.
  if (c.tied_embedding && lowered->head_.matrix != nullptr &&
      lowered->head_.matrix->format() != kernels::Format::kS8) {
    lowered->embedding_ = lowered->head_.matrix;
  }
  *out = std::move(lowered);
  return Status();
}

Status Lowered::Check(const engine_step& step) const {
  if (step.count == 0) return Error(ENGINE_INVALID_ARGUMENT, "a step without sequences");
  const int64_t context = static_cast<int64_t>(rope_.cos.size()) / rope_.half;
  for (uint32_t i = 0; i < step.count; ++i) {
    const engine_step_sequence& s = step.sequences[i];
    const int64_t end = static_cast<int64_t>(s.start) + s.token_count;
    if (s.token_count == 0 || end > context) {
      return Error(ENGINE_OUT_OF_RANGE, "sequence ", s.request, " would reach ", end,
                   " tokens; the context is ", context);
    }
    for (uint32_t t = 0; t < s.token_count; ++t) {
      if (s.tokens[t] < 0 || s.tokens[t] >= config_.vocab) {
        return Error(ENGINE_OUT_OF_RANGE, "token ", s.tokens[t], " of sequence ", s.request,
                     " is outside the vocabulary of ", config_.vocab);
      }
    }
    if (kv_.empty()) {
      if (s.start != 0 || s.block_count != 0) {
        return Error(ENGINE_FAILED_PRECONDITION, "sequence ", s.request, " begins at ", s.start,
                     ", but this model keeps no keys and values");
      }
    } else if (static_cast<int64_t>(s.block_count) * kv_[0]->page_tokens < end) {
      return Error(ENGINE_FAILED_PRECONDITION, "sequence ", s.request, " holds ", s.block_count,
                   " pages of ", kv_[0]->page_tokens, " tokens; ", end, " tokens need more");
    }
  }
  return Status();
}

Status Lowered::Embed(Model* model, int32_t token, float* to) const {
  if (embedding_ != nullptr) {
    embedding_->GetRow(token, to);
    return Status();
  }
  ENGINE_RETURN_IF_ERROR(model->ReadRows(*embedding_param_, token, token + 1, to));
  if (dtype_ == ENGINE_BF16) {
    for (int64_t i = 0; i < config_.hidden; ++i) to[i] = kernels::FromBf16(kernels::ToBf16(to[i]));
  }
  return Status();
}

Status Lowered::RunUnfused(Model* model, uint32_t site, const float* x, int64_t rows, int64_t in,
                           int64_t out, float* y, bool add) {
  engine_forward pass;
  pass.model = model->shared_from_this();
  pass.batch = 1;
  pass.tokens = rows;
  const Tensor input = ops::Empty({1, rows, in}, ENGINE_F32);
  std::memcpy(ops::Data<float>(input), x, static_cast<size_t>(rows * in) * 4);
  std::optional<Tensor> result;
  ENGINE_RETURN_IF_ERROR(model->RunSite(&pass, site, {ops::To(input, dtype_)}, &result));
  const Tensor f32 = ops::Contiguous(ops::To(ops::Detach(*result), ENGINE_F32));
  const float* from = ops::Data<float>(f32);
  for (int64_t i = 0; i < rows * out; ++i) y[i] = add ? y[i] + from[i] : from[i];
  return Status();
}

Status Lowered::Run(Model* model, const float* x, int64_t rows,
                    std::initializer_list<const LinearPlan*> linears,
                    std::initializer_list<float*> outputs, bool add) {
  std::array<kernels::Product, 4> products;
  size_t count = 0;
  int64_t in = 0;
  size_t i = 0;
  for (const LinearPlan* linear : linears) {
    float* y = outputs.begin()[i++];
    in = model->sites()[linear->site].in;
    if (linear->matrix == nullptr) {
      ENGINE_RETURN_IF_ERROR(RunUnfused(model, linear->site, x, rows, in, linear->out, y, add));
    } else {
      products[count++] = {linear->matrix.get(), y, linear->out, add, 1.0f};
    }
  }
  kernels::Multiply(x, in, rows, {products.data(), count}, &scratch_);
  i = 0;
  for (const LinearPlan* linear : linears) {
    float* y = outputs.begin()[i++];
    for (const Branch& branch : linear->branches) {
      Reserve(&low_, rows * branch.a->out());
      const kernels::Product down{branch.a.get(), low_.data(), branch.a->out(), false, 1.0f};
      kernels::Multiply(x, in, rows, {&down, 1}, &scratch_);
      const kernels::Product up{branch.b.get(), y, linear->out, true, branch.scale};
      kernels::Multiply(low_.data(), branch.a->out(), rows, {&up, 1}, &scratch_);
    }
  }
  return Status();
}

Status Lowered::RunBlock(Model* model, size_t index, std::vector<Piece>* pieces, int64_t rows) {
  const ModelConfig& c = config_;
  const BlockPlan& block = blocks_[index];
  const auto eps = static_cast<float>(c.norm_eps);
  const int64_t q_width = c.heads * c.head_dim, kv_width = c.kv_heads * c.head_dim;
  kernels::RmsNorm(x_.data(), rows, c.hidden, block.norm1.data(), eps, n_.data());
  ENGINE_RETURN_IF_ERROR(Run(model, n_.data(), rows, {&block.q, &block.k, &block.v},
                             {q_.data(), k_.data(), v_.data()}, false));
  std::vector<kernels::AttentionJob> jobs;
  for (Piece& piece : *pieces) {
    const engine_step_sequence& s = *piece.sequence;
    const int64_t page_tokens = kv_.empty() ? kOwnPageTokens : kv_[index]->page_tokens;
    if (!kv_.empty()) {
      for (size_t p = 0; p < piece.pages.size(); ++p) {
        piece.pages[p] = kv_[index]->page(kv_[index]->self, s.blocks[p]);
        if (piece.pages[p] == nullptr) {
          return Error(ENGINE_OUT_OF_RANGE, "sequence ", s.request, " names page ", s.blocks[p],
                       ", which the pool does not have");
        }
      }
    }
    kernels::AttentionJob job;
    job.kv = {page_tokens, c.kv_heads, c.head_dim, piece.pages};
    job.q = q_.data() + piece.row * q_width;
    job.out = a_.data() + piece.row * q_width;
    job.ldq = job.ldo = q_width;
    job.tokens = s.token_count;
    job.start = s.start;
    job.heads = c.heads;
    kernels::ParallelFor(job.tokens, 16, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t position = job.start + t, row = piece.row + t;
        kernels::Rope(q_.data() + row * q_width, c.heads, c.head_dim, position, rope_);
        kernels::Rope(k_.data() + row * kv_width, c.kv_heads, c.head_dim, position, rope_);
        kernels::KvWrite(job.kv, position, k_.data() + row * kv_width, v_.data() + row * kv_width);
      }
    });
    jobs.push_back(job);
  }
  kernels::Attention(jobs, &scores_);
  ENGINE_RETURN_IF_ERROR(Run(model, a_.data(), rows, {&block.o}, {x_.data()}, true));
  kernels::RmsNorm(x_.data(), rows, c.hidden, block.norm2.data(), eps, n_.data());
  if (block.unfused_mlp) {
    return RunUnfused(model, block.mlp_site, n_.data(), rows, c.hidden, c.hidden, x_.data(), true);
  }
  ENGINE_RETURN_IF_ERROR(
      Run(model, n_.data(), rows, {&block.gate, &block.up}, {gate_.data(), up_.data()}, false));
  kernels::SiluMultiply(gate_.data(), up_.data(), rows * c.mlp);
  return Run(model, gate_.data(), rows, {&block.down}, {x_.data()}, true);
}

Status Lowered::Step(Model* model, const engine_step& step, float* logits) {
  ENGINE_RETURN_IF_ERROR(Check(step));
  const ModelConfig& c = config_;
  std::vector<Piece> pieces;
  int64_t rows = 0, own_pages = 0;
  for (uint32_t i = 0; i < step.count; ++i) {
    const engine_step_sequence& s = step.sequences[i];
    Piece piece{&s, rows, {}};
    const int64_t page_tokens = kv_.empty() ? kOwnPageTokens : kv_[0]->page_tokens;
    const int64_t count = (s.start + s.token_count + page_tokens - 1) / page_tokens;
    piece.pages.resize(static_cast<size_t>(count));
    own_pages += count;
    rows += s.token_count;
    pieces.push_back(std::move(piece));
  }
  if (kv_.empty()) {
    // Keys and values of one block at a time: the next block overwrites them.
    const int64_t page_floats = 2 * c.kv_heads * c.head_dim * kOwnPageTokens;
    if (own_pages_.bytes() < static_cast<uint64_t>(own_pages * page_floats) * 4) {
      ENGINE_RETURN_IF_ERROR(
          kernels::Pages::Make(static_cast<uint64_t>(own_pages * page_floats) * 4, &own_pages_));
    }
    float* at = static_cast<float*>(own_pages_.data());
    for (Piece& piece : pieces) {
      for (float*& page : piece.pages) {
        page = at;
        at += page_floats;
      }
    }
  }
  for (auto* buffer : {&x_, &n_}) Reserve(buffer, rows * c.hidden);
  for (auto* buffer : {&q_, &a_}) Reserve(buffer, rows * c.heads * c.head_dim);
  for (auto* buffer : {&k_, &v_}) Reserve(buffer, rows * c.kv_heads * c.head_dim);
  for (auto* buffer : {&gate_, &up_}) Reserve(buffer, rows * c.mlp);
  for (const Piece& piece : pieces) {
    for (uint32_t t = 0; t < piece.sequence->token_count; ++t) {
      ENGINE_RETURN_IF_ERROR(
          Embed(model, piece.sequence->tokens[t], x_.data() + (piece.row + t) * c.hidden));
    }
  }
  for (size_t block = 0; block < blocks_.size(); ++block) {
    ENGINE_RETURN_IF_ERROR(RunBlock(model, block, &pieces, rows));
  }
  // Only the last row of each sequence needs logits.
  const auto sequences = static_cast<int64_t>(pieces.size());
  Reserve(&last_, sequences * c.hidden);
  for (int64_t i = 0; i < sequences; ++i) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    std::memcpy(last_.data() + i * c.hidden,
                x_.data() + (piece.row + piece.sequence->token_count - 1) * c.hidden,
                static_cast<size_t>(c.hidden) * 4);
  }
  kernels::RmsNorm(last_.data(), sequences, c.hidden, final_norm_.data(),
                   static_cast<float>(c.norm_eps), n_.data());
  return Run(model, n_.data(), sequences, {&head_}, {logits}, false);
}

Status Model::Step(const engine_step& step, float* logits) {
  std::shared_ptr<Lowered> lowered;
  {
    std::lock_guard lock(lowered_mutex_);
    if (lowered_ == nullptr) ENGINE_RETURN_IF_ERROR(Lowered::Make(this, &lowered_));
    lowered = lowered_;
  }
  return lowered->Step(this, step, logits);
}

}  // namespace engine::model
