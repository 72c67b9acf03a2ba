// Lowering: a model's sites as a flat list of kernel calls over raw buffers, for serving. What is
// recognised (dense, engine.packed_linear, engine.low_rank, engine.kv_view, engine.same_function)
// runs fused; a linear or MLP that is not runs through its own forward; anything else refuses.
// Invariant: the result of a row depends on that row and its own sequence alone.
#ifndef ENGINE_MODEL_LOWER_H_
#define ENGINE_MODEL_LOWER_H_

#include <memory>
#include <vector>

#include "engine/kernels/kernels.h"
#include "engine/model/model.h"

namespace engine::model {

class Lowered {
 public:
  static Status Make(Model* model, std::shared_ptr<Lowered>* out);
  // As Model::Step. One call at a time. *kernel_ns receives the time spent in kernels.
  Status Step(Model* model, const engine_step& step, float* logits, uint64_t* kernel_ns);
  // From now on steps note the greatest magnitude of each input of each site: [site][in], of as
  // many sites as the model has; must live as long as steps are made.
  void NotePeaks(std::vector<std::vector<float>>* peaks) { peaks_ = peaks; }
  bool KeepsKeys() const { return !kv_.empty(); }

 private:
  // y = outputs * (y + scale * B (A x)), for rows that chose the adapter.
  struct Branch {
    std::shared_ptr<kernels::PackedMatrix> a, b;
    float scale = 1.0f;
    uint32_t adapter = 0;        // 0: for all rows
    std::vector<float> outputs;  // [out]; empty: ones
  };
  struct LinearPlan {
    std::shared_ptr<kernels::PackedMatrix> matrix;  // null: unfused
    std::vector<Branch> branches;
    uint32_t site = 0;
    int64_t out = 0;
    // For rows that chose the adapter some branch scales what it is added to, which must then hold
    // this linear's sum alone.
    bool Scales(uint32_t adapter) const;
  };
  struct BlockPlan {
    std::vector<float> norm1, norm2;
    LinearPlan q, k, v, o, gate, up, down;
    bool unfused_mlp = false;
    uint32_t mlp_site = 0;
  };
  // Rows [begin, end) of a step that chose one adapter.
  struct Span {
    uint32_t adapter;
    int64_t begin, end;
  };

  Status LinearOf(Model* model, uint32_t site, LinearPlan* plan);
  Status ResolveLinear(Model* model, uint32_t site, const engine_site_impl& impl, bool original,
                       LinearPlan* plan);
  Status NormOf(Model* model, uint32_t site, std::vector<float>* weight);
  // A matrix that a transform owns.
  static Status PackTensor(const Tensor& t, kernels::Format format,
                           std::shared_ptr<kernels::PackedMatrix>* out);
  static Status MakeBranch(Model* model, uint32_t site, const engine_low_rank& low, Branch* out);
  // Rows cannot choose an adapter within what runs whole by its own forward.
  static Status NoneNamed(const Model& model, uint32_t site, uint32_t unfused);
  Status Check(const engine_step& step) const;
  Status Embed(Model* model, int32_t token, float* to) const;
  // The linears share their input rows; with `silu_pair` there are two, see kernels::Multiply.
  Status Run(Model* model, const kernels::Rows& rows,
             std::initializer_list<const LinearPlan*> linears,
             std::initializer_list<float*> outputs, bool add, bool silu_pair = false);
  bool ScalesAny(const LinearPlan& linear) const;
  void AddBranches(const LinearPlan& linear, const float* x, int64_t in, float* y);
  // Adds sum_ and the branches.
  void AddApart(const LinearPlan& linear, const float* x, int64_t in, float* y);
  void AddBranch(const Branch& branch, const float* x, int64_t rows, int64_t in, int64_t out,
                 float* y);
  Status RunUnfused(Model* model, uint32_t site, const float* x, int64_t rows, int64_t in,
                    int64_t out, float* y, bool add);
  Status RunBlock(Model* model, size_t index, int64_t rows);
  Status Layout(const engine_step& step, int64_t* rows, int64_t* wanted);
  void Note(const kernels::Rows& rows, int64_t in,
            std::initializer_list<const LinearPlan*> linears);
  static bool Fused(std::initializer_list<const LinearPlan*> linears);

  ModelConfig config_;
  uint32_t dtype_ = ENGINE_F32;
  uint32_t adapters_ = 0;  // named ones
  kernels::RopeTable rope_;
  std::vector<BlockPlan> blocks_;
  std::vector<float> final_norm_;
  LinearPlan head_;
  std::shared_ptr<kernels::PackedMatrix> embedding_;  // null: rows are read from the file
  const Param* embedding_param_ = nullptr;
  std::vector<kernels::PagedKv> kv_;  // one a block; empty: keys and values are not kept
  uint32_t kv_pages_ = 0;
  kernels::Pages own_pages_;  // of one block, when they are not kept
  // Of the step under way, kept so that no step allocates.
  std::vector<kernels::AttentionJob> jobs_;
  std::vector<int32_t> own_blocks_;
  std::vector<Span> spans_;
  kernels::Scratch scratch_;
  kernels::AttentionScratch attention_;
  std::vector<float> x_, n_, q_, k_, v_, a_, gate_, up_, low_, sum_, last_;
  uint64_t kernel_ns_ = 0;
  std::vector<std::vector<float>>* peaks_ = nullptr;
};

}  // namespace engine::model

#endif  // ENGINE_MODEL_LOWER_H_
