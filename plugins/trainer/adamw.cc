#include "adamw.h"

#include <cmath>

namespace engine::trainer {

void AdamW::MakeStates(const ops::Tensor& like) {
  mean_.push_back(Zeros(like));
  square_.push_back(Zeros(like));
}

template <typename T>
void AdamW::StepAs(size_t i, const ops::Tensor& grad, double factor, double lr) {
  const double correction1 = 1 - std::pow(settings_.beta1, static_cast<double>(step_));
  const double correction2 = std::sqrt(1 - std::pow(settings_.beta2, static_cast<double>(step_)));
  T *const p = ops::Data<T>(params_[i].tensor), *const m = ops::Data<T>(mean_[i]),
           *const v = ops::Data<T>(square_[i]);
  const T* const gradient = ops::Data<T>(grad);
  const T by = static_cast<T>(factor), keep = static_cast<T>(1 - lr * settings_.weight_decay),
          beta1 = static_cast<T>(1 - settings_.beta1), beta2 = static_cast<T>(settings_.beta2),
          eps = static_cast<T>(settings_.eps), corrected = static_cast<T>(correction2),
          step_size = static_cast<T>(lr / correction1);
  Over(grad.numel(), [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const T g = gradient[k] * by;
      p[k] *= keep;
      m[k] += beta1 * (g - m[k]);
      v[k] = v[k] * beta2 + (T{1} - beta2) * g * g;
      const T denominator = std::sqrt(v[k]) / corrected + eps;
      p[k] -= step_size * (m[k] / denominator);
    }
  });
}

void AdamW::StepOne(size_t i, const ops::Tensor& grad, double factor, double lr) {
  if (dtype_ == ENGINE_F64) return StepAs<double>(i, grad, factor, lr);
  StepAs<float>(i, grad, factor, lr);
}

}  // namespace engine::trainer
