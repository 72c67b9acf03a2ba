#include "engine/model/lower.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "engine/kernels/int_kernels.h"
#include "engine/kernels/parallel.h"
#include "engine/model/extensions.h"
#include "engine/torch_ops.h"
#include "engine/util.hpp"

namespace engine::model {
namespace {

constexpr int64_t kOwnPageTokens = 16;

using kernels::Reserve;

// Adds the time of its life to a sum.
class Timed {
 public:
  explicit Timed(uint64_t* sum) : sum_(sum), begin_(NowNs()) {}
  ~Timed() { *sum_ += NowNs() - begin_; }

 private:
  uint64_t* const sum_;
  const uint64_t begin_;
};

Status FormatOf(uint32_t format, const std::string& site, kernels::KvFormat* out) {
  switch (format) {
    case ENGINE_KV_F32:
      *out = kernels::KvFormat::kF32;
      return Status();
    case ENGINE_KV_F16:
      *out = kernels::KvFormat::kF16;
      return Status();
    case ENGINE_KV_INT8:
      *out = kernels::KvFormat::kInt8;
      return Status();
    default:
      return Error(ENGINE_UNIMPLEMENTED, "site '", site, "' keeps keys and values in format ",
                   format, ", which no kernel reads");
  }
}

// The view as kernels take it, checked against the model's geometry.
Status ViewOf(const engine_kv_view& view, const ModelConfig& c, const std::string& site,
              kernels::PagedKv* out) {
  if (view.page_tokens == 0 || view.page_tokens % 16 != 0) {
    return Error(ENGINE_INVALID_ARGUMENT, "site '", site, "' keeps pages of ", view.page_tokens,
                 " tokens; kernels need a multiple of 16");
  }
  ENGINE_RETURN_IF_ERROR(FormatOf(view.format, site, &out->format));
  const int64_t bytes =
      kernels::PagedKv::PageBytes(out->format, view.page_tokens, c.kv_heads, c.head_dim);
  if (view.base == nullptr || view.stride < static_cast<uint64_t>(bytes) ||
      reinterpret_cast<uintptr_t>(view.base) % 64 != 0 || view.stride % 64 != 0) {
    return Error(ENGINE_INVALID_ARGUMENT, "site '", site, "' has pages ", view.stride,
                 " bytes apart; a page of this model takes ", bytes,
                 ", and each must begin at a multiple of 64");
  }
  out->base = static_cast<char*>(view.base);
  out->stride = static_cast<int64_t>(view.stride);
  out->page_tokens = view.page_tokens;
  out->kv_heads = c.kv_heads;
  out->head_dim = c.head_dim;
  return Status();
}

// Where choices of kernels are kept from one start to the next; empty: nowhere.
std::string ChoicesFile() {
  std::string folder;
  if (const char* given = std::getenv("ENGINE_CACHE")) {
    folder = given;
  } else if (const char* cache = std::getenv("XDG_CACHE_HOME")) {
    folder = std::string(cache) + "/engine";
  } else if (const char* home = std::getenv("HOME")) {
    folder = std::string(home) + "/.cache/engine";
  }
  if (folder.empty()) return "";
  return folder.append("/").append(kernels::IntKernelFileName());
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
    ENGINE_RETURN_IF_ERROR(MakeBranch(model, site, *low, &branch));
    plan->branches.push_back(std::move(branch));
    return Status();
  }
  if (!original) return Status();  // unknown: unfused
  const Param* param = model->FindParam(model->sites()[site].weight);
  if (!param->tensor) return model->base().Packed(*param, &plan->matrix);
  return PackTensor(*param->tensor,
                    dtype_ == ENGINE_BF16 ? kernels::Format::kBf16 : kernels::Format::kF32,
                    &plan->matrix);
}

Status Lowered::LinearOf(Model* model, uint32_t site, LinearPlan* plan) {
  plan->site = site;
  plan->out = model->sites()[site].out;
  ENGINE_RETURN_IF_ERROR(
      ResolveLinear(model, site, model->impl(site), OriginalBehind(*model, site), plan));
  return plan->matrix != nullptr ? Status() : NoneNamed(*model, site, site);
}

Status Lowered::Make(Model* model, std::shared_ptr<Lowered>* out) {
  auto lowered = std::make_shared<Lowered>();
  lowered->config_ = model->config();
  lowered->dtype_ = model->dtype();
  lowered->adapters_ = static_cast<uint32_t>(model->adapters().size());
  const ModelConfig& c = lowered->config_;
  // Kernels of attention go over a head's dimensions a whole vector at a time.
  if (c.head_dim % 16 != 0 || c.head_dim > kernels::kMostHeadDim) {
    return Error(ENGINE_UNIMPLEMENTED, "heads of ", c.head_dim,
                 " cannot be served; their size must be a multiple of 16 and at most ",
                 kernels::kMostHeadDim);
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
        } else {
          for (uint32_t linear = site + 10; linear <= site + 12; ++linear) {
            ENGINE_RETURN_IF_ERROR(NoneNamed(*model, linear, site + 9));
          }
        }
        lowered->blocks_.push_back(std::move(block));
        break;
      }
      case ENGINE_SITE_KV_STORE:
        if (const auto* view = Ask<engine_kv_view>(model->impl(site), ENGINE_EXT_KV_VIEW)) {
          kernels::PagedKv kv;
          ENGINE_RETURN_IF_ERROR(ViewOf(*view, c, s.name, &kv));
          lowered->kv_.push_back(kv);
          lowered->kv_pages_ = view->pages;
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
  // A tied head that is packed holds the rows already.
  if (c.tied_embedding && lowered->head_.matrix != nullptr) {
    lowered->embedding_ = lowered->head_.matrix;
  } else if (!lowered->embedding_param_->tensor &&
             model->base().ComputesStored(*lowered->embedding_param_)) {
    ENGINE_RETURN_IF_ERROR(model->base().Packed(*lowered->embedding_param_, &lowered->embedding_));
  }
  std::vector<kernels::IntScheme> schemes;
  const auto add = [&](const std::shared_ptr<kernels::PackedMatrix>& m) {
    if (m == nullptr || m->format() != kernels::Format::kInt) return;
    if (std::find(schemes.begin(), schemes.end(), m->scheme()) == schemes.end()) {
      schemes.push_back(m->scheme());
    }
  };
  for (const BlockPlan& b : lowered->blocks_) {
    for (const LinearPlan* linear : {&b.q, &b.k, &b.v, &b.o, &b.gate, &b.up, &b.down}) {
      add(linear->matrix);
    }
  }
  add(lowered->head_.matrix);
  kernels::ChooseIntKernels(schemes, ChoicesFile());
  *out = std::move(lowered);
  return Status();
}

Status Lowered::Check(const engine_step& step) const {
  if (step.count == 0) return Error(ENGINE_INVALID_ARGUMENT, "a step without sequences");
  ENGINE_RETURN_IF_ERROR(CheckComplete(step.sequences, "the step's first sequence"));
  const int64_t context = static_cast<int64_t>(rope_.cos.size()) / rope_.half;
  for (uint32_t i = 0; i < step.count; ++i) {
    const engine_step_sequence& s = At(step.sequences, i);
    const int64_t end = static_cast<int64_t>(s.start) + s.token_count;
    if (s.logits_count > s.token_count) {
      return Error(ENGINE_INVALID_ARGUMENT, "sequence ", s.request, " wants logits of ",
                   s.logits_count, " tokens and gives ", s.token_count);
    }
    if (s.token_count == 0 || end > context) {
      return Error(ENGINE_OUT_OF_RANGE, "sequence ", s.request, " would reach ", end,
                   " tokens; the context is ", context);
    }
    if (s.adapter > adapters_) {
      return Error(ENGINE_OUT_OF_RANGE, "sequence ", s.request, " chose adapter ", s.adapter,
                   "; the model has ", adapters_, " named ones, and 0 is none of them");
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
      continue;
    }
    if (static_cast<int64_t>(s.block_count) * kv_[0].page_tokens < end) {
      return Error(ENGINE_FAILED_PRECONDITION, "sequence ", s.request, " holds ", s.block_count,
                   " pages of ", kv_[0].page_tokens, " tokens; ", end, " tokens need more");
    }
    for (uint32_t b = 0; b < s.block_count; ++b) {
      if (s.blocks[b] < 0 || static_cast<uint32_t>(s.blocks[b]) >= kv_pages_) {
        return Error(ENGINE_OUT_OF_RANGE, "sequence ", s.request, " names page ", s.blocks[b],
                     "; the pool has ", kv_pages_);
      }
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

bool Lowered::Fused(std::initializer_list<const LinearPlan*> linears) {
  return std::all_of(linears.begin(), linears.end(), [](const LinearPlan* linear) {
    return linear->matrix != nullptr && linear->branches.empty();
  });
}

void Lowered::Note(const kernels::Rows& rows, int64_t in,
                   std::initializer_list<const LinearPlan*> linears) {
  const float* x = rows.norm != nullptr ? rows.normed : rows.x;
  const int64_t ldx = rows.norm != nullptr ? in : rows.ldx;
  for (const LinearPlan* linear : linears) {
    std::vector<float>& peaks = (*peaks_)[linear->site];
    peaks.resize(static_cast<size_t>(in));
    for (int64_t r = 0; r < rows.rows; ++r) {
      for (int64_t k = 0; k < in; ++k) {
        peaks[static_cast<size_t>(k)] =
            std::max(peaks[static_cast<size_t>(k)], std::fabs(x[r * ldx + k]));
      }
    }
  }
}

Status Lowered::Run(Model* model, const kernels::Rows& rows,
                    std::initializer_list<const LinearPlan*> linears,
                    std::initializer_list<float*> outputs, bool add, bool silu_pair) {
  std::array<kernels::Product, 4> products;
  size_t count = 0;
  const int64_t in = model->sites()[(*linears.begin())->site].in;
  size_t i = 0;
  for (const LinearPlan* linear : linears) {
    float* y = outputs.begin()[i++];
    if (linear->matrix == nullptr) continue;
    // At most one linear of a call adds to what is there.
    const bool apart = add && ScalesAny(*linear);
    if (apart) Reserve(&sum_, rows.rows * linear->out);
    products[count++] = {linear->matrix.get(), apart ? sum_.data() : y, linear->out, add && !apart};
  }
  // What stands unfused or beside the product needs the normalized rows themselves.
  if (rows.norm != nullptr && count == 0) {
    kernels::RmsNorm(rows.x, rows.rows, in, rows.norm, rows.eps, rows.normed);
  }
  {
    Timed timed(&kernel_ns_);
    kernels::Multiply(rows, {products.data(), count}, &scratch_, silu_pair);
  }
  if (peaks_ != nullptr) Note(rows, in, linears);
  const float* x = rows.norm != nullptr ? rows.normed : rows.x;
  i = 0;
  for (const LinearPlan* linear : linears) {
    float* y = outputs.begin()[i++];
    if (linear->matrix == nullptr) {
      ENGINE_RETURN_IF_ERROR(
          RunUnfused(model, linear->site, x, rows.rows, in, linear->out, y, add));
    }
    Timed timed(&kernel_ns_);
    if (add && ScalesAny(*linear)) {
      AddApart(*linear, x, in, y);
    } else {
      AddBranches(*linear, x, in, y);
    }
  }
  return Status();
}

Status Lowered::RunBlock(Model* model, size_t index, int64_t rows) {
  const ModelConfig& c = config_;
  const BlockPlan& block = blocks_[index];
  const auto eps = static_cast<float>(c.norm_eps);
  const int64_t q_width = c.heads * c.head_dim;
  const kernels::Rows first{x_.data(), c.hidden, rows, block.norm1.data(), eps, n_.data()};
  ENGINE_RETURN_IF_ERROR(
      Run(model, first, {&block.q, &block.k, &block.v}, {q_.data(), k_.data(), v_.data()}, false));
  {
    Timed timed(&kernel_ns_);
    kernels::PagedKv own;
    if (kv_.empty()) {
      own = {kernels::KvFormat::kF32,
             static_cast<char*>(own_pages_.data()),
             kernels::PagedKv::PageBytes(kernels::KvFormat::kF32, kOwnPageTokens, c.kv_heads,
                                         c.head_dim),
             kOwnPageTokens,
             c.kv_heads,
             c.head_dim};
    }
    kernels::Attention(kv_.empty() ? own : kv_[index], c.heads, jobs_, rope_, &attention_);
  }
  const kernels::Rows attended{a_.data(), q_width, rows};
  ENGINE_RETURN_IF_ERROR(Run(model, attended, {&block.o}, {x_.data()}, true));
  const kernels::Rows second{x_.data(), c.hidden, rows, block.norm2.data(), eps, n_.data()};
  if (block.unfused_mlp) {
    kernels::RmsNorm(x_.data(), rows, c.hidden, block.norm2.data(), eps, n_.data());
    return RunUnfused(model, block.mlp_site, n_.data(), rows, c.hidden, c.hidden, x_.data(), true);
  }
  const bool pair = Fused({&block.gate, &block.up});
  ENGINE_RETURN_IF_ERROR(
      Run(model, second, {&block.gate, &block.up}, {gate_.data(), up_.data()}, false, pair));
  if (!pair) kernels::SiluMultiply(gate_.data(), up_.data(), rows * c.mlp);
  const kernels::Rows gated{gate_.data(), c.mlp, rows};
  return Run(model, gated, {&block.down}, {x_.data()}, true);
}

// Sets jobs_ and spans_, makes room in the buffers, and counts rows and wanted logits.
Status Lowered::Layout(const engine_step& step, int64_t* rows, int64_t* wanted) {
  const ModelConfig& c = config_;
  *rows = *wanted = 0;
  spans_.clear();
  int64_t own_pages = 0;
  for (uint32_t i = 0; i < step.count; ++i) {
    const engine_step_sequence& s = At(step.sequences, i);
    if (spans_.empty() || spans_.back().adapter != s.adapter) {
      spans_.push_back({s.adapter, *rows, *rows});
    }
    *rows += s.token_count;
    *wanted += s.logits_count;
    spans_.back().end = *rows;
    own_pages += (s.token_count + kOwnPageTokens - 1) / kOwnPageTokens;
  }
  if (kv_.empty()) {
    // Keys and values of one block at a time: the next block overwrites them.
    const auto bytes = static_cast<uint64_t>(
        own_pages * kernels::PagedKv::PageBytes(kernels::KvFormat::kF32, kOwnPageTokens, c.kv_heads,
                                                c.head_dim));
    if (own_pages_.bytes() < bytes) {
      ENGINE_RETURN_IF_ERROR(kernels::Pages::Make(bytes, &own_pages_));
    }
    while (own_blocks_.size() < static_cast<size_t>(own_pages)) {
      own_blocks_.push_back(static_cast<int32_t>(own_blocks_.size()));
    }
  }
  for (auto* buffer : {&x_, &n_}) Reserve(buffer, *rows * c.hidden);
  for (auto* buffer : {&q_, &a_}) Reserve(buffer, *rows * c.heads * c.head_dim);
  for (auto* buffer : {&k_, &v_}) Reserve(buffer, *rows * c.kv_heads * c.head_dim);
  for (auto* buffer : {&gate_, &up_}) Reserve(buffer, *rows * c.mlp);
  Reserve(&last_, *wanted * c.hidden);
  jobs_.clear();
  int64_t row = 0, own = 0;
  for (uint32_t i = 0; i < step.count; ++i) {
    const engine_step_sequence& s = At(step.sequences, i);
    kernels::AttentionJob job;
    job.blocks = kv_.empty() ? own_blocks_.data() + own : s.blocks;
    job.q = q_.data() + row * c.heads * c.head_dim;
    job.k = k_.data() + row * c.kv_heads * c.head_dim;
    job.v = v_.data() + row * c.kv_heads * c.head_dim;
    job.out = a_.data() + row * c.heads * c.head_dim;
    job.tokens = s.token_count;
    job.start = s.start;
    jobs_.push_back(job);
    row += s.token_count;
    own += (s.token_count + kOwnPageTokens - 1) / kOwnPageTokens;
  }
  return Status();
}

Status Lowered::Step(Model* model, const engine_step& step, float* logits, uint64_t* kernel_ns) {
  ENGINE_RETURN_IF_ERROR(Check(step));
  const ModelConfig& c = config_;
  kernel_ns_ = 0;
  int64_t rows = 0, wanted = 0;
  ENGINE_RETURN_IF_ERROR(Layout(step, &rows, &wanted));
  int64_t row = 0;
  for (uint32_t i = 0; i < step.count; ++i) {
    const engine_step_sequence& s = At(step.sequences, i);
    for (uint32_t t = 0; t < s.token_count; ++t) {
      ENGINE_RETURN_IF_ERROR(Embed(model, s.tokens[t], x_.data() + row++ * c.hidden));
    }
  }
  for (size_t block = 0; block < blocks_.size(); ++block) {
    ENGINE_RETURN_IF_ERROR(RunBlock(model, block, rows));
  }
  if (wanted != 0) {
    row = 0;
    int64_t at = 0;
    spans_.clear();
    for (uint32_t i = 0; i < step.count; ++i) {
      const engine_step_sequence& s = At(step.sequences, i);
      row += s.token_count;
      if (s.logits_count == 0) continue;
      spans_.push_back({s.adapter, at, at + s.logits_count});
      std::memcpy(last_.data() + at * c.hidden, x_.data() + (row - s.logits_count) * c.hidden,
                  static_cast<size_t>(s.logits_count * c.hidden) * 4);
      at += s.logits_count;
    }
    const kernels::Rows last{
        last_.data(), c.hidden, wanted, final_norm_.data(), static_cast<float>(c.norm_eps),
        n_.data()};
    ENGINE_RETURN_IF_ERROR(Run(model, last, {&head_}, {logits}, false));
  }
  *kernel_ns = kernel_ns_;
  return Status();
}

Status Model::Lower(std::shared_ptr<Lowered>* out) {
  std::lock_guard lock(lowered_mutex_);
  if (lowered_ == nullptr) ENGINE_RETURN_IF_ERROR(Lowered::Make(this, &lowered_));
  *out = lowered_;
  return Status();
}

Status Model::InputPeaks(std::span<const int32_t> ids, std::vector<std::vector<float>>* peaks) {
  constexpr uint32_t kPiece = 256;
  std::shared_ptr<Lowered> lowered;
  ENGINE_RETURN_IF_ERROR(Lowered::Make(this, &lowered));
  if (lowered->KeepsKeys()) {
    return Error(ENGINE_FAILED_PRECONDITION,
                 "activations are looked at before keys and values are kept: put the transform "
                 "before the one that keeps them");
  }
  peaks->assign(sites_.size(), {});
  lowered->NotePeaks(peaks);
  const auto piece = static_cast<size_t>(std::min<int64_t>(kPiece, context()));
  std::vector<float> logits(piece * static_cast<size_t>(config().vocab));
  for (size_t at = 0; at < ids.size(); at += piece) {
    engine_step_sequence s = Sized<engine_step_sequence>();
    s.tokens = ids.data() + at;
    s.token_count = s.logits_count = static_cast<uint32_t>(std::min(piece, ids.size() - at));
    const engine_step step = {sizeof(engine_step), 1, &s};
    uint64_t ignored = 0;
    ENGINE_RETURN_IF_ERROR(lowered->Step(this, step, logits.data(), &ignored));
  }
  return Status();
}

Status Model::Prepare() {
  std::shared_ptr<Lowered> made;
  return Lower(&made);
}

Status Model::Step(const engine_step& step, float* logits) {
  std::shared_ptr<Lowered> lowered;
  ENGINE_RETURN_IF_ERROR(Lower(&lowered));
  const uint64_t begin = NowNs();
  uint64_t kernel_ns = 0;
  ENGINE_RETURN_IF_ERROR(lowered->Step(this, step, logits, &kernel_ns));
  times_.steps.fetch_add(1, std::memory_order_relaxed);
  times_.step_ns.fetch_add(NowNs() - begin, std::memory_order_relaxed);
  times_.kernel_ns.fetch_add(kernel_ns, std::memory_order_relaxed);
  return Status();
}

}  // namespace engine::model
