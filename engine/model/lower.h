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
  // As Model::Step. One call at a time.
  Status Step(Model* model, const engine_step& step, float* logits);

 private:
  // y (+)= low rank of x: scale * B (A x).
  struct Branch {
    std::shared_ptr<kernels::PackedMatrix> a, b;
    float scale = 1.0f;
  };
  struct LinearPlan {
    std::shared_ptr<kernels::PackedMatrix> matrix;  // null: unfused
    std::vector<Branch> branches;
    uint32_t site = 0;
    int64_t out = 0;
  };
  struct BlockPlan {
    std::vector<float> norm1, norm2;
    LinearPlan q, k, v, o, gate, up, down;
    bool unfused_mlp = false;
    uint32_t mlp_site = 0;
  };
  // Rows of one sequence within the rows of a step.
  struct Piece {
    const engine_step_sequence* sequence;
    int64_t row = 0;
    std::vector<float*> pages;  // of the block that is being computed
  };

  Status LinearOf(Model* model, uint32_t site, LinearPlan* plan);
  Status ResolveLinear(Model* model, uint32_t site, const engine_site_impl& impl, bool original,
                       LinearPlan* plan);
  Status NormOf(Model* model, uint32_t site, std::vector<float>* weight);
  Status Check(const engine_step& step) const;
  Status Embed(Model* model, int32_t token, float* to) const;
  Status Run(Model* model, const float* x, int64_t rows,
             std::initializer_list<const LinearPlan*> linears,
             std::initializer_list<float*> outputs, bool add);
  Status RunUnfused(Model* model, uint32_t site, const float* x, int64_t rows, int64_t in,
                    int64_t out, float* y, bool add);
  Status RunBlock(Model* model, size_t index, std::vector<Piece>* pieces, int64_t rows);

  ModelConfig config_;
  uint32_t dtype_ = ENGINE_F32;
  kernels::RopeTable rope_;
  std::vector<BlockPlan> blocks_;
  std::vector<float> final_norm_;
  LinearPlan head_;
  std::shared_ptr<kernels::PackedMatrix> embedding_;  // null: rows are read from the file
  const Param* embedding_param_ = nullptr;
  std::vector<const engine_kv_view*> kv_;  // one a block; empty: keys and values are not kept
  kernels::Pages own_pages_;               // of one block, when they are not kept
  kernels::Scratch scratch_;
  std::vector<float> x_, n_, q_, k_, v_, a_, gate_, up_, low_, scores_, last_;
};

}  // namespace engine::model

#endif  // ENGINE_MODEL_LOWER_H_
