// What the autograd nodes of training are made with. Needs LibTorch's own headers; see autograd.h.
#ifndef ENGINE_MODEL_TRAIN_NODES_H_
#define ENGINE_MODEL_TRAIN_NODES_H_

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/inductor/aoti_torch/utils.h>
#include <torch/csrc/stable/tensor.h>

#include <vector>

#include "engine/kernels/kernels.h"

namespace engine::model {

using at::Tensor;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// The pieces that rows are shared out in; sums over rows go by them, so that threads change no bit.
inline constexpr int64_t kRowsTogether = 64;

inline Tensor ToAten(const torch::stable::Tensor& t) {
  return *torch::aot_inductor::tensor_handle_to_tensor_pointer(t.get());
}
inline torch::stable::Tensor ToStable(const Tensor& t) {
  return torch::stable::Tensor(torch::aot_inductor::new_tensor_handle(Tensor(t)));
}

inline Tensor AsRows(const Tensor& x) { return x.contiguous().view({-1, x.size(-1)}); }

inline std::vector<int64_t> SizesWith(const Tensor& x, int64_t last) {
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = last;
  return sizes;
}

inline bool Autocast() { return at::autocast::is_autocast_enabled(at::kCPU); }

// What products on x run in.
inline at::ScalarType ProductType(const Tensor& x) {
  return Autocast() && x.scalar_type() != at::kDouble ? at::autocast::get_autocast_dtype(at::kCPU)
                                                      : x.scalar_type();
}

// True for what the element-wise kernels take, bf16 by way of a row in float.
inline bool OnRows(const Tensor& t) {
  return t.device().is_cpu() && (t.scalar_type() == at::kFloat || t.scalar_type() == at::kBFloat16);
}

// Rows of a contiguous tensor as floats: in place, or through a buffer.
class Rows {
 public:
  explicit Rows(const Tensor& t)
      : width_(t.size(-1)), narrow_(t.scalar_type() == at::kBFloat16), data_(t.data_ptr()) {}
  const float* Read(int64_t row, std::vector<float>* buffer) const {
    if (!narrow_) return static_cast<float*>(data_) + row * width_;
    buffer->resize(static_cast<size_t>(width_));
    const uint16_t* from = static_cast<uint16_t*>(data_) + row * width_;
    for (int64_t i = 0; i < width_; ++i)
      (*buffer)[static_cast<size_t>(i)] = kernels::FromBf16(from[i]);
    return buffer->data();
  }
  float* Write(int64_t row, std::vector<float>* buffer) const {
    if (!narrow_) return static_cast<float*>(data_) + row * width_;
    buffer->resize(static_cast<size_t>(width_));
    return buffer->data();
  }
  void Done(int64_t row, const float* values) const {
    if (narrow_) {
      kernels::ActiveRoad().to_bf16(values, width_, static_cast<uint16_t*>(data_) + row * width_);
    }
  }

 private:
  const int64_t width_;
  const bool narrow_;
  void* const data_;
};

inline bool Recording(const variable_list& inputs) {
  if (!at::GradMode::is_enabled()) return false;
  for (const Tensor& t : inputs) {
    if (t.defined() && t.requires_grad()) return true;
  }
  return false;
}

// Ties outputs to a node whose edges are the inputs; an undefined input is no edge.
template <typename Node>
void Record(const c10::intrusive_ptr<Node>& node, const variable_list& inputs,
            variable_list* outputs) {
  node->set_next_edges(torch::autograd::collect_next_edges(inputs));
  for (Tensor& t : *outputs) torch::autograd::set_history(t, node);
}

// Keeps tensors from forward to backward as SavedVariables, which notice changes in between.
struct Saved {
  std::vector<SavedVariable> list;
  void Keep(const Tensor& t) { list.emplace_back(t, false); }
  variable_list Take() const {
    variable_list out;
    for (const SavedVariable& s : list) out.push_back(s.unpack());
    return out;
  }
  void Drop() {
    for (SavedVariable& s : list) s.reset_data();
  }
};

}  // namespace engine::model

#endif  // ENGINE_MODEL_TRAIN_NODES_H_
