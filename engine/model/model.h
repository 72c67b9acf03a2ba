// A model as sites over logical parameters. A Model is a view: the base's weights are shared by all
// views of a `from` chain, each rewrite replaces what stands at some sites.
// Invariants: every site has an implementation; parameter names are unique; a view never changes
// after its rewrites are done, but for the values of trainable tensors.
#ifndef ENGINE_MODEL_MODEL_H_
#define ENGINE_MODEL_MODEL_H_

#include <torch/csrc/stable/tensor.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/ext/kv.h"
#include "engine/ext/model.h"
#include "engine/ext/transforms.h"
#include "engine/growth.hpp"
#include "engine/kernels/packed.h"
#include "engine/model/formats/checkpoint.h"
#include "engine/model/formats/tokenizer.h"
#include "engine/model/train_ops.h"
#include "engine/status.hpp"

// A packed matrix behind the SDK's handle.
struct engine_packed {
  std::atomic<uint32_t> references{1};
  std::shared_ptr<engine::kernels::PackedMatrix> matrix;
};

namespace engine::model {

using torch::stable::Tensor;

struct Site {
  engine_site_kind kind;
  std::string name;
  std::string weight;
  int64_t in = 0, out = 0;
  int32_t block = -1;
};

struct Param {
  std::string name;
  std::vector<int64_t> shape;
  uint32_t dtype = ENGINE_F32;
  uint32_t codec = ENGINE_CODEC_DENSE;
  bool trainable = false;
  std::string tie_group, init_key, optimizer_group;
  const TensorInfo* stored = nullptr;  // where the checkpoint keeps it; null: owned by a transform
  std::optional<Tensor> tensor;        // owned by a transform
  // The weight as a transform encoded it; what reads the parameter reads these values.
  std::shared_ptr<kernels::PackedMatrix> packed;
  int64_t rows() const { return shape.size() < 2 ? 1 : shape.front(); }
  int64_t columns() const { return shape.back(); }
};

class Model;
class Lowered;

// See engine_loss_how.
struct LossHow {
  const Tensor* example = nullptr;
  bool dropout = false;
  uint64_t step = 0, microbatch = 0;
  double label_smoothing = 0;
};

// What stands at a site, and everything it needs to stay alive.
struct Impl {
  engine_site_impl c = {};
  std::string made_by;              // resource that put it there; empty: the model itself
  std::shared_ptr<Impl> replaced;   // lives longer than this one
  std::shared_ptr<void> transform;  // the instance that made it
  ~Impl() {
    if (c.destroy != nullptr) c.destroy(c.self);
  }
};

// The weights, shared by every view.
struct Base {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Tokenizer> tokenizer;
  uint32_t dtype = ENGINE_F32;
  int64_t context = 0;
  bool decode = false;  // quantized tensors of the file are decoded before they are computed with
  bool plain_sites = false;  // training computes every site by itself, by LibTorch's operators
  uint64_t fingerprint = 0;  // of the model over it that nothing has rewritten

  // True where the parameter is stored in blocks that kernels compute on as they are.
  bool ComputesStored(const Param& param) const;
  // The dense tensor of a stored parameter in `dtype`, or in bf16, made once.
  Status DenseTensor(const Param& param, std::optional<Tensor>* out, bool narrow = false);
  // The matrix packed for the kernels, made once: blocks as they are stored, else f32 or bf16.
  Status Packed(const Param& param, std::shared_ptr<kernels::PackedMatrix>* out);
  // What the weights take when they are packed for serving.
  int64_t ServedBytes() const;
  // Whether DenseTensor has it already.
  bool HasDense(const Param& param, bool narrow) const;
  // Bytes of tensors and packed matrices made so far.
  uint64_t HeldBytes() const;

 private:
  Status PackDense(const Param& param, std::shared_ptr<kernels::PackedMatrix>* out);
  Status PackStored(const Param& param, std::shared_ptr<kernels::PackedMatrix>* out);

  mutable std::mutex mutex_;
  std::map<std::string, Tensor> tensors_;                               // guarded by mutex_
  std::map<std::string, std::weak_ptr<kernels::PackedMatrix>> packed_;  // guarded by mutex_
};

struct SiteChange {
  uint32_t site;
  std::string note;
  int64_t bytes_before, bytes_after;
};

class Model : public std::enable_shared_from_this<Model> {
 public:
  // The unrewritten model over `base`.
  static std::shared_ptr<Model> Make(std::shared_ptr<Base> base);

  const ModelConfig& config() const { return base_->checkpoint->config(); }
  Base& base() const { return *base_; }
  uint32_t dtype() const { return base_->dtype; }
  int64_t context() const { return base_->context; }
  const std::vector<Site>& sites() const { return sites_; }
  const std::vector<Param>& params() const { return params_; }
  Param* FindParam(std::string_view name);
  const engine_site_impl& impl(uint32_t site) const { return impls_[site]->c; }
  const Impl& impl_entry(uint32_t site) const { return *impls_[site]; }
  // True where the model's own implementation still stands.
  bool IsOriginal(uint32_t site) const { return impls_[site]->made_by.empty(); }
  uint32_t FindSite(std::string_view name) const;  // UINT32_MAX: none
  // Named adapters, in the order of the chain; a step's sequences choose them by number, from 1. A
  // further rewrite leaves the numbers as they are.
  const std::vector<std::string>& adapters() const { return adapters_; }
  // 0 for the empty name and for one that is not there.
  uint32_t AdapterNumber(std::string_view name) const;
  // See engine_model_info.
  uint64_t fingerprint() const { return fingerprint_; }

  // What a transform would replace; no weight is read. Zero sites is an error.
  Status Plan(const engine_transform_vtable* vtable, void* self, const std::string& resource,
              std::vector<SiteChange>* diff) const;
  // A new view with the transform applied. `instance` keeps the transform alive.
  Status Apply(const engine_transform_vtable* vtable, std::shared_ptr<void> instance,
               const std::string& resource, std::shared_ptr<Model>* out) const;

  // Values of a parameter, wherever they are; as double those of F64 keep their bits.
  Status ReadRows(const Param& param, int64_t begin, int64_t end, float* to) const;
  Status ReadRows(const Param& param, int64_t begin, int64_t end, double* to) const;
  // With `narrow` in bf16, where no transform owns the tensor.
  Status DenseTensor(const Param& param, std::optional<Tensor>* out, bool narrow = false) const;

  // --- running; see engine_model_host -----------------------------------------------------------
  // Packs weights and makes what steps need; else the first step does.
  Status Prepare();
  Status Step(const engine_step& step, float* logits);
  Status Forward(const Tensor& ids, std::optional<Tensor>* logits);
  Status Loss(const Tensor& ids, const Tensor& labels, const LossHow& how,
              std::optional<Tensor>* sum, int64_t* count);
  Status RunSite(engine_forward* pass, uint32_t site, const std::vector<Tensor>& in,
                 std::optional<Tensor>* out);
  // See engine_model_host.train_estimate.
  Status Estimate(int64_t batch, int64_t tokens, engine_train_estimate* out);
  void ParamsChanged();
  // What enters the head: ids through everything before it.
  Status Hidden(engine_forward* pass, const Tensor& ids, std::optional<Tensor>* x);
  // See engine_model_host; [site][in], empty where a site was not seen.
  Status InputPeaks(std::span<const int32_t> ids, std::vector<std::vector<float>>* peaks);

  // --- what a rewrite may do --------------------------------------------------------------------
  Status AddParam(const engine_param_info& info, Tensor tensor);
  Status ReplaceParam(const engine_param_info& info, Tensor tensor);
  Status EncodeParam(std::string_view name, uint32_t codec, engine_packed* packed);

  // Sums over all steps of this view.
  struct Times {
    std::atomic<uint64_t> steps{0}, step_ns{0}, kernel_ns{0};
  };
  const Times& times() const { return times_; }
  // Kernels that belong to a step but run after it.
  void AddKernelTime(uint64_t ns) { times_.kernel_ns.fetch_add(ns, std::memory_order_relaxed); }

 private:
  explicit Model(std::shared_ptr<Base> base) : base_(std::move(base)) {}
  void BuildSites();
  void BuildParams();
  void CollectAdapters();
  Status Lower(std::shared_ptr<Lowered>* out);
  void Fingerprint(std::string_view what);
  template <typename T>
  Status ReadRowsAs(const Param& param, int64_t begin, int64_t end, T* to) const;

  std::shared_ptr<Base> base_;
  std::vector<Site> sites_;
  std::vector<std::shared_ptr<Impl>> impls_;
  std::vector<Param> params_;
  std::vector<std::string> adapters_;
  uint64_t fingerprint_ = 0;
  bool rewriting_ = false;
  Times times_;
  std::mutex lowered_mutex_;
  std::shared_ptr<Lowered> lowered_;  // guarded by lowered_mutex_; null: to be made
};

// The pool behind the model's KvStore sites; null when it keeps no keys and values.
const engine_kv_pool* PoolOf(const Model& model);

// True when the model's own implementation stands at the site, recomputation and the like aside.
bool OriginalBehind(const Model& model, uint32_t site);

// Rows of logits that are there at once in a loss.
int64_t LossChunk(int64_t vocab);

// Makes the model's own implementation of a site; `weight` may be null.
engine_site_impl OriginalSite(uint32_t index, const Site& site);

}  // namespace engine::model

// The object behind an engine.Model/1 resource is a Model.
struct engine_model;
namespace engine::model {
inline Model* FromC(const engine_model* m) {
  return reinterpret_cast<Model*>(const_cast<engine_model*>(m));
}
inline engine_model* ToC(const Model* m) {
  return reinterpret_cast<engine_model*>(const_cast<Model*>(m));
}
}  // namespace engine::model

// One pass over the sites by tensors.
struct engine_forward {
  std::atomic<uint32_t> references{1};
  std::shared_ptr<engine::model::Model> model;
  int64_t batch = 0, tokens = 0;
  std::optional<torch::stable::Tensor> cos, sin;  // [tokens, head_dim] in the model's dtype, or
                                                  // with stretches [batch, 1, tokens, head_dim]
  // Tokens [begin, end) of a row that see each other alone, all of them in order. Empty: rows do.
  struct Stretch {
    int64_t row, begin, end;
  };
  std::vector<Stretch> stretches;
  engine::model::LossHow how;  // but for the examples, which are the stretches
};

namespace engine::model {
// See engine_model_host.forward_only and site_cost.
void OnlySite(const engine_forward& pass, uint32_t site);
Status SiteCost(const engine_forward& pass, uint32_t site, engine_site_cost* out);
// What a pass drops of what a key names; p = 0 where it drops nothing.
Dropout DropoutOf(const engine_forward& pass, double p, uint64_t seed, uint64_t stream);
}  // namespace engine::model

#endif  // ENGINE_MODEL_MODEL_H_
