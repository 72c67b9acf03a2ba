#include "engine/model/low_rank.h"

#include <cmath>

#include "engine/torch_ops.h"

namespace engine::model {
namespace {

Status ReadTensor(AtenTensorHandle handle, const std::string& name, int64_t count,
                  std::vector<double>* out) {
  const ops::Tensor wide = ops::Contiguous(ops::To(ops::Detach(ops::Borrow(handle)), ENGINE_F64));
  if (wide.numel() != count) {
    return Error(ENGINE_INTERNAL, "'", name, "' holds ", wide.numel(), " values; the linear and ",
                 "its rank imply ", count);
  }
  const double* data = ops::Data<double>(wide);
  out->assign(data, data + count);
  for (size_t i = 0; i < out->size(); ++i) {
    if (std::isfinite((*out)[i])) continue;
    return Error(ENGINE_DATA_LOSS, "element ", i, " of '", name, "' is ", (*out)[i],
                 "; such an adapter is not used");
  }
  return Status();
}

}  // namespace

Status LowRank::Read(const engine_low_rank& low, const std::string& site, int64_t in, int64_t out,
                     LowRank* to) {
  to->rank = low.rank;
  to->in = in;
  to->out = out;
  to->scale = low.scale;
  const std::string end =
      low.adapter.size == 0 ? "" : " of adapter " + std::string(View(low.adapter));
  ENGINE_RETURN_IF_ERROR(ReadTensor(low.a, site + ".lora_A.weight" + end, to->rank * in, &to->a));
  ENGINE_RETURN_IF_ERROR(ReadTensor(low.b, site + ".lora_B.weight" + end, to->rank * out, &to->b));
  if (low.magnitude == nullptr) return Status();
  return ReadTensor(low.magnitude, site + ".lora_magnitude_vector" + end, out, &to->magnitude);
}

// In the order of the rank. A factor of zero adds nothing, not even to the sign of a zero.
double LowRank::AddTo(int64_t row, double* w) const {
  for (int64_t k = 0; k < rank; ++k) {
    const double factor = scale * b[static_cast<size_t>(row * rank + k)];
    if (factor == 0) continue;
    const double* from = a.data() + k * in;
    for (int64_t c = 0; c < in; ++c) w[c] += factor * from[c];
  }
  if (magnitude.empty()) return 1;
  double squares = 0;
  for (int64_t c = 0; c < in; ++c) squares += w[c] * w[c];
  return magnitude[static_cast<size_t>(row)] / std::sqrt(squares);
}

}  // namespace engine::model
