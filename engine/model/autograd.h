// The host's engine.autograd/1 and what else needs LibTorch's own C++ headers. Only autograd.cc
// includes them: they cost half a minute a file.
#ifndef ENGINE_MODEL_AUTOGRAD_H_
#define ENGINE_MODEL_AUTOGRAD_H_

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/ext/draft/autograd.h"
#include "engine/runtime/thread_state.h"
#include "engine/status.hpp"

namespace engine::model {

const engine_autograd* AutogradHost();

// The sum of `loss` over rows of x [N, hidden], given as `rows` [M] i64 with `labels` [M], at most
// `chunk` rows at a time. Gradients are computed at once, chunk by chunk, so that neither what
// `loss` makes of a chunk nor what its backward needs outlives it: what is kept is the gradient of
// x and of those `params` that the loss depends on.
using ChunkLoss =
    std::function<Status(const torch::stable::Tensor& x, const torch::stable::Tensor& labels,
                         std::optional<torch::stable::Tensor>* sum)>;
Status LossByChunks(const torch::stable::Tensor& x, const torch::stable::Tensor& rows,
                    const torch::stable::Tensor& labels,
                    const std::vector<torch::stable::Tensor>& params, int64_t chunk,
                    const ChunkLoss& loss, std::optional<torch::stable::Tensor>* sum);

// LibTorch's thread-local state of the calling thread, to be carried onto others.
std::unique_ptr<runtime::ThreadState> CaptureThreadState();
// Threads that LibTorch and the kernels compute with; also sets the kernels' pool.
void SetComputeThreads(int threads);
int ComputeThreads();
// TORCH_ABI_VERSION of the LibTorch that runs, and its readable fingerprint.
uint64_t TorchAbiVersion();
std::string TorchFingerprint();

}  // namespace engine::model

#endif  // ENGINE_MODEL_AUTOGRAD_H_
