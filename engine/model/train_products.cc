#include "engine/model/train_products.h"

#include "engine/kernels/gemm.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/parallel.h"

namespace engine::model {

void ProductSum::Add(const at::Tensor& x, const at::Tensor& w, bool transposed, double scale) {
  // Weights follow the inputs: under autocast those are narrower.
  terms_.push_back({x.contiguous(), w.to(x.scalar_type()).contiguous(), transposed, scale});
}

at::Tensor ProductSum::Run() const {
  const Term& first = terms_.front();
  at::Tensor y =
      at::empty({first.x.size(0), first.w.size(first.transposed ? 1 : 0)}, first.x.options());
  RunInto(&y, false);
  return y;
}

void ProductSum::RunInto(at::Tensor* y, bool add) const {
  if (!OnKernels(*y)) {
    for (const Term& t : terms_) {
      const at::Tensor w = t.transposed ? t.w : t.w.t();
      if (add) {
        y->addmm_(t.x, w, 1, t.scale);
      } else {
        at::mm_out(*y, t.x, w);
      }
      add = true;
    }
    return;
  }
  std::vector<kernels::GemmTerm> terms;
  for (const Term& t : terms_) {
    terms.push_back({t.x.const_data_ptr<float>(), t.x.size(1), t.x.size(1),
                     t.w.const_data_ptr<float>(), t.w.size(1), t.transposed,
                     static_cast<float>(t.scale)});
  }
  kernels::Gemm(terms, y->size(0), y->size(1), y->mutable_data_ptr<float>(), y->size(1), add);
}

at::Tensor RowsProduct(const at::Tensor& a, const at::Tensor& b) {
  // Few columns are read along the rows of the other as they lie; else a copy turned round pays.
  constexpr int64_t kThin = 64;
  if (b.size(1) <= kThin && a.size(1) > b.size(1)) return RowsProduct(b, a).t().contiguous();
  if (!OnKernels(a)) return at::mm(a.t(), b);
  if (a.size(1) <= kThin) {
    const at::Tensor x = a.contiguous(), y = b.contiguous();
    at::Tensor out = at::empty({x.size(1), y.size(1)}, x.options());
    kernels::ThinProduct(x.const_data_ptr<float>(), x.size(1), y.const_data_ptr<float>(), y.size(1),
                         x.size(0), out.mutable_data_ptr<float>());
    return out;
  }
  return Times(a.t().contiguous(), b, /*transposed=*/true);
}

at::Tensor PackedProduct(const at::Tensor& x, const kernels::PackedMatrix& matrix) {
  const at::Tensor f32 = x.to(at::kFloat).contiguous();
  at::Tensor y = at::empty({x.size(0), matrix.out()}, f32.options());
  kernels::Scratch scratch;
  const kernels::Product product{&matrix, y.mutable_data_ptr<float>(), matrix.out()};
  kernels::Multiply({f32.const_data_ptr<float>(), matrix.in(), x.size(0)}, {&product, 1}, &scratch);
  return y.to(x.scalar_type());
}

at::Tensor Unpacked(const kernels::PackedMatrix& matrix, at::ScalarType dtype) {
  return UnpackedRows(matrix, 0, matrix.out(), dtype);
}

at::Tensor UnpackedRows(const kernels::PackedMatrix& matrix, int64_t begin, int64_t end,
                        at::ScalarType dtype) {
  const at::Tensor dense = at::empty({end - begin, matrix.in()}, at::kFloat);
  float* const to = dense.mutable_data_ptr<float>();
  kernels::ParallelFor(end - begin, 64, [&](int64_t from, int64_t until) {
    for (int64_t r = from; r < until; ++r) matrix.GetRow(begin + r, to + r * matrix.in());
  });
  return dense.to(dtype);
}

}  // namespace engine::model
