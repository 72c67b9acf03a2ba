#include "engine/model/model.h"

#include <algorithm>
#include <unordered_set>

#include "engine/kernels/parallel.h"
#include "engine/model/extensions.h"
#include "engine/torch_ops.h"
#include "engine/util.hpp"

namespace engine::model {

namespace {
// Under which a dense tensor is kept.
std::string DenseKey(const Param& param, uint32_t wanted, uint32_t dtype) {
  return wanted == dtype ? param.name : param.name + " in bf16";
}

// A tensor over the file's own pages, where it stores the values as they are wanted: nothing is
// read before it is used, or held twice. The pages are mapped for reading alone, as nothing writes
// to a model's weights: whoever trains them takes a copy.
std::optional<Tensor> MappedTensor(const Checkpoint& checkpoint, const Param& param,
                                   uint32_t wanted) {
  // Beside a small one lie others whose pages would be mapped with it, and stay.
  constexpr uint64_t kLeast = 1 << 20;
  if (param.stored->bytes < kLeast) return {};
  const Encoding encoding = param.stored->encoding;
  const bool same = wanted == ENGINE_F32    ? encoding == Encoding::kF32
                    : wanted == ENGINE_F64  ? encoding == Encoding::kF64
                    : wanted == ENGINE_BF16 ? encoding == Encoding::kBF16
                                            : false;
  std::shared_ptr<const void> keep;
  const uint8_t* at = same ? checkpoint.AsStored(*param.stored, &keep) : nullptr;
  if (at == nullptr) return {};
  ops::Ints strides(param.shape.size(), 1);
  for (size_t d = param.shape.size(); d-- > 1;) strides[d - 1] = strides[d] * param.shape[d];
  return torch::stable::from_blob(const_cast<uint8_t*>(at), ops::internal::Ref(param.shape),
                                  ops::internal::Ref(strides),
                                  torch::stable::Device(torch::headeronly::DeviceType::CPU),
                                  ops::TypeOf(wanted), [keep = std::move(keep)](void*) {});
}

}  // namespace

Status Base::DenseTensor(const Param& param, std::optional<Tensor>* out, bool narrow) {
  std::lock_guard lock(mutex_);
  const uint32_t wanted = narrow ? uint32_t{ENGINE_BF16} : dtype;
  const std::string key = DenseKey(param, wanted, dtype);
  if (auto it = tensors_.find(key); it != tensors_.end()) {
    *out = it->second;
    return Status();
  }
  const TensorInfo& stored = *param.stored;
  if (std::optional<Tensor> mapped = MappedTensor(*checkpoint, param, wanted)) {
    tensors_.emplace(key, *mapped);
    *out = *std::move(mapped);
    return Status();
  }
  Tensor tensor = ops::Empty(param.shape, wanted);
  const int64_t columns = param.columns();
  std::mutex status_mutex;
  Status status;
  kernels::ParallelFor(param.rows(), 64, [&](int64_t begin, int64_t end) {
    Status mine;
    if (wanted == ENGINE_F32) {
      mine = checkpoint->ReadRows(stored, begin, end, ops::Data<float>(tensor) + begin * columns);
    } else if (wanted == ENGINE_F64) {
      mine = checkpoint->ReadRows(stored, begin, end, ops::Data<double>(tensor) + begin * columns);
    } else {
      mine = checkpoint->ReadRowsBf16(stored, begin, end,
                                      ops::Data<uint16_t>(tensor) + begin * columns);
    }
    if (mine.ok()) return;
    std::lock_guard guard(status_mutex);
    status = std::move(mine);
  });
  ENGINE_RETURN_IF_ERROR(status);
  checkpoint->Drop(stored);
  tensors_.emplace(key, tensor);
  *out = std::move(tensor);
  return Status();
}

bool Base::HasDense(const Param& param, bool narrow) const {
  std::lock_guard lock(mutex_);
  return tensors_.count(DenseKey(param, narrow ? uint32_t{ENGINE_BF16} : dtype, dtype)) != 0;
}

bool Base::ComputesStored(const Param& param) const {
  if (decode || param.stored == nullptr || param.shape.size() != 2) return false;
  const Encoding e = param.stored->encoding;
  if (e == Encoding::kI8) {
    const int64_t group = param.stored->group, most = kernels::PackedMatrix::kLongestGroup;
    return group == 0 ? param.columns() <= most
                      : group % 32 == 0 && group <= most && param.stored->half_scales;
  }
  return e == Encoding::kQ8_0 || e == Encoding::kQ4_0 || e == Encoding::kQ4_1;
}

Status Base::Packed(const Param& param, std::shared_ptr<kernels::PackedMatrix>* out) {
  std::lock_guard lock(mutex_);
  if (auto it = packed_.find(param.name); it != packed_.end()) {
    if ((*out = it->second.lock()) != nullptr) return Status();
  }
  ENGINE_RETURN_IF_ERROR(ComputesStored(param) ? PackStored(param, out) : PackDense(param, out));
  checkpoint->Drop(*param.stored);
  packed_[param.name] = *out;
  return Status();
}

Status Base::PackStored(const Param& param, std::shared_ptr<kernels::PackedMatrix>* out) {
  const Encoding e = param.stored->encoding;
  kernels::IntScheme scheme;
  const bool int8 = e == Encoding::kI8;
  scheme.bits = int8 || e == Encoding::kQ8_0 ? 8 : 4;
  scheme.minimum = e == Encoding::kQ4_1;
  scheme.group = int8 ? param.stored->group : 32;
  ENGINE_RETURN_IF_ERROR(
      kernels::PackedMatrix::MakeInt(scheme, param.rows(), param.columns(), out));
  kernels::PackedMatrix& matrix = **out;
  std::vector<const uint8_t*> rows(static_cast<size_t>(param.rows()));
  ENGINE_RETURN_IF_ERROR(checkpoint->StoredRows(*param.stored, rows.data()));
  if (int8) {
    std::atomic<bool> failed = false;
    kernels::ParallelFor(matrix.panels(), 1, [&](int64_t begin, int64_t end) {
      std::vector<float> scales(static_cast<size_t>(param.stored->groups()));
      const int64_t last = std::min(end * kernels::kPanel, param.rows());
      for (int64_t r = begin * kernels::kPanel; r < last; ++r) {
        if (!checkpoint->ReadScales(*param.stored, r, scales.data()).ok()) failed = true;
        matrix.SetRowInt8(r, reinterpret_cast<const int8_t*>(rows[static_cast<size_t>(r)]),
                          scales.data());
      }
    });
    if (!failed) return Status();
    return Error(ENGINE_DATA_LOSS, "the scales of '", param.name, "' cannot be read any longer");
  }
  kernels::ParallelFor(matrix.panels(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t first = p * kernels::kPanel;
      matrix.SetRowsBlocks(first, std::min(kernels::kPanel, param.rows() - first),
                           rows.data() + first);
    }
  });
  return Status();
}

Status Base::PackDense(const Param& param, std::shared_ptr<kernels::PackedMatrix>* out) {
  std::shared_ptr<kernels::PackedMatrix> matrix;
  const auto format = dtype == ENGINE_BF16 ? kernels::Format::kBf16 : kernels::Format::kF32;
  ENGINE_RETURN_IF_ERROR(
      kernels::PackedMatrix::Make(format, param.rows(), param.columns(), &matrix));
  std::mutex status_mutex;
  Status status;
  kernels::ParallelFor(matrix->panels(), 4, [&](int64_t begin, int64_t end) {
    std::vector<float> rows(static_cast<size_t>(kernels::kPanel * param.columns()));
    for (int64_t p = begin; p < end; ++p) {
      const int64_t first = p * kernels::kPanel;
      const int64_t count = std::min(kernels::kPanel, param.rows() - first);
      Status mine = checkpoint->ReadRows(*param.stored, first, first + count, rows.data());
      if (!mine.ok()) {
        std::lock_guard guard(status_mutex);
        status = std::move(mine);
        return;
      }
      matrix->SetRows(first, count, rows.data());
    }
  });
  ENGINE_RETURN_IF_ERROR(status);
  *out = std::move(matrix);
  return Status();
}

int64_t Base::ServedBytes() const {
  int64_t bytes = 0;
  for (const TensorInfo& tensor : checkpoint->tensors()) {
    Param param;
    param.shape = tensor.shape;
    param.stored = &tensor;
    int64_t count = 1;
    for (int64_t d : tensor.shape) count *= d;
    if (!ComputesStored(param)) {
      bytes += count * DtypeBytes(dtype);
      continue;
    }
    bytes += static_cast<int64_t>(tensor.bytes);
    if (tensor.encoding == Encoding::kI8) {
      bytes += tensor.rows() * tensor.groups() * (tensor.group == 0 ? 4 : 2);
    }
  }
  return bytes;
}

uint64_t Base::HeldBytes() const {
  std::lock_guard lock(mutex_);
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : tensors_) {
    int64_t size = DtypeBytes(ops::DtypeOf(tensor));
    for (int64_t i = 0; i < tensor.dim(); ++i) size *= tensor.size(i);
    bytes += static_cast<uint64_t>(size);
  }
  for (const auto& [name, weak] : packed_) {
    if (auto matrix = weak.lock()) bytes += matrix->bytes();
  }
  return bytes;
}

std::shared_ptr<Model> Model::Make(std::shared_ptr<Base> base) {
  // Shapes and a sample of every tensor's bytes: enough to tell checkpoints apart that differ by
  // training, without reading them whole.
  std::string base_identity = base->checkpoint->Identity();
  base_identity += '/' + std::to_string(base->dtype) + (base->decode ? "/decoded" : "/stored");
  std::shared_ptr<Model> model(new Model(std::move(base)));
  model->BuildParams();
  model->BuildSites();
  model->Fingerprint(base_identity);
  model->base_->fingerprint = model->fingerprint_;
  return model;
}

void Model::BuildParams() {
  const bool tied = config().tied_embedding;
  for (const TensorInfo& tensor : base_->checkpoint->tensors()) {
    Param param;
    param.name = tensor.name;
    param.shape = tensor.shape;
    param.dtype = base_->dtype;
    param.init_key = tensor.name;
    param.stored = &tensor;
    if (tied && tensor.name == "model.embed_tokens.weight") param.tie_group = "embedding";
    params_.push_back(std::move(param));
  }
}

void Model::BuildSites() {
  const ModelConfig& c = config();
  const auto add = [&](engine_site_kind kind, std::string name, int64_t in, int64_t out,
                       int32_t block, bool weight) {
    Site site{kind, name, weight ? name + ".weight" : "", in, out, block};
    if (site.weight == "lm_head.weight" && c.tied_embedding) {
      site.weight = "model.embed_tokens.weight";
    }
    auto impl = std::make_shared<Impl>();
    impl->c = OriginalSite(static_cast<uint32_t>(sites_.size()), site);
    sites_.push_back(std::move(site));
    impls_.push_back(std::move(impl));
  };
  add(ENGINE_SITE_EMBEDDING, "model.embed_tokens", c.vocab, c.hidden, -1, true);
  for (int32_t i = 0; i < c.blocks; ++i) {
    const std::string block = "model.layers." + std::to_string(i);
    const std::string attention = block + ".self_attn", mlp = block + ".mlp";
    const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
    add(ENGINE_SITE_BLOCK, block, 0, 0, i, false);
    add(ENGINE_SITE_NORM, block + ".input_layernorm", 0, 0, i, true);
    add(ENGINE_SITE_ATTENTION, attention, 0, 0, i, false);
    add(ENGINE_SITE_LINEAR, attention + ".q_proj", c.hidden, q, i, true);
    add(ENGINE_SITE_LINEAR, attention + ".k_proj", c.hidden, kv, i, true);
    add(ENGINE_SITE_LINEAR, attention + ".v_proj", c.hidden, kv, i, true);
    add(ENGINE_SITE_KV_STORE, attention + ".kv", 0, 0, i, false);
    add(ENGINE_SITE_LINEAR, attention + ".o_proj", q, c.hidden, i, true);
    add(ENGINE_SITE_NORM, block + ".post_attention_layernorm", 0, 0, i, true);
    add(ENGINE_SITE_MLP, mlp, 0, 0, i, false);
    add(ENGINE_SITE_LINEAR, mlp + ".gate_proj", c.hidden, c.mlp, i, true);
    add(ENGINE_SITE_LINEAR, mlp + ".up_proj", c.hidden, c.mlp, i, true);
    add(ENGINE_SITE_LINEAR, mlp + ".down_proj", c.mlp, c.hidden, i, true);
  }
  add(ENGINE_SITE_NORM, "model.norm", 0, 0, -1, true);
  add(ENGINE_SITE_HEAD, "lm_head", c.hidden, c.vocab, -1, true);
  add(ENGINE_SITE_LOSS, "loss", 0, 0, -1, false);
}

uint32_t Model::FindSite(std::string_view name) const {
  for (uint32_t i = 0; i < sites_.size(); ++i) {
    if (sites_[i].name == name) return i;
  }
  return UINT32_MAX;
}

Param* Model::FindParam(std::string_view name) {
  for (Param& param : params_) {
    if (param.name == name) return &param;
  }
  return nullptr;
}

Status Model::Plan(const engine_transform_vtable* vtable, void* self, const std::string& resource,
                   std::vector<SiteChange>* diff) const {
  struct Collector {
    const Model* model;
    std::vector<SiteChange>* diff;
    std::unordered_set<uint32_t> seen;
  } collector{this, diff, {}};
  engine_diff c = {};
  c.struct_size = sizeof c;
  c.self = &collector;
  c.replace = [](void* arg, uint32_t site, engine_str note, int64_t before,
                 int64_t after) -> engine_status* {
    auto* to = static_cast<Collector*>(arg);
    return Guard([&]() -> Status {
      if (site >= to->model->sites_.size()) {
        return Error(ENGINE_OUT_OF_RANGE, "the diff names site ", site, " of ",
                     to->model->sites_.size());
      }
      if (!to->seen.insert(site).second) {
        return Error(ENGINE_ALREADY_EXISTS, "the diff names site '", to->model->sites_[site].name,
                     "' twice");
      }
      to->diff->push_back({site, std::string(View(note)), before, after});
      return Status();
    });
  };
  ENGINE_RETURN_IF_ERROR(Status(vtable->plan(self, ToC(this), &c)).At("", resource));
  if (diff->empty()) {
    return Error(ENGINE_FAILED_PRECONDITION, "transform '", resource,
                 "' matches no site of the model; `engine explain` lists the sites")
        .At("", resource);
  }
  return Status();
}

namespace {

// What an implementation says it is made of must be whole before lowering relies on it.
Status CheckTables(const engine_site_impl& impl) {
  const auto check = [&]<typename Table>(const Table*, const char* id) -> Status {
    const Table* table = Ask<Table>(impl, id);
    return table == nullptr ? Status() : CheckComplete(table, "its table " + std::string(id));
  };
  ENGINE_RETURN_IF_ERROR(
      check(static_cast<engine_packed_linear*>(nullptr), ENGINE_EXT_PACKED_LINEAR));
  ENGINE_RETURN_IF_ERROR(check(static_cast<engine_low_rank*>(nullptr), ENGINE_EXT_LOW_RANK));
  ENGINE_RETURN_IF_ERROR(check(static_cast<engine_autocast*>(nullptr), ENGINE_EXT_AUTOCAST));
  ENGINE_RETURN_IF_ERROR(
      check(static_cast<engine_same_function*>(nullptr), ENGINE_EXT_SAME_FUNCTION));
  ENGINE_RETURN_IF_ERROR(check(static_cast<engine_recomputed*>(nullptr), ENGINE_EXT_RECOMPUTED));
  ENGINE_RETURN_IF_ERROR(check(static_cast<engine_kv_view*>(nullptr), ENGINE_EXT_KV_VIEW));
  return check(static_cast<engine_kv_pool*>(nullptr), ENGINE_EXT_KV_POOL);
}

}  // namespace

Status Model::Apply(const engine_transform_vtable* vtable, std::shared_ptr<void> instance,
                    const std::string& resource, std::shared_ptr<Model>* out) const {
  std::vector<SiteChange> diff;
  void* self = instance.get();
  ENGINE_RETURN_IF_ERROR(Plan(vtable, self, resource, &diff));
  std::shared_ptr<Model> view(new Model(base_));
  view->sites_ = sites_;
  view->impls_ = impls_;
  view->params_ = params_;
  view->adapters_ = adapters_;
  view->rewriting_ = true;
  view->fingerprint_ = fingerprint_;  // a store of keys and values asks while it rewrites
  for (const SiteChange& change : diff) {
    auto impl = std::make_shared<Impl>();
    impl->made_by = resource;
    impl->replaced = view->impls_[change.site];
    impl->transform = instance;
    impl->c.struct_size = sizeof impl->c;
    const Status status =
        Status(vtable->rewrite(self, ToC(view.get()), change.site, &impl->c)).At("", resource);
    if (!status.ok()) return status.Prefix("site '" + sites_[change.site].name + "': ");
    if (impl->c.forward == nullptr || impl->c.extension == nullptr || impl->c.destroy == nullptr) {
      impl->c.destroy = nullptr;
      return Error(ENGINE_INTERNAL, "transform '", resource, "' gave no implementation for site '",
                   sites_[change.site].name, "'");
    }
    ENGINE_RETURN_IF_ERROR(
        CheckTables(impl->c).Prefix("site '" + sites_[change.site].name + "': "));
    view->impls_[change.site] = std::move(impl);
  }
  if (vtable->finish != nullptr) {
    ENGINE_RETURN_IF_ERROR(Status(vtable->finish(self, ToC(view.get()))).At("", resource));
  }
  view->rewriting_ = false;
  view->CollectAdapters();
  for (const SiteChange& change : diff) {
    // Where keys and values lie does not change what they are.
    if (sites_[change.site].kind == ENGINE_SITE_KV_STORE) continue;
    view->Fingerprint(sites_[change.site].name + '=' + change.note);
  }
  const auto tensor_of = [](const Param& p) { return p.tensor ? p.tensor->get() : nullptr; };
  for (size_t i = 0; i < view->params_.size(); ++i) {
    const Param& param = view->params_[i];
    if (i < params_.size() && tensor_of(param) == tensor_of(params_[i])) continue;
    std::vector<float> values(static_cast<size_t>(param.rows() * param.columns()));
    ENGINE_RETURN_IF_ERROR(view->ReadRows(param, 0, param.rows(), values.data()));
    view->Fingerprint(param.name);
    view->Fingerprint({reinterpret_cast<const char*>(values.data()), values.size() * 4});
  }
  // What activations chose differs with the text and the machine.
  for (size_t i = 0; i < params_.size(); ++i) {
    const auto& packed = view->params_[i].packed;
    if (packed == nullptr || packed == params_[i].packed || !packed->input_scales()) continue;
    const std::vector<float>& scales = *packed->input_scales();
    view->Fingerprint({reinterpret_cast<const char*>(scales.data()), scales.size() * 4});
  }
  *out = std::move(view);
  return Status();
}

Status Model::AddParam(const engine_param_info& info, Tensor tensor) {
  const std::string name(View(info.name));
  if (!rewriting_) {
    return Error(ENGINE_FAILED_PRECONDITION, "parameter '", name,
                 "' can only be added while a transform rewrites");
  }
  if (FindParam(name) != nullptr) {
    return Error(ENGINE_ALREADY_EXISTS, "parameter '", name, "' is already there");
  }
  if (info.rank == 0 || info.rank > 4) {
    return Error(ENGINE_INVALID_ARGUMENT, "parameter '", name, "' has rank ", info.rank);
  }
  Param param;
  param.name = name;
  param.shape.assign(info.shape, info.shape + info.rank);
  if (ops::Sizes(tensor) != param.shape) {
    return Error(ENGINE_INVALID_ARGUMENT, "parameter '", name,
                 "': the tensor's shape is not the one declared");
  }
  param.dtype = info.dtype;
  param.trainable = info.trainable != 0;
  param.tie_group = std::string(View(info.tie_group));
  param.init_key = std::string(View(info.init_key));
  param.optimizer_group = std::string(View(info.optimizer_group));
  param.tensor = std::move(tensor);
  params_.push_back(std::move(param));
  return Status();
}

Status Model::ReplaceParam(const engine_param_info& info, Tensor tensor) {
  Param* param = FindParam(View(info.name));
  if (!rewriting_ || param == nullptr) {
    return Error(
        rewriting_ ? ENGINE_NOT_FOUND : ENGINE_FAILED_PRECONDITION, "parameter '", View(info.name),
        rewriting_ ? "' is not there" : "' can only be replaced while a transform rewrites");
  }
  if (ops::Sizes(tensor) != param->shape) {
    return Error(ENGINE_INVALID_ARGUMENT, "parameter '", param->name,
                 "' is replaced by a tensor of another shape");
  }
  param->trainable = info.trainable != 0;
  param->optimizer_group = std::string(View(info.optimizer_group));
  param->codec = ENGINE_CODEC_DENSE;
  param->packed = nullptr;
  param->tensor = std::move(tensor);
  return Status();
}

Status Model::EncodeParam(std::string_view name, uint32_t codec, engine_packed* packed) {
  Param* param = FindParam(name);
  if (param == nullptr) return Error(ENGINE_NOT_FOUND, "no parameter is named '", name, "'");
  if (param->rows() != packed->matrix->out() || param->columns() != packed->matrix->in()) {
    return Error(ENGINE_INVALID_ARGUMENT, "parameter '", name,
                 "' has another shape than its packed "
                 "form");
  }
  param->codec = codec;
  param->packed = packed->matrix;
  // Whoever encoded it has read the file's pages, which would count in the process's peak.
  if (param->stored != nullptr) base_->checkpoint->Drop(*param->stored);
  return Status();
}

template <typename T>
Status Model::ReadRowsAs(const Param& param, int64_t begin, int64_t end, T* to) const {
  const int64_t columns = param.columns();
  if (begin < 0 || end < begin || end > param.rows()) {
    return Error(ENGINE_OUT_OF_RANGE, "rows ", begin, " to ", end, " of parameter '", param.name,
                 "', which has ", param.rows());
  }
  if (param.packed != nullptr) {
    std::vector<float> row(static_cast<size_t>(columns));
    for (int64_t r = begin; r < end; ++r, to += columns) {
      param.packed->GetRow(r, row.data());
      std::copy(row.begin(), row.end(), to);
    }
    return Status();
  }
  if (!param.tensor) return base_->checkpoint->ReadRows(*param.stored, begin, end, to);
  const Tensor some = ops::Narrow(ops::Reshape(ops::Detach(*param.tensor), {param.rows(), -1}), 0,
                                  begin, end - begin);
  const Tensor values =
      ops::Contiguous(ops::To(some, sizeof(T) == sizeof(double) ? ENGINE_F64 : ENGINE_F32));
  std::copy_n(ops::Data<T>(values), (end - begin) * columns, to);
  return Status();
}

Status Model::ReadRows(const Param& param, int64_t begin, int64_t end, float* to) const {
  return ReadRowsAs(param, begin, end, to);
}

Status Model::ReadRows(const Param& param, int64_t begin, int64_t end, double* to) const {
  return ReadRowsAs(param, begin, end, to);
}

Status Model::DenseTensor(const Param& param, std::optional<Tensor>* out, bool narrow) const {
  if (param.tensor) {
    *out = *param.tensor;
    return Status();
  }
  if (param.packed != nullptr) {
    const Tensor dense = ops::Empty(param.shape, ENGINE_F32);
    kernels::ParallelFor(param.rows(), 64, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        param.packed->GetRow(r, ops::Data<float>(dense) + r * param.columns());
      }
    });
    *out = ops::To(dense, dtype());
    return Status();
  }
  return base_->DenseTensor(param, out, narrow);
}

uint32_t Model::AdapterNumber(std::string_view name) const {
  for (size_t i = 0; i < adapters_.size(); ++i) {
    if (adapters_[i] == name) return static_cast<uint32_t>(i + 1);
  }
  return 0;
}

bool OriginalBehind(const Model& model, uint32_t site) {
  const Impl* entry = &model.impl_entry(site);
  while (!entry->made_by.empty()) {
    const auto* same = Ask<engine_same_function>(entry->c, ENGINE_EXT_SAME_FUNCTION);
    if (same == nullptr || entry->replaced == nullptr) return false;
    entry = entry->replaced.get();
  }
  return true;
}

// Adds those of this rewrite to those before it.
void Model::CollectAdapters() {
  for (const auto& top : impls_) {
    if (top->made_by.empty()) continue;
    const auto* low = Ask<engine_low_rank>(top->c, ENGINE_EXT_LOW_RANK);
    if (low == nullptr || low->adapter.size == 0 || AdapterNumber(View(low->adapter)) != 0)
      continue;
    adapters_.emplace_back(View(low->adapter));
  }
}

// FNV-1a over what makes this model's function; Fowler, Noll and Vo.
void Model::Fingerprint(std::string_view what) {
  uint64_t hash = fingerprint_ ^ 0xcbf29ce484222325u;
  for (const char c : what) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3u;
  }
  fingerprint_ = hash;
}

const engine_kv_pool* PoolOf(const Model& model) {
  for (uint32_t i = 0; i < model.sites().size(); ++i) {
    if (model.sites()[i].kind != ENGINE_SITE_KV_STORE) continue;
    return Ask<engine_kv_pool>(model.impl(i), ENGINE_EXT_KV_POOL);
  }
  return nullptr;
}

void Model::ParamsChanged() {
  std::lock_guard lock(lowered_mutex_);
  lowered_ = nullptr;
}

}  // namespace engine::model
