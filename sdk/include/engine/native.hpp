// LibTorch's C++ tensors for the NATIVE tier: between at::Tensor and the handles that cross the
// boundary, without a copy. The compiler keeps this out of STABLE plugins: their headers exclude
// it.
#ifndef ENGINE_NATIVE_HPP_
#define ENGINE_NATIVE_HPP_

#include <ATen/core/Tensor.h>
#include <torch/csrc/inductor/aoti_torch/utils.h>

#include <utility>

#include "engine/abi.h"

namespace engine::native {

// The tensor behind a handle that stays the caller's; borrowed as long as the handle is.
inline const at::Tensor& Borrow(AtenTensorHandle handle) {
  return *torch::aot_inductor::tensor_handle_to_tensor_pointer(handle);
}
// The tensor of a handle that was handed over, which ends.
inline at::Tensor Take(AtenTensorHandle handle) {
  at::Tensor* tensor = torch::aot_inductor::tensor_handle_to_tensor_pointer(handle);
  at::Tensor taken = std::move(*tensor);
  delete tensor;
  return taken;
}
// A new handle for whoever takes it over.
inline AtenTensorHandle Release(at::Tensor tensor) {
  return torch::aot_inductor::new_tensor_handle(std::move(tensor));
}

}  // namespace engine::native

#endif  // ENGINE_NATIVE_HPP_
