// Stochastic gradient descent with momentum, as torch.optim.SGD computes it without dampening;
// weight decay is decoupled, as AdamW's is.
#ifndef PLUGINS_TRAINER_SGD_H_
#define PLUGINS_TRAINER_SGD_H_

#include "optimizer.h"

namespace engine::trainer {

class Sgd : public Optimizer {
 public:
  Sgd(double momentum, double weight_decay) : momentum_(momentum), weight_decay_(weight_decay) {}
  std::vector<std::pair<std::string, ops::Tensor>> States(size_t i) const override {
    if (momentum_ == 0) return {};
    return {{"momentum", velocity_[i]}};
  }

 protected:
  void MakeStates(const ops::Tensor& like) override {
    if (momentum_ != 0) velocity_.push_back(Zeros(like));
  }
  void StepOne(size_t i, const ops::Tensor& grad, double factor, double lr) override {
    if (dtype_ == ENGINE_F64) return StepAs<double>(i, grad, factor, lr);
    StepAs<float>(i, grad, factor, lr);
  }

 private:
  template <typename T>
  void StepAs(size_t i, const ops::Tensor& grad, double factor, double lr) {
    T* const p = ops::Data<T>(params_[i].tensor);
    T* const v = momentum_ == 0 ? nullptr : ops::Data<T>(velocity_[i]);
    const T* const gradient = ops::Data<T>(grad);
    const T by = static_cast<T>(factor), keep = static_cast<T>(1 - lr * weight_decay_),
            momentum = static_cast<T>(momentum_), rate = static_cast<T>(lr);
    Over(grad.numel(), [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        T g = gradient[k] * by;
        if (v != nullptr) g = v[k] = v[k] * momentum + g;
        p[k] = p[k] * keep - rate * g;
      }
    });
  }

  const double momentum_, weight_decay_;
  std::vector<ops::Tensor> velocity_;
};

}  // namespace engine::trainer

#endif  // PLUGINS_TRAINER_SGD_H_
