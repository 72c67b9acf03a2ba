#include "engine/model/autograd.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>
#include <ATen/autocast_mode.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/inductor/aoti_torch/utils.h>

#include "engine/fingerprint.h"
#include "engine/kernels/isa.h"
#include "engine/kernels/parallel.h"
#include "engine/kernels/pool.h"
#include "engine/model/block_cache.h"
#include "engine/status.hpp"
#include "engine/util.hpp"

namespace engine::model {
namespace {

using at::Tensor;
using torch::aot_inductor::new_tensor_handle;
using torch::aot_inductor::tensor_handle_to_tensor_pointer;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

Tensor& FromHandle(AtenTensorHandle handle) { return *tensor_handle_to_tensor_pointer(handle); }

// The state that a plugin handed over, freed once.
struct State {
  State(void* s, void (*f)(void*)) : state(s), free_state(f) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  void* const state;
  void (*const free_state)(void*);
  ~State() {
    if (free_state != nullptr) free_state(state);
  }
};

// Calls a plugin's function on tensors; its failure travels as an exception through LibTorch and is
// turned back into a status where the host was entered.
variable_list CallFn(engine_tensor_fn fn, void* state, const variable_list& in, uint32_t n_out) {
  std::vector<Tensor> copies(in);
  std::vector<AtenTensorHandle> handles;
  for (Tensor& t : copies) {
    handles.push_back(reinterpret_cast<AtenTensorHandle>(&t));
  }
  std::vector<AtenTensorHandle> out(n_out, nullptr);
  const Status status(
      fn(state, handles.data(), static_cast<uint32_t>(handles.size()), out.data(), n_out));
  variable_list results;
  for (AtenTensorHandle handle : out) {
    if (handle == nullptr) {
      results.emplace_back();
      continue;
    }
    results.push_back(FromHandle(handle));
    aoti_torch_delete_tensor_object(handle);
  }
  if (!status.ok()) {
    std::string words(status.message());
    if (!status.node().empty()) words = "'" + std::string(status.node()) + "': " + words;
    throw std::runtime_error(words);
  }
  return results;
}

variable_list Inputs(const AtenTensorHandle* in, uint32_t n) {
  variable_list list;
  for (uint32_t i = 0; i < n; ++i) list.push_back(FromHandle(in[i]));
  return list;
}

void HandOver(const variable_list& list, AtenTensorHandle* out) {
  for (size_t i = 0; i < list.size(); ++i) out[i] = new_tensor_handle(Tensor(list[i]));
}

bool AnyRequiresGrad(const variable_list& list) {
  for (const Tensor& t : list) {
    if (t.requires_grad()) return true;
  }
  return false;
}

// A function whose backward is a plugin's.
struct CustomNode : torch::autograd::Node {
  engine_tensor_fn backward = nullptr;
  std::shared_ptr<State> state;
  std::vector<SavedVariable> saved;
  std::vector<at::TensorOptions> output_options;
  std::vector<std::vector<int64_t>> output_sizes;

  std::string name() const override { return "EngineCustom"; }
  void release_variables() override {
    for (SavedVariable& s : saved) s.reset_data();
  }
  variable_list apply(variable_list&& grads) override {
    variable_list in;
    for (const SavedVariable& s : saved) in.push_back(s.unpack());
    for (size_t i = 0; i < grads.size(); ++i) {
      in.push_back(grads[i].defined() ? grads[i] : at::zeros(output_sizes[i], output_options[i]));
    }
    at::NoGradGuard no_grad;
    return CallFn(backward, state->state, in, static_cast<uint32_t>(saved.size()));
  }
};

engine_status* Apply(engine_tensor_fn forward, engine_tensor_fn backward, void* raw_state,
                     void (*free_state)(void*), const AtenTensorHandle* in, uint32_t n_in,
                     AtenTensorHandle* out, uint32_t n_out) {
  auto state = std::make_shared<State>(raw_state, free_state);
  return Guard([&] {
    const variable_list inputs = Inputs(in, n_in);
    const bool record = at::GradMode::is_enabled() && AnyRequiresGrad(inputs);
    variable_list outputs;
    {
      at::NoGradGuard no_grad;
      outputs = CallFn(forward, raw_state, inputs, n_out);
    }
    if (record) {
      c10::intrusive_ptr<CustomNode> node = c10::make_intrusive<CustomNode>();
      node->backward = backward;
      node->state = state;
      node->set_next_edges(torch::autograd::collect_next_edges(inputs));
      for (const Tensor& t : inputs) node->saved.emplace_back(t, false);
      for (Tensor& t : outputs) {
        node->output_options.push_back(t.options());
        node->output_sizes.push_back(t.sizes().vec());
        torch::autograd::set_history(t, node);
      }
    }
    HandOver(outputs, out);
    return Status();
  });
}

// Autocast as it was when a checkpoint was first run, so that its replay computes the same.
struct Autocast {
  bool enabled = at::autocast::is_autocast_enabled(at::kCPU);
  at::ScalarType dtype = at::autocast::get_autocast_dtype(at::kCPU);
  bool cache = at::autocast::is_autocast_cache_enabled();
  void Restore() const {
    at::autocast::set_autocast_enabled(at::kCPU, enabled);
    at::autocast::set_autocast_dtype(at::kCPU, dtype);
    at::autocast::set_autocast_cache_enabled(cache);
  }
};

thread_local int replays = 0;

// A stretch of the forward pass that is run again during backward. Parameters are inputs of the
// node as well, so that their gradients flow even where no activation asks for one.
struct CheckpointNode : torch::autograd::Node {
  engine_tensor_fn fn = nullptr;
  std::shared_ptr<State> state;
  std::vector<SavedVariable> inputs;
  std::vector<SavedVariable> params;
  uint32_t n_out = 0;
  Autocast autocast;

  std::string name() const override { return "EngineCheckpoint"; }
  void release_variables() override {
    for (SavedVariable& s : inputs) s.reset_data();
    for (SavedVariable& s : params) s.reset_data();
  }
  variable_list apply(variable_list&& grads) override {
    variable_list detached, wanted;
    std::vector<size_t> place;  // of each wanted tensor among this node's edges
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Tensor original = inputs[i].unpack();
      Tensor copy = original.detach();
      copy.set_requires_grad(original.requires_grad());
      if (original.requires_grad()) {
        wanted.push_back(copy);
        place.push_back(i);
      }
      detached.push_back(std::move(copy));
    }
    for (size_t i = 0; i < params.size(); ++i) {
      wanted.push_back(params[i].unpack());
      place.push_back(inputs.size() + i);
    }
    variable_list outputs;
    {
      at::AutoGradMode enable(true);
      const Autocast current;
      autocast.Restore();
      ++replays;
      const auto leave = [&] {
        --replays;
        current.Restore();
      };
      try {
        outputs = CallFn(fn, state->state, detached, n_out);
      } catch (...) {
        leave();
        throw;
      }
      leave();
    }
    variable_list roots, root_grads;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!grads[i].defined() || !outputs[i].requires_grad()) continue;
      if (outputs[i].sizes() != grads[i].sizes()) {
        throw std::runtime_error("a checkpointed stretch gave another shape when it was run again");
      }
      roots.push_back(outputs[i]);
      root_grads.push_back(grads[i]);
    }
    variable_list result(inputs.size() + params.size());
    if (roots.empty()) return result;
    const variable_list found = torch::autograd::grad(roots, wanted, root_grads, std::nullopt,
                                                      false, /*allow_unused=*/true);
    for (size_t i = 0; i < found.size(); ++i) result[place[i]] = found[i];
    return result;
  }
};

engine_status* Checkpoint(engine_tensor_fn fn, void* raw_state, void (*free_state)(void*),
                          const AtenTensorHandle* in, uint32_t n_in, const AtenTensorHandle* params,
                          uint32_t n_params, AtenTensorHandle* out, uint32_t n_out) {
  auto state = std::make_shared<State>(raw_state, free_state);
  return Guard([&] {
    const variable_list inputs = Inputs(in, n_in);
    variable_list trainable;
    for (const Tensor& t : Inputs(params, n_params)) {
      if (t.requires_grad()) trainable.push_back(t);
    }
    if (!at::GradMode::is_enabled() || (!AnyRequiresGrad(inputs) && trainable.empty())) {
      HandOver(CallFn(fn, raw_state, inputs, n_out), out);
      return Status();
    }
    variable_list outputs;
    {
      at::NoGradGuard no_grad;
      outputs = CallFn(fn, raw_state, inputs, n_out);
    }
    c10::intrusive_ptr<CheckpointNode> node = c10::make_intrusive<CheckpointNode>();
    node->fn = fn;
    node->state = state;
    node->n_out = n_out;
    variable_list edges = inputs;
    edges.insert(edges.end(), trainable.begin(), trainable.end());
    node->set_next_edges(torch::autograd::collect_next_edges(edges));
    for (const Tensor& t : inputs) node->inputs.emplace_back(t, false);
    for (const Tensor& t : trainable) node->params.emplace_back(t, false);
    for (Tensor& t : outputs) torch::autograd::set_history(t, node);
    HandOver(outputs, out);
    return Status();
  });
}

engine_status* Backward(AtenTensorHandle loss, AtenTensorHandle grad) {
  return Guard([&] {
    const Tensor& root = FromHandle(loss);
    if (!root.requires_grad()) {
      return Error(ENGINE_FAILED_PRECONDITION,
                   "backward: the tensor depends on nothing that is trainable");
    }
    variable_list grads;
    if (grad != nullptr) grads.push_back(FromHandle(grad));
    torch::autograd::backward({root}, grads);
    return Status();
  });
}

engine_status* GradOf(AtenTensorHandle leaf, AtenTensorHandle* out) {
  return Guard([&] {
    const Tensor& grad = FromHandle(leaf).grad();
    *out = grad.defined() ? new_tensor_handle(Tensor(grad)) : nullptr;
    return Status();
  });
}

engine_status* ClearGrad(AtenTensorHandle leaf) {
  return Guard([&] {
    FromHandle(leaf).mutable_grad() = Tensor();
    return Status();
  });
}

// Inference mode is a guard in LibTorch; its three settings are what the guard sets.
engine_status* SetMode(uint32_t mode, uint32_t* previous) {
  return Guard([&] {
    if (mode > ENGINE_GRAD_INFERENCE) {
      return Error(ENGINE_INVALID_ARGUMENT, "grad mode ", mode, " is unknown");
    }
    const bool grad = at::GradMode::is_enabled();
    const bool inference = c10::InferenceMode::is_enabled();
    *previous = inference ? ENGINE_GRAD_INFERENCE : grad ? ENGINE_GRAD_TRAIN : ENGINE_GRAD_NO_GRAD;
    const bool to_inference = mode == ENGINE_GRAD_INFERENCE;
    c10::AutogradState::set_tls_state(c10::AutogradState(
        /*grad_mode=*/mode == ENGINE_GRAD_TRAIN, /*inference_mode=*/to_inference,
        /*fw_grad_mode=*/!to_inference, /*multithreading_enabled=*/!to_inference));
    return Status();
  });
}

uint32_t ProductType(engine_str* why) {
  static const std::string report = kernels::IsaReport();
  const bool narrow = report.find("bf16") != std::string::npos;
  static const std::string text = "this processor has " + report +
                                  (narrow ? ": products of bf16 pairs are faster than those of f32"
                                          : ", which multiplies no bf16: f32 is faster");
  *why = Str(text);
  return narrow ? ENGINE_BF16 : ENGINE_F32;
}

const engine_autograd kAutograd = {sizeof(engine_autograd),
                                   &Apply,
                                   &Checkpoint,
                                   &Backward,
                                   &GradOf,
                                   &ClearGrad,
                                   &SetMode,
                                   &ProductType};

class TorchThreadState : public runtime::ThreadState {
 public:
  void Around(const std::function<void()>& body) const override {
    const at::ThreadLocalStateGuard guard(state_);
    body();
  }

 private:
  const at::ThreadLocalState state_;
};

}  // namespace

const engine_autograd* AutogradHost() { return &kAutograd; }

NarrowGuard::NarrowGuard(bool on)
    : enabled_(at::autocast::is_autocast_enabled(at::kCPU)),
      dtype_(static_cast<int>(at::autocast::get_autocast_dtype(at::kCPU))) {
  at::autocast::set_autocast_enabled(at::kCPU, on);
  if (!on) return;
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  SetTorchThreads(ComputeThreads());  // its products are the fast ones here
}
NarrowGuard::~NarrowGuard() {
  at::autocast::set_autocast_enabled(at::kCPU, enabled_);
  at::autocast::set_autocast_dtype(at::kCPU, static_cast<at::ScalarType>(dtype_));
}

bool Replaying() { return replays > 0; }
bool NarrowProducts() { return at::autocast::is_autocast_enabled(at::kCPU); }

std::unique_ptr<runtime::ThreadState> CaptureThreadState() {
  return std::make_unique<TorchThreadState>();
}

void SetComputeThreads(int threads) {
  InstallTensorMemory();
  at::set_num_threads(threads);
  kernels::SetPoolThreads(threads);
  kernels::SetParallel(&kernels::PoolParallel);
}
int ComputeThreads() { return kernels::PoolThreads(); }
void SetTorchThreads(int threads) { at::set_num_threads(threads); }

uint64_t TorchAbiVersion() { return aoti_torch_abi_version(); }

std::string TorchFingerprint() { return ENGINE_FINGERPRINT; }

}  // namespace engine::model
