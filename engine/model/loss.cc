#include "engine/model/loss.h"

#include "engine/kernels/kernels.h"
#include "engine/kernels/parallel.h"
#include "engine/model/train_nodes.h"
#include "engine/model/train_products.h"

namespace engine::model {
namespace {

// A loss whose gradients are known already; they wait for the one that it is scaled by.
struct LossNode : torch::autograd::Node {
  variable_list grads;  // of each edge for a gradient of 1; undefined: none

  std::string name() const override { return "EngineLoss"; }
  void release_variables() override { grads.clear(); }
  variable_list apply(variable_list&& scale) override {
    if (grads.empty()) throw std::runtime_error("a loss was gone back through twice");
    for (Tensor& grad : grads) {
      if (grad.defined()) grad.mul_(scale[0].to(grad.scalar_type()));
    }
    return std::move(grads);
  }
};

// Ties a loss to what it depends on, with the gradients that are known already.
void Tie(const variable_list& edges, variable_list grads, Tensor* loss) {
  c10::intrusive_ptr<LossNode> node = c10::make_intrusive<LossNode>();
  node->set_next_edges(torch::autograd::collect_next_edges(edges));
  node->grads = std::move(grads);
  torch::autograd::set_history(*loss, node);
}

// Losses of rows of logits [M, vocab], which become their gradient where `record` says so.
double Losses(Tensor* logits, const Tensor& labels, double smoothing, bool record) {
  const int64_t rows = logits->size(0), vocab = logits->size(1);
  const int64_t* const label = labels.const_data_ptr<int64_t>();
  std::vector<double> losses(static_cast<size_t>(rows));
  if (OnKernels(*logits)) {
    float* const z = logits->mutable_data_ptr<float>();
    const kernels::Road& road = kernels::ActiveRoad();
    kernels::ParallelFor(rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        losses[static_cast<size_t>(r)] =
            road.loss(z + r * vocab, vocab, label[r], static_cast<float>(smoothing), record);
      }
    });
    double total = 0;
    for (double loss : losses) total += loss;
    return total;
  }
  const Tensor at = labels.to(logits->device()).unsqueeze(1), logs = at::log_softmax(*logits, 1);
  const double total = -(1 - smoothing) * logs.gather(1, at).sum().item<double>() -
                       smoothing / static_cast<double>(vocab) * logs.sum().item<double>();
  if (record) {
    *logits = logs.exp() - smoothing / static_cast<double>(vocab);
    logits->scatter_add_(1, at, at::full_like(at, smoothing - 1, logits->options()));
  }
  return total;
}

// Rows of a head's weight that gradients go back through at once, where a copy is needed.
constexpr int64_t kWeightRows = 4096;

}  // namespace

Status LossByChunks(const torch::stable::Tensor& x, const torch::stable::Tensor& rows,
                    const torch::stable::Tensor& labels,
                    const std::vector<torch::stable::Tensor>& params, int64_t chunk,
                    const ChunkLoss& loss, std::optional<torch::stable::Tensor>* sum) {
  const Tensor hidden = ToAten(x), all_rows = ToAten(rows), all_labels = ToAten(labels);
  variable_list leaves;
  for (const torch::stable::Tensor& p : params) {
    Tensor leaf = ToAten(p);
    if (leaf.requires_grad()) leaves.push_back(std::move(leaf));
  }
  const bool record = at::GradMode::is_enabled() && (hidden.requires_grad() || !leaves.empty());
  // In F64, so that the number of chunks hardly shows.
  Tensor total = at::zeros({}, at::kDouble);
  at::ScalarType dtype = hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  Tensor x_grad;
  variable_list leaf_grads(leaves.size());
  for (int64_t begin = 0; begin < all_rows.size(0); begin += chunk) {
    const int64_t length = std::min(chunk, all_rows.size(0) - begin);
    const Tensor at = all_rows.narrow(0, begin, length);
    Tensor some = hidden.detach().index_select(0, at);
    some.set_requires_grad(record && hidden.requires_grad());
    std::optional<torch::stable::Tensor> part;
    {
      const at::AutoGradMode mode(record);
      ENGINE_RETURN_IF_ERROR(
          loss(ToStable(some), ToStable(all_labels.narrow(0, begin, length)), &part));
    }
    const Tensor value = ToAten(*part);
    total += value.detach().to(at::kDouble);
    if (!record || !value.requires_grad()) continue;
    variable_list wanted;
    if (some.requires_grad()) wanted.push_back(some);
    wanted.insert(wanted.end(), leaves.begin(), leaves.end());
    const variable_list found = torch::autograd::grad({value}, wanted, {}, std::nullopt, false,
                                                      /*allow_unused=*/true);
    size_t next = 0;
    if (some.requires_grad()) {
      if (!x_grad.defined()) x_grad = at::zeros_like(hidden.detach());
      if (found[next].defined()) x_grad.index_copy_(0, at, found[next]);
      ++next;
    }
    for (size_t i = 0; i < leaves.size(); ++i) {
      const Tensor& grad = found[next + i];
      if (!grad.defined()) continue;
      if (leaf_grads[i].defined()) {
        leaf_grads[i] += grad;
      } else {
        leaf_grads[i] = grad.clone();
      }
    }
  }
  Tensor result = total.to(dtype);
  if (record) {
    variable_list edges = {hidden}, grads = {x_grad};
    edges.insert(edges.end(), leaves.begin(), leaves.end());
    grads.insert(grads.end(), leaf_grads.begin(), leaf_grads.end());
    Tie(edges, std::move(grads), &result);
  }
  *sum = ToStable(result);
  return Status();
}

Status FusedLoss(const torch::stable::Tensor& x, const torch::stable::Tensor& rows,
                 const torch::stable::Tensor& labels, const LinearParts& head, double smoothing,
                 int64_t chunk, std::optional<torch::stable::Tensor>* sum) {
  const Tensor hidden = ToAten(x), all_rows = ToAten(rows), all_labels = ToAten(labels);
  const Tensor weight = head.weight ? ToAten(*head.weight) : Tensor();
  const bool own = weight.defined() && weight.requires_grad();
  const bool record = at::GradMode::is_enabled() && (hidden.requires_grad() || own);
  const at::NoGradGuard no_grad;
  const bool wide = hidden.scalar_type() == at::kDouble;
  const at::ScalarType loss_type = wide ? at::kDouble : at::kFloat;
  const at::ScalarType type = at::autocast::is_autocast_enabled(at::kCPU) && !wide
                                  ? at::autocast::get_autocast_dtype(at::kCPU)
                                  : hidden.scalar_type();
  const Tensor w = weight.defined() ? weight.detach().to(type) : Tensor();
  Tensor x_grad, w_grad;
  if (record && hidden.requires_grad()) x_grad = at::zeros_like(hidden);
  if (record && own) w_grad = at::zeros_like(weight);
  double total = 0;
  for (int64_t begin = 0; begin < all_rows.size(0); begin += chunk) {
    const int64_t length = std::min(chunk, all_rows.size(0) - begin);
    const Tensor at = all_rows.narrow(0, begin, length);
    const Tensor some = hidden.index_select(0, at).to(type);
    Tensor logits =
        (head.packed != nullptr ? PackedProduct(some, *head.packed) : Times(some, w, false))
            .to(loss_type);
    total += Losses(&logits, all_labels.narrow(0, begin, length).contiguous(), smoothing, record);
    if (!record) continue;
    const Tensor back = logits.to(type);
    if (x_grad.defined()) {
      Tensor dx;
      if (head.packed == nullptr) {
        dx = Times(back, w, true);
      } else {
        dx = at::empty_like(some);
        for (int64_t first = 0; first < back.size(1); first += kWeightRows) {
          const int64_t last = std::min(back.size(1), first + kWeightRows);
          ProductSum part;
          part.Add(back.narrow(1, first, last - first),
                   UnpackedRows(*head.packed, first, last, type), true);
          part.RunInto(&dx, first > 0);
        }
      }
      x_grad.index_copy_(0, at, dx.to(x_grad.scalar_type()));
    }
    for (int64_t first = 0; w_grad.defined() && first < back.size(1); first += kWeightRows) {
      const int64_t count = std::min(back.size(1) - first, kWeightRows);
      Tensor rows_of = w_grad.narrow(0, first, count);
      const Tensor part = back.narrow(1, first, count).t().contiguous();
      if (rows_of.scalar_type() == part.scalar_type()) {
        ProductSum sum_of;
        sum_of.Add(part, some, /*transposed=*/true);
        sum_of.RunInto(&rows_of, /*add=*/true);
      } else {
        rows_of += Times(part, some, true).to(rows_of.scalar_type());
      }
    }
  }
  Tensor result = at::full({}, total, hidden.options().dtype(loss_type));
  if (record) Tie({hidden, weight}, {x_grad, w_grad}, &result);
  *sum = ToStable(result);
  return Status();
}

}  // namespace engine::model
