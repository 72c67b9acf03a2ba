// Losses over a head whose logits never exist as a whole: some rows at a time go through it, with
// their gradients at once, so that nothing which a chunk made outlives it.
#ifndef ENGINE_MODEL_LOSS_H_
#define ENGINE_MODEL_LOSS_H_

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "engine/model/train_ops.h"
#include "engine/status.hpp"

namespace engine::model {

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

// The same for a head made of those parts, without a branch, and cross-entropy of which a share
// `smoothing` is spread over all classes. Logits become their gradient in place.
Status FusedLoss(const torch::stable::Tensor& x, const torch::stable::Tensor& rows,
                 const torch::stable::Tensor& labels, const LinearParts& head, double smoothing,
                 int64_t chunk, std::optional<torch::stable::Tensor>* sum);

}  // namespace engine::model

#endif  // ENGINE_MODEL_LOSS_H_
