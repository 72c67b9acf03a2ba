// The model's own implementations of its sites, on tensors and under autograd: the Llama family as
// Hugging Face computes it. Each calls the sites inside it through the model, so that whatever
// stands there takes part.
#include <algorithm>
#include <cmath>

#include "engine/model/autograd.h"
#include "engine/model/extensions.h"
#include "engine/model/loss.h"
#include "engine/model/model.h"
#include "engine/model/train_ops.h"
#include "engine/philox.hpp"
#include "engine/torch_ops.h"

namespace engine::model {
namespace {

struct Original {
  uint32_t index;
  engine_site_kind kind;
  std::string weight;
};

engine_status* ForwardOriginal(void* self, engine_forward* pass, const AtenTensorHandle* in,
                               uint32_t n_in, AtenTensorHandle* out, uint32_t n_out);

// Runs a site on one tensor. Sites inside a block are named by their distance from it; BuildSites
// has the order.
Tensor Run(engine_forward* pass, uint32_t site, const Tensor& x) {
  std::optional<Tensor> out;
  const Status status = pass->model->RunSite(pass, site, {x}, &out);
  if (!status.ok()) throw std::runtime_error(std::string(status.message()));
  return *out;
}

Tensor Weight(engine_forward* pass, const std::string& name, bool narrow = false) {
  std::optional<Tensor> tensor;
  const Param* param = pass->model->FindParam(name);
  if (param == nullptr) throw std::runtime_error("no parameter is named '" + name + "'");
  const Status status = pass->model->DenseTensor(*param, &tensor, narrow);
  if (!status.ok()) throw std::runtime_error(std::string(status.message()));
  return *tensor;
}

// Norms run in float at least, as Hugging Face's do.
Tensor Norm(const Tensor& x, const Tensor& weight, double eps) {
  const uint32_t dtype = ops::DtypeOf(x);
  const Tensor h = dtype == ENGINE_BF16 ? ops::To(x, ENGINE_F32) : x;
  const Tensor variance = ops::Mean(ops::Mul(h, h), {-1}, true);
  const Tensor scaled =
      ops::Mul(h, ops::Rsqrt(ops::Add(variance, ops::Number(eps, ops::DtypeOf(h)))));
  return ops::Mul(weight, ops::To(scaled, dtype));
}

// x [B, heads, T, d] rotated: x * cos + (-x2, x1) * sin.
Tensor Rotate(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const int64_t half = x.size(3) / 2;
  const Tensor turned =
      ops::Cat({ops::Neg(ops::Narrow(x, 3, half, half)), ops::Narrow(x, 3, 0, half)}, 3);
  return ops::Add(ops::Mul(x, cos), ops::Mul(turned, sin));
}

// Each stretch by itself: as if its tokens were alone, at the cost of their own squares.
Tensor Attend(const engine_forward& pass, const Tensor& q, const Tensor& k, const Tensor& v) {
  if (pass.stretches.empty()) return ops::CausalAttention(q, k, v);
  std::vector<Tensor> rows, pieces;
  for (size_t i = 0; i < pass.stretches.size(); ++i) {
    const engine_forward::Stretch& s = pass.stretches[i];
    const auto part = [&](const Tensor& x) {
      return ops::Narrow(ops::Narrow(x, 0, s.row, 1), 2, s.begin, s.end - s.begin);
    };
    pieces.push_back(ops::CausalAttention(part(q), part(k), part(v)));
    if (i + 1 < pass.stretches.size() && pass.stretches[i + 1].row == s.row) continue;
    rows.push_back(ops::Cat(pieces, 2));
    pieces.clear();
  }
  return ops::Cat(rows, 0);
}

// What a linear or head is made of, where that is known: a dense or packed weight, and over it at
// most one low-rank branch without a magnitude.
bool FindParts(engine_forward* pass, uint32_t site, LinearParts* parts) {
  if (pass->model->base().plain_sites) return false;
  const engine_site_impl* at = &Through(pass->model->impl(site));
  if (const auto* low = Ask<engine_low_rank>(*at, ENGINE_EXT_LOW_RANK)) {
    if (low->magnitude != nullptr) return false;
    parts->a = ops::Borrow(low->a);
    parts->b = ops::Borrow(low->b);
    parts->scale = low->scale;
    parts->dropout = DropoutOf(*pass, low->dropout, low->drop_seed, low->drop_stream);
    at = &Through(*low->base);
  }
  if (at->forward == &ForwardOriginal) {
    parts->weight = Weight(pass, static_cast<Original*>(at->self)->weight, NarrowProducts());
    return true;
  }
  const auto* packed = Ask<engine_packed_linear>(*at, ENGINE_EXT_PACKED_LINEAR);
  if (packed == nullptr) return false;
  parts->packed = packed->packed->matrix;
  return true;
}

// Rows of the whole batch that see each other.
std::vector<kernels::CausalStretch> FlatStretches(const engine_forward& pass) {
  std::vector<kernels::CausalStretch> flat;
  for (const engine_forward::Stretch& s : pass.stretches) {
    flat.push_back({s.row * pass.tokens + s.begin, s.row * pass.tokens + s.end});
  }
  if (!flat.empty()) return flat;
  for (int64_t row = 0; row < pass.batch; ++row) {
    flat.push_back({row * pass.tokens, (row + 1) * pass.tokens});
  }
  return flat;
}

Tensor AttentionSite(engine_forward* pass, uint32_t self, const Tensor& x) {
  const ModelConfig& c = pass->model->config();
  const int64_t b = pass->batch, t = pass->tokens;
  const auto heads = [&](const Tensor& y, int64_t count) {
    return ops::Transpose(ops::Reshape(y, {b, t, count, c.head_dim}), 1, 2);
  };
  std::vector<LinearParts> parts(3);
  bool known = true;
  for (uint32_t i = 0; known && i < 3; ++i) known = FindParts(pass, self + 1 + i, &parts[i]);
  LinearParts out;
  const bool out_known = FindParts(pass, self + 5, &out);
  const auto give = [&](const Tensor& mixed) {
    return out_known ? FusedLinears(mixed, {out})[0] : Run(pass, self + 5, mixed);
  };
  std::optional<Tensor> q, k, v, mixed;
  if (known) {
    const Rotary turned{&*pass->cos, &*pass->sin};
    const std::vector<Tensor> y = FusedLinears(x, parts, {turned, turned, {}});
    if (FusedAttention(y[0], y[1], y[2], c.head_dim, FlatStretches(*pass), &mixed)) {
      return give(*mixed);
    }
    q = heads(y[0], c.heads);
    k = heads(y[1], c.kv_heads);
    v = heads(y[2], c.kv_heads);
  } else {
    q = Rotate(heads(Run(pass, self + 1, x), c.heads), *pass->cos, *pass->sin);
    k = Rotate(heads(Run(pass, self + 2, x), c.kv_heads), *pass->cos, *pass->sin);
    v = heads(Run(pass, self + 3, x), c.kv_heads);
  }
  return give(
      ops::Reshape(ops::Transpose(Attend(*pass, *q, *k, *v), 1, 2), {b, t, c.heads * c.head_dim}));
}

// The site whose values nothing needs, in the replay under way; -1: none.
thread_local int64_t valueless = -1;

Tensor MlpSite(engine_forward* pass, uint32_t self, const Tensor& x, bool values) {
  LinearParts parts[3];
  if (FindParts(pass, self + 1, &parts[0]) && FindParts(pass, self + 2, &parts[1]) &&
      FindParts(pass, self + 3, &parts[2])) {
    return FusedMlp(x, parts[0], parts[1], parts[2], values);
  }
  const Tensor gate = ops::Silu(Run(pass, self + 1, x));
  return Run(pass, self + 3, ops::Mul(gate, Run(pass, self + 2, x)));
}

Tensor BlockSite(engine_forward* pass, uint32_t self, const Tensor& x, bool values) {
  const Tensor h = ops::Add(x, Run(pass, self + 2, Run(pass, self + 1, x)));
  const Tensor normed = Run(pass, self + 8, h);
  const bool known = Through(pass->model->impl(self + 9)).forward == &ForwardOriginal;
  if (!values && known) valueless = int64_t{self} + 9;
  return ops::Add(h, Run(pass, self + 9, normed));
}

engine_status* ForwardOriginal(void* self, engine_forward* pass, const AtenTensorHandle* in,
                               uint32_t n_in, AtenTensorHandle* out, uint32_t n_out) {
  return Guard([&]() -> Status {
    const auto& site = *static_cast<Original*>(self);
    const bool values = valueless != site.index;
    valueless = -1;
    const uint32_t wanted = site.kind == ENGINE_SITE_LOSS ? 2 : 1;
    if (n_in != wanted || n_out != 1) {
      return Error(ENGINE_INVALID_ARGUMENT, "a site takes ", wanted, " tensors and gives one, not ",
                   n_in, " and ", n_out);
    }
    const Tensor x = ops::Borrow(in[0]);
    std::optional<Tensor> y;
    switch (site.kind) {
      case ENGINE_SITE_EMBEDDING:
        y = ops::Embedding(Weight(pass, site.weight), x);
        break;
      case ENGINE_SITE_NORM:
        y = pass->model->base().plain_sites
                ? Norm(x, Weight(pass, site.weight), pass->model->config().norm_eps)
                : FusedNorm(x, Weight(pass, site.weight), pass->model->config().norm_eps);
        break;
      case ENGINE_SITE_LINEAR:
      case ENGINE_SITE_HEAD:
        y = ops::Linear(x, Weight(pass, site.weight));
        break;
      case ENGINE_SITE_ATTENTION:
        y = AttentionSite(pass, site.index, x);
        break;
      case ENGINE_SITE_MLP:
        y = MlpSite(pass, site.index, x, values);
        break;
      case ENGINE_SITE_BLOCK:
        y = BlockSite(pass, site.index, x, values);
        break;
      case ENGINE_SITE_LOSS: {
        // In float at least, as Hugging Face's loss upcasts.
        const uint32_t dtype = ops::DtypeOf(x);
        y = ops::CrossEntropySum(dtype == ENGINE_BF16 ? ops::To(x, ENGINE_F32) : x,
                                 ops::Borrow(in[1]), pass->how.label_smoothing);
        break;
      }
      case ENGINE_SITE_KV_STORE:
        return Error(ENGINE_FAILED_PRECONDITION, "a KV store is not a function of tensors");
    }
    out[0] = ops::Release(*y);
    return Status();
  });
}

}  // namespace

void OnlySite(const engine_forward&, uint32_t site) {
  if (Replaying()) valueless = site;
}

Dropout DropoutOf(const engine_forward& pass, double p, uint64_t seed, uint64_t stream) {
  if (!pass.how.dropout) return {};
  // A key of its own for each step and microbatch.
  const auto key = Philox(seed, pass.how.step).Block(pass.how.microbatch);
  return {p, uint64_t{key[0]} << 32 | key[1], stream};
}

engine_site_impl OriginalSite(uint32_t index, const Site& site) {
  engine_site_impl c = {};
  c.struct_size = sizeof c;
  c.self = new Original{index, site.kind, site.weight};
  c.forward = &ForwardOriginal;
  c.extension = [](void*, const char*) -> const void* { return nullptr; };
  c.destroy = [](void* self) { delete static_cast<Original*>(self); };
  return c;
}

Status Model::RunSite(engine_forward* pass, uint32_t site, const std::vector<Tensor>& in,
                      std::optional<Tensor>* out) {
  std::vector<AtenTensorHandle> handles;
  for (const Tensor& tensor : in) handles.push_back(tensor.get());
  AtenTensorHandle result = nullptr;
  const engine_site_impl& c = impls_[site]->c;
  const Status status(
      c.forward(c.self, pass, handles.data(), static_cast<uint32_t>(handles.size()), &result, 1));
  if (!status.ok()) {
    // The innermost site is the one to name.
    if (!status.node().empty()) return status;
    return status.Prefix("site '" + sites_[site].name + "': ").At("", sites_[site].name);
  }
  if (result == nullptr) {
    return Error(ENGINE_INTERNAL, "site '", sites_[site].name, "' gave no tensor");
  }
  *out = Tensor(result);
  return Status();
}

namespace {

// Cosines and sines [positions, head_dim], both halves alike; angles in float, as Hugging Face's.
void FillAngles(const ModelConfig& c, bool wide, int64_t positions, double* cos, double* sin) {
  const int64_t half = c.head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    double frequency = 1.0 / std::pow(c.rope_theta, 2.0 * static_cast<double>(i) /
                                                        static_cast<double>(c.head_dim));
    if (!c.rope_divisors.empty()) frequency /= c.rope_divisors[static_cast<size_t>(i)];
    for (int64_t p = 0; p < positions; ++p) {
      const double angle =
          wide ? static_cast<double>(p) * frequency
               : static_cast<double>(static_cast<float>(p) * static_cast<float>(frequency));
      for (int64_t at : {p * c.head_dim + i, p * c.head_dim + half + i}) {
        cos[at] = std::cos(angle);
        sin[at] = std::sin(angle);
      }
    }
  }
}

// Stretches of equal numbers; a number that comes back would be two examples of one name.
Status FindStretches(const Tensor& example, std::vector<engine_forward::Stretch>* out) {
  const Tensor flat = ops::Contiguous(example);
  const auto* of = ops::Data<int64_t>(flat);
  const int64_t rows = flat.size(0), length = flat.size(1);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t* at = of + row * length;
    for (int64_t begin = 0, end = 0; begin < length; begin = end) {
      while (end < length && at[end] == at[begin]) ++end;
      if (end < length && at[end] >= 0 && at[end] < at[begin]) {
        return Error(ENGINE_INVALID_ARGUMENT, "examples of row ", row,
                     " are not in order: ", at[end], " follows ", at[begin]);
      }
      out->push_back({row, begin, end});
    }
  }
  return Status();
}

Status MakePass(std::shared_ptr<Model> model, const Tensor& ids, const Tensor* example,
                engine_forward** out) {
  const ModelConfig& c = model->config();
  if (ids.dim() != 2)
    return Error(ENGINE_INVALID_ARGUMENT, "ids have ", ids.dim(),
                 " dimensions; "
                 "they are [batch, tokens]");
  if (ids.size(1) > model->context()) {
    return Error(ENGINE_OUT_OF_RANGE, "a sequence of ", ids.size(1),
                 " tokens does not fit the context of ", model->context());
  }
  auto pass = std::make_unique<engine_forward>();
  pass->batch = ids.size(0);
  pass->tokens = ids.size(1);
  const Tensor cos = ops::Empty({pass->tokens, c.head_dim}, ENGINE_F64);
  const Tensor sin = ops::Empty({pass->tokens, c.head_dim}, ENGINE_F64);
  FillAngles(c, model->dtype() == ENGINE_F64, pass->tokens, ops::Data<double>(cos),
             ops::Data<double>(sin));
  pass->cos = ops::To(cos, model->dtype());
  pass->sin = ops::To(sin, model->dtype());
  if (example != nullptr) {
    if (ops::Sizes(*example) != ops::Sizes(ids)) {
      return Error(ENGINE_INVALID_ARGUMENT, "numbers of examples must have the shape of ids");
    }
    ENGINE_RETURN_IF_ERROR(FindStretches(*example, &pass->stretches));
    // Each stretch begins at position 0.
    const Tensor positions = ops::Empty({pass->batch * pass->tokens}, ENGINE_I64);
    auto* at = ops::Data<int64_t>(positions);
    for (const engine_forward::Stretch& s : pass->stretches) {
      for (int64_t t = s.begin; t < s.end; ++t) at[s.row * pass->tokens + t] = t - s.begin;
    }
    for (std::optional<Tensor>* table : {&pass->cos, &pass->sin}) {
      *table = ops::Reshape(ops::IndexSelect(**table, 0, positions),
                            {pass->batch, 1, pass->tokens, c.head_dim});
    }
  }
  pass->model = std::move(model);
  *out = pass.release();
  return Status();
}

void ReleasePass(engine_forward* pass) {
  if (pass->references.fetch_sub(1) == 1) delete pass;
}

}  // namespace

Status Model::Hidden(engine_forward* pass, const Tensor& ids, std::optional<Tensor>* x) {
  ENGINE_RETURN_IF_ERROR(RunSite(pass, 0, {ids}, x));
  for (uint32_t site = 1; site < sites_.size(); ++site) {
    const engine_site_kind kind = sites_[site].kind;
    const bool outer = sites_[site].block < 0 && kind != ENGINE_SITE_LOSS;
    if (kind == ENGINE_SITE_HEAD || (kind != ENGINE_SITE_BLOCK && !outer)) continue;
    const Tensor input = **x;
    ENGINE_RETURN_IF_ERROR(RunSite(pass, site, {input}, x));
  }
  return Status();
}

namespace {

uint32_t SiteOf(const Model& model, engine_site_kind kind) {
  uint32_t site = 0;
  while (model.sites()[site].kind != kind) ++site;
  return site;
}

}  // namespace

int64_t LossChunk(int64_t vocab) {
  constexpr int64_t kLogitsBytes = 64 << 20;
  return std::max<int64_t>(16, kLogitsBytes / (vocab * 4));
}

Status Model::Forward(const Tensor& ids, std::optional<Tensor>* logits) {
  engine_forward* pass = nullptr;
  ENGINE_RETURN_IF_ERROR(MakePass(shared_from_this(), ids, nullptr, &pass));
  const std::unique_ptr<engine_forward, void (*)(engine_forward*)> owner(pass, &ReleasePass);
  std::optional<Tensor> x;
  ENGINE_RETURN_IF_ERROR(Hidden(pass, ids, &x));
  return RunSite(pass, SiteOf(*this, ENGINE_SITE_HEAD), {*x}, logits);
}

Status Model::Loss(const Tensor& ids, const Tensor& labels, const LossHow& how,
                   std::optional<Tensor>* sum, int64_t* count) {
  if (ops::Sizes(labels) != ops::Sizes(ids)) {
    return Error(ENGINE_INVALID_ARGUMENT, "labels must have the shape of ids");
  }
  const Tensor flat = ops::Contiguous(ops::Reshape(labels, {-1}));
  const auto* values = ops::Data<int64_t>(flat);
  *count = 0;
  for (int64_t i = 0; i < flat.size(0); ++i) {
    if (values[i] == -100) continue;
    if (values[i] < 0 || values[i] >= config().vocab) {
      return Error(ENGINE_OUT_OF_RANGE, "label ", values[i], " is outside the vocabulary of ",
                   config().vocab);
    }
    ++*count;
  }
  // Only rows that count go through the head, and of their logits only some at a time.
  const Tensor rows = ops::Empty({*count}, ENGINE_I64);
  const Tensor wanted = ops::Empty({*count}, ENGINE_I64);
  for (int64_t i = 0, n = 0; i < flat.size(0); ++i) {
    if (values[i] == -100) continue;
    ops::Data<int64_t>(rows)[n] = i;
    ops::Data<int64_t>(wanted)[n++] = values[i];
  }
  const uint32_t head = SiteOf(*this, ENGINE_SITE_HEAD), loss = SiteOf(*this, ENGINE_SITE_LOSS);
  const NarrowGuard narrow(Ask<engine_autocast>(impl(loss), ENGINE_EXT_AUTOCAST) != nullptr);
  engine_forward* pass = nullptr;
  ENGINE_RETURN_IF_ERROR(MakePass(shared_from_this(), ids, how.example, &pass));
  pass->how = how;
  pass->how.example = nullptr;
  const std::unique_ptr<engine_forward, void (*)(engine_forward*)> owner(pass, &ReleasePass);
  std::optional<Tensor> x;
  ENGINE_RETURN_IF_ERROR(Hidden(pass, ids, &x));
  std::vector<Tensor> params;
  for (const Param& param : params_) {
    if (param.trainable && param.tensor) params.push_back(*param.tensor);
  }
  const int64_t chunk = LossChunk(config().vocab);
  const Tensor hidden = ops::Reshape(*x, {-1, config().hidden});
  x.reset();
  LinearParts parts;
  if (Through(impl(loss)).forward == &ForwardOriginal && FindParts(pass, head, &parts) &&
      !parts.a) {
    return FusedLoss(hidden, rows, wanted, parts, how.label_smoothing, chunk, sum);
  }
  return LossByChunks(
      hidden, rows, wanted, params, chunk,
      [&](const Tensor& some, const Tensor& labels_of_some, std::optional<Tensor>* out) {
        std::optional<Tensor> logits;
        ENGINE_RETURN_IF_ERROR(RunSite(pass, head, {some}, &logits));
        return RunSite(pass, loss, {*logits, labels_of_some}, out);
      },
      sum);
}

}  // namespace engine::model
