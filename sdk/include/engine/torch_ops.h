// LibTorch's operators for the STABLE tier: thin wrappers over its dispatcher, each naming the
// schema it calls. They record autograd like any other call. About 5 µs an op beside the work, so
// hot loops take raw pointers instead. Failures throw std::runtime_error with LibTorch's words;
// the skin turns that into a status.
//
// The dispatcher carries no Scalar, so a number is passed as a tensor without dimensions (Number),
// which takes part in type promotion as a number does.
#ifndef ENGINE_TORCH_OPS_H_
#define ENGINE_TORCH_OPS_H_

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "engine/abi.h"

namespace engine::ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Ints = std::vector<int64_t>;

inline void Check(AOTITorchError code) {
  if (code != TORCH_SUCCESS) throw std::runtime_error(torch_exception_get_what_without_backtrace());
}

// A tensor around a handle that stays the caller's.
inline Tensor Borrow(AtenTensorHandle handle) {
  AtenTensorHandle copy = nullptr;
  Check(aoti_torch_new_tensor_handle(handle, &copy));
  return Tensor(copy);
}
// A new handle to the tensor, for whoever takes it over.
inline AtenTensorHandle Release(const Tensor& tensor) {
  AtenTensorHandle copy = nullptr;
  Check(aoti_torch_new_tensor_handle(tensor.get(), &copy));
  return copy;
}

namespace internal {
template <typename... Args>
Tensor Call(const char* name, const char* overload, const Args&... args) {
  using torch::stable::detail::from;
  std::array<StableIValue, sizeof...(Args)> stack{from(args)...};
  Check(torch_call_dispatcher(name, overload, stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}
inline torch::headeronly::IntHeaderOnlyArrayRef Ref(const Ints& v) { return {v.data(), v.size()}; }
}  // namespace internal

inline ScalarType TypeOf(uint32_t dtype) {
  return static_cast<ScalarType>(static_cast<int8_t>(dtype));
}
inline uint32_t DtypeOf(const Tensor& t) {
  int32_t dtype = 0;
  Check(aoti_torch_get_dtype(t.get(), &dtype));
  return static_cast<uint32_t>(dtype);
}
inline Ints Sizes(const Tensor& t) {
  Ints sizes;
  for (int64_t i = 0; i < t.dim(); ++i) sizes.push_back(t.size(i));
  return sizes;
}
template <typename T>
T* Data(const Tensor& t) {
  void* data = nullptr;
  Check(aoti_torch_get_data_ptr(t.get(), &data));
  return static_cast<T*>(data);
}

// --- making -------------------------------------------------------------------------------------
inline Tensor Empty(const Ints& sizes, uint32_t dtype) {
  return torch::stable::empty(internal::Ref(sizes), TypeOf(dtype));
}
inline Tensor Full(const Ints& sizes, double value, uint32_t dtype) {
  return torch::stable::full(internal::Ref(sizes), value, TypeOf(dtype));
}
inline Tensor Number(double value, uint32_t dtype) { return Full({}, value, dtype); }
inline Tensor ZerosLike(const Tensor& t) {
  Tensor out = torch::stable::empty_like(t);
  return torch::stable::zero_(out);
}
inline Tensor Clone(const Tensor& t) { return torch::stable::clone(t); }
inline Tensor Detach(const Tensor& t) { return internal::Call("aten::detach", "", t); }
inline Tensor To(const Tensor& t, uint32_t dtype) {
  return internal::Call("aten::to", "dtype", t, TypeOf(dtype), false, false,
                        std::optional<torch::headeronly::MemoryFormat>());
}
inline void CopyInto(Tensor& to, const Tensor& from) { torch::stable::copy_(to, from); }
inline void SetRequiresGrad(const Tensor& t, bool on) {
  Check(torch_set_requires_grad(t.get(), on));
}

// --- shape --------------------------------------------------------------------------------------
inline Tensor Reshape(const Tensor& t, const Ints& sizes) {
  return internal::Call("aten::reshape", "", t, internal::Ref(sizes));
}
inline Tensor Transpose(const Tensor& t, int64_t a, int64_t b) {
  return internal::Call("aten::transpose", "int", t, a, b);
}
inline Tensor Contiguous(const Tensor& t) { return torch::stable::contiguous(t); }
inline Tensor Narrow(const Tensor& t, int64_t dim, int64_t start, int64_t length) {
  return internal::Call("aten::narrow", "", t, dim, start, length);
}
inline Tensor Select(const Tensor& t, int64_t dim, int64_t i) {
  return internal::Call("aten::select", "int", t, dim, i);
}
inline Tensor Unsqueeze(const Tensor& t, int64_t dim) {
  return internal::Call("aten::unsqueeze", "", t, dim);
}
inline Tensor Squeeze(const Tensor& t, int64_t dim) {
  return internal::Call("aten::squeeze", "dim", t, dim);
}
inline Tensor Expand(const Tensor& t, const Ints& sizes) {
  return internal::Call("aten::expand", "", t, internal::Ref(sizes), false);
}
inline Tensor Permute(const Tensor& t, const Ints& dims) {
  return internal::Call("aten::permute", "", t, internal::Ref(dims));
}
inline Tensor Cat(const std::vector<Tensor>& tensors, int64_t dim) {
  return internal::Call("aten::cat", "", tensors, dim);
}
inline Tensor Stack(const std::vector<Tensor>& tensors, int64_t dim) {
  return internal::Call("aten::stack", "", tensors, dim);
}
inline Tensor IndexSelect(const Tensor& t, int64_t dim, const Tensor& index) {
  return internal::Call("aten::index_select", "", t, dim, index);
}
inline Tensor Gather(const Tensor& t, int64_t dim, const Tensor& index) {
  return internal::Call("aten::gather", "", t, dim, index, false);
}

// --- arithmetic ---------------------------------------------------------------------------------
inline Tensor Sub(const Tensor& a, const Tensor& b) { return torch::stable::subtract(a, b, 1.0); }
// Subtraction of -1 times b: aten::add itself takes a Scalar.
inline Tensor Add(const Tensor& a, const Tensor& b) { return torch::stable::subtract(a, b, -1.0); }
// a + factor * b.
inline Tensor AddScaled(const Tensor& a, const Tensor& b, double factor) {
  return torch::stable::subtract(a, b, -factor);
}
inline Tensor Mul(const Tensor& a, const Tensor& b) {
  return internal::Call("aten::mul", "Tensor", a, b);
}
inline Tensor Scale(const Tensor& a, double factor) { return Mul(a, Number(factor, DtypeOf(a))); }
inline Tensor Div(const Tensor& a, const Tensor& b) {
  return internal::Call("aten::div", "Tensor", a, b);
}
inline Tensor Neg(const Tensor& t) { return internal::Call("aten::neg", "", t); }
inline Tensor Abs(const Tensor& t) { return internal::Call("aten::abs", "", t); }
inline Tensor Exp(const Tensor& t) { return internal::Call("aten::exp", "", t); }
inline Tensor Log(const Tensor& t) { return internal::Call("aten::log", "", t); }
inline Tensor Sqrt(const Tensor& t) { return internal::Call("aten::sqrt", "", t); }
inline Tensor Rsqrt(const Tensor& t) { return internal::Call("aten::rsqrt", "", t); }
inline Tensor Sigmoid(const Tensor& t) { return internal::Call("aten::sigmoid", "", t); }
inline Tensor Tanh(const Tensor& t) { return internal::Call("aten::tanh", "", t); }
inline Tensor Relu(const Tensor& t) { return internal::Call("aten::relu", "", t); }
inline Tensor Silu(const Tensor& t) { return internal::Call("aten::silu", "", t); }
inline Tensor Where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  return internal::Call("aten::where", "self", condition, a, b);
}
inline Tensor MaskedFill(const Tensor& t, const Tensor& mask, const Tensor& value) {
  return internal::Call("aten::masked_fill", "Tensor", t, mask, value);
}
inline Tensor Eq(const Tensor& a, const Tensor& b) {
  return internal::Call("aten::eq", "Tensor", a, b);
}

// --- reductions ---------------------------------------------------------------------------------
inline Tensor Sum(const Tensor& t) {
  return internal::Call("aten::sum", "", t, std::optional<ScalarType>());
}
inline Tensor Sum(const Tensor& t, const Ints& dims, bool keep) {
  return torch::stable::sum(t, internal::Ref(dims), keep);
}
inline Tensor Mean(const Tensor& t, const Ints& dims, bool keep) {
  return internal::Call(
      "aten::mean", "dim", t,
      std::optional<torch::headeronly::IntHeaderOnlyArrayRef>(internal::Ref(dims)), keep,
      std::optional<ScalarType>());
}
inline Tensor Amax(const Tensor& t, const Ints& dims, bool keep) {
  return internal::Call("aten::amax", "", t, internal::Ref(dims), keep);
}
inline Tensor Argmax(const Tensor& t, int64_t dim, bool keep) {
  return internal::Call("aten::argmax", "", t, std::optional<int64_t>(dim), keep);
}
inline Tensor Softmax(const Tensor& t, int64_t dim) {
  return internal::Call("aten::softmax", "int", t, dim, std::optional<ScalarType>());
}
inline Tensor LogSoftmax(const Tensor& t, int64_t dim) {
  return internal::Call("aten::log_softmax", "int", t, dim, std::optional<ScalarType>());
}

// --- layers -------------------------------------------------------------------------------------
inline Tensor Matmul(const Tensor& a, const Tensor& b) {
  return internal::Call("aten::matmul", "", a, b);
}
// x [..., in] · weight [out, in] transposed.
inline Tensor Linear(const Tensor& x, const Tensor& weight) {
  return internal::Call("aten::linear", "", x, weight, std::optional<Tensor>());
}
inline Tensor Embedding(const Tensor& weight, const Tensor& ids) {
  return internal::Call("aten::embedding", "", weight, ids, int64_t{-1}, false, false);
}
// q [B, heads, T, d], k and v [B, kv_heads, T, d]: causal attention, scaled by 1 / sqrt(d).
inline Tensor CausalAttention(const Tensor& q, const Tensor& k, const Tensor& v) {
  return internal::Call("aten::scaled_dot_product_attention", "", q, k, v, std::optional<Tensor>(),
                        0.0, true, std::optional<double>(), q.size(1) != k.size(1));
}
// logits [N, vocab], labels [N] i64: sum of the losses; labels of -100 are left out, and a share
// `smoothing` of the others is spread over all classes.
inline Tensor CrossEntropySum(const Tensor& logits, const Tensor& labels, double smoothing = 0) {
  constexpr int64_t kReduceSum = 2;
  return internal::Call("aten::cross_entropy_loss", "", logits, labels, std::optional<Tensor>(),
                        kReduceSum, int64_t{-100}, smoothing);
}

}  // namespace engine::ops

#endif  // ENGINE_TORCH_OPS_H_
