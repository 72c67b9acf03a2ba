#include "tests/trained.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "engine/model/autograd.h"
#include "engine/torch_ops.h"

namespace engine::tests {

Training Train(model::Model* model, int64_t tokens, int64_t batch, const model::LossHow& how) {
  const engine_autograd* autograd = model::AutogradHost();
  const ops::Tensor ids = ops::Empty({batch, tokens}, ENGINE_I64);
  const ops::Tensor labels = ops::Empty({batch, tokens}, ENGINE_I64);
  for (int64_t i = 0; i < batch * tokens; ++i) {
    ops::Data<int64_t>(ids)[i] = (i * 7919 + 13) % 300;
    ops::Data<int64_t>(labels)[i] = i % tokens == tokens - 1 ? -100 : ((i + 1) * 7919 + 13) % 300;
  }
  const auto good = [](const Status& s) {
    if (!s.ok()) throw std::runtime_error(std::string(s.message()));
  };
  for (const model::Param& p : model->params()) {
    if (p.trainable) good(Status(autograd->clear_grad(p.tensor->get())));
  }
  std::optional<ops::Tensor> sum;
  int64_t count = 0;
  good(model->Loss(ids, labels, how, &sum, &count));
  good(Status(autograd->backward(sum->get(), nullptr)));
  Training t;
  t.loss = *ops::Data<double>(ops::To(ops::Detach(*sum), ENGINE_F64)) / static_cast<double>(count);
  for (const model::Param& p : model->params()) {
    if (!p.trainable) continue;
    AtenTensorHandle handle = nullptr;
    good(Status(autograd->grad_of(p.tensor->get(), &handle)));
    std::vector<double>& to = t.grads[p.name];
    if (handle == nullptr) continue;
    const ops::Tensor grad = ops::Contiguous(ops::To(ops::Tensor(handle), ENGINE_F64));
    const double* data = ops::Data<double>(grad);
    to.assign(data, data + grad.numel());
  }
  return t;
}

std::string Difference(const Training& a, const Training& b) {
  if (a.loss != b.loss) return "loss";
  if (a.grads.size() != b.grads.size()) return "number of parameters";
  for (const auto& [name, grad] : a.grads) {
    auto it = b.grads.find(name);
    if (it == b.grads.end()) return "parameter " + name;
    if (it->second != grad) return "gradient of " + name;
  }
  return "";
}

Slopes CompareSlopes(model::Model* model, const std::string& ending, int64_t at) {
  const Training here = Train(model);
  Slopes slopes;
  for (const model::Param& p : model->params()) {
    if (!p.trainable || !p.name.ends_with(ending)) continue;
    double& value = ops::Data<double>(ops::Detach(*p.tensor))[at];
    // Gradients are of the sum over the labels that count, all but one in each of two rows of 48.
    const double before = value, h = 1e-6, labels = 94;
    value = before + h;
    const double above = Train(model).loss;
    value = before - h;
    const double below = Train(model).loss;
    value = before;
    const double gradient = here.grads.at(p.name).at(static_cast<size_t>(at));
    const double slope = labels * (above - below) / (2 * h);
    slopes.error = std::max(slopes.error, std::abs(slope - gradient) / (1 + std::abs(gradient)));
    ++slopes.count;
  }
  return slopes;
}

std::string Untrained(const Training& t, bool a_too) {
  for (const auto& [name, grad] : t.grads) {
    if (grad.empty()) return name + " got no gradient";
    double most = 0;
    for (double g : grad) {
      if (!std::isfinite(g)) return name + " got a gradient that is not finite";
      most = std::max(most, std::abs(g));
    }
    if (most == 0 && (a_too || name.find("lora_B") != std::string::npos)) {
      return name + " got a gradient of zero";
    }
  }
  return "";
}

namespace {

constexpr int64_t kTokens = 40;
int32_t TokenAt(int64_t i) { return static_cast<int32_t>((i * 7919 + 13) % 300); }

}  // namespace

std::vector<double> Logits(model::Model* model) {
  const ops::Tensor ids = ops::Empty({1, kTokens}, ENGINE_I64);
  for (int64_t i = 0; i < kTokens; ++i) ops::Data<int64_t>(ids)[i] = TokenAt(i);
  std::optional<ops::Tensor> logits;
  const Status status = model->Forward(ids, &logits);
  if (!status.ok()) throw std::runtime_error(std::string(status.message()));
  const ops::Tensor wide = ops::Contiguous(ops::To(ops::Detach(*logits), ENGINE_F64));
  return std::vector<double>(ops::Data<double>(wide), ops::Data<double>(wide) + wide.numel());
}

std::vector<double> ServedLogits(model::Model* model, uint32_t adapter) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < kTokens; ++i) tokens.push_back(TokenAt(i));
  engine_step_sequence s = Sized<engine_step_sequence>();
  s.request = 1;
  s.tokens = tokens.data();
  s.token_count = s.logits_count = kTokens;
  s.adapter = adapter;
  std::vector<float> logits(static_cast<size_t>(kTokens * model->config().vocab));
  const engine_step step = {sizeof(engine_step), 1, &s};
  const Status status = model->Step(step, logits.data());
  if (!status.ok()) throw std::runtime_error(std::string(status.message()));
  return std::vector<double>(logits.begin(), logits.end());
}

double Distance(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return INFINITY;
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

void MoveAdapters(model::Model* model) {
  for (const model::Param& p : model->params()) {
    if (!p.trainable || p.name.find("lora_B") == std::string::npos) continue;
    const ops::Tensor f64 = ops::Contiguous(ops::To(ops::Detach(*p.tensor), ENGINE_F64));
    for (int64_t i = 0; i < f64.numel(); ++i) {
      ops::Data<double>(f64)[i] = 0.02 * std::sin(static_cast<double>(i) * 1.7 + 0.3);
    }
    ops::Tensor target = ops::Detach(*p.tensor);
    ops::CopyInto(target, ops::To(f64, ops::DtypeOf(*p.tensor)));
  }
  model->ParamsChanged();
}

double Distance(const Training& a, const Training& b) {
  double worst = std::abs(a.loss - b.loss);
  if (a.grads.size() != b.grads.size()) return INFINITY;
  for (const auto& [name, grad] : a.grads) {
    const auto it = b.grads.find(name);
    if (it == b.grads.end() || it->second.size() != grad.size()) return INFINITY;
    double most = 0, apart = 0;
    for (size_t i = 0; i < grad.size(); ++i) {
      most = std::max(most, std::abs(grad[i]));
      apart = std::max(apart, std::abs(grad[i] - it->second[i]));
    }
    if (most > 0) worst = std::max(worst, apart / most);
  }
  return worst;
}

std::string Base(const std::string& path, const std::string& rest) {
  return "resource { name: \"base\" load { path: \"" + path + "\" weights: DECODED " + rest +
         " } }\n";
}
std::string On(const std::string& name, const std::string& from, const std::string& kind) {
  return "resource { name: \"" + name + "\" from: \"" + from + "\" " + kind + " }\n";
}

}  // namespace engine::tests
