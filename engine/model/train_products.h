// Matrix products of training on any dtype and device: F32 on a CPU through the kernels, the rest
// through LibTorch. Needs LibTorch's own headers, as train_ops.cc does.
#ifndef ENGINE_MODEL_TRAIN_PRODUCTS_H_
#define ENGINE_MODEL_TRAIN_PRODUCTS_H_

#include <ATen/ATen.h>

#include <vector>

#include "engine/kernels/packed.h"
#include "engine/model/train_ops.h"

namespace engine::model {

// True where the kernels compute.
inline bool OnKernels(const at::Tensor& t) {
  return t.device().is_cpu() && t.scalar_type() == at::kFloat;
}

// A sum of products that share their rows: x·Wᵀ, or with `transposed` x·W, each in the dtype of its
// x. The first has scale 1.
class ProductSum {
 public:
  void Add(const at::Tensor& x, const at::Tensor& w, bool transposed, double scale = 1);
  bool empty() const { return terms_.empty(); }
  at::Tensor Run() const;
  void RunInto(at::Tensor* y, bool add) const;

 private:
  struct Term {
    at::Tensor x, w;
    bool transposed;
    double scale;
  };
  std::vector<Term> terms_;
};

inline at::Tensor Times(const at::Tensor& x, const at::Tensor& w, bool transposed) {
  ProductSum sum;
  sum.Add(x, w, transposed);
  return sum.Run();
}

// aᵀ·b over the rows of both: gradients of weights.
at::Tensor RowsProduct(const at::Tensor& a, const at::Tensor& b);

// x [N, in] of any floating dtype through a packed matrix, in the dtype of x.
at::Tensor PackedProduct(const at::Tensor& x, const kernels::PackedMatrix& matrix);
// Its dense weight [out, in].
at::Tensor Unpacked(const kernels::PackedMatrix& matrix, at::ScalarType dtype);
// Rows [begin, end) of it.
at::Tensor UnpackedRows(const kernels::PackedMatrix& matrix, int64_t begin, int64_t end,
                        at::ScalarType dtype);

}  // namespace engine::model

#endif  // ENGINE_MODEL_TRAIN_PRODUCTS_H_
