#include "start.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "engine/philox.hpp"

namespace engine::lora {
namespace {

struct Svd {
  ops::Tensor u, s, v;  // w = u · diag(s) · vᵀ, s falling
};

Svd SvdOf(const ops::Tensor& w) {
  using torch::stable::detail::from;
  using torch::stable::detail::to;
  std::array<StableIValue, 3> stack{from(w), from(/*some=*/true), from(/*compute_uv=*/true)};
  ops::Check(torch_call_dispatcher("aten::svd", "", stack.data(), TORCH_ABI_VERSION));
  return {to<ops::Tensor>(stack[0]), to<ops::Tensor>(stack[1]), to<ops::Tensor>(stack[2])};
}

}  // namespace

ops::Tensor UniformA(uint64_t seed, const std::string& param, int64_t rank, int64_t in,
                     uint32_t dtype) {
  const ops::Tensor a = ops::Empty({rank, in}, ENGINE_F64);
  const Philox random(seed, param);
  const double bound = 1.0 / std::sqrt(static_cast<double>(in));
  for (int64_t i = 0; i < rank * in; ++i) {
    ops::Data<double>(a)[i] = (2 * random.Uniform(static_cast<uint64_t>(i)) - 1) * bound;
  }
  return ops::To(a, dtype);
}

Status PrincipalBranch(const ops::Tensor& w, int64_t rank, double scale,
                       std::optional<Principal>* out) {
  if (rank > std::min(w.size(0), w.size(1))) {
    return Error(ENGINE_INVALID_ARGUMENT, "a weight of ", w.size(0), " x ", w.size(1), " has no ",
                 rank, " singular values; take a lower rank for it");
  }
  const Svd svd = SvdOf(w);
  const ops::Tensor roots = ops::Sqrt(ops::Scale(ops::Narrow(svd.s, 0, 0, rank), 1 / scale));
  const ops::Tensor b = ops::Contiguous(ops::Mul(ops::Narrow(svd.u, 1, 0, rank), roots));
  const ops::Tensor a =
      ops::Contiguous(ops::Transpose(ops::Mul(ops::Narrow(svd.v, 1, 0, rank), roots), 0, 1));
  out->emplace(Principal{a, b, ops::AddScaled(w, ops::Matmul(b, a), -scale)});
  return Status();
}

}  // namespace engine::lora
