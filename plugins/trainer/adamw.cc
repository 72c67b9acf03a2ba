#include "adamw.h"

#include <cmath>
#include <utility>

#include "engine/host.hpp"

namespace engine::trainer {

Status AdamW::Init(const AdamWSettings& settings, std::vector<Param> params) {
  settings_ = settings;
  params_ = std::move(params);
  for (const Param& param : params_) {
    dtype_ = ops::DtypeOf(param.tensor);
    if (dtype_ != ENGINE_F32 && dtype_ != ENGINE_F64) {
      return Error(ENGINE_UNIMPLEMENTED,
                   "training runs in F32 or F64; load the model in one of them");
    }
    mean_.push_back(ops::ZerosLike(ops::Detach(param.tensor)));
    square_.push_back(ops::ZerosLike(ops::Detach(param.tensor)));
  }
  return Status();
}

template <typename T>
void AdamW::StepOf(const std::vector<ops::Tensor>& grads, double factor, double lr) {
  const double correction1 = 1 - std::pow(settings_.beta1, static_cast<double>(step_));
  const double correction2 = std::sqrt(1 - std::pow(settings_.beta2, static_cast<double>(step_)));
  struct Work {
    T *p, *m, *v;
    const T* g;
    T factor, keep, beta1, beta2, eps, correction2, step_size;
  };
  for (size_t i = 0; i < params_.size(); ++i) {
    const ops::Tensor grad = ops::Contiguous(grads[i]);
    const double rate = lr * params_[i].lr_ratio;
    Work work = {ops::Data<T>(params_[i].tensor),
                 ops::Data<T>(mean_[i]),
                 ops::Data<T>(square_[i]),
                 ops::Data<T>(grad),
                 static_cast<T>(factor),
                 static_cast<T>(1 - rate * settings_.weight_decay),
                 static_cast<T>(1 - settings_.beta1),
                 static_cast<T>(settings_.beta2),
                 static_cast<T>(settings_.eps),
                 static_cast<T>(correction2),
                 static_cast<T>(rate / correction1)};
    int64_t count = 1;
    for (int64_t d : ops::Sizes(grad)) count *= d;
    ThisHost().tasks->parallel_for(
        count, 16384,
        [](void* arg, int64_t begin, int64_t end) {
          const Work& w = *static_cast<Work*>(arg);
          for (int64_t k = begin; k < end; ++k) {
            const T g = w.g[k] * w.factor;
            w.p[k] *= w.keep;
            w.m[k] += w.beta1 * (g - w.m[k]);
            w.v[k] = w.v[k] * w.beta2 + (T{1} - w.beta2) * g * g;
            const T denominator = std::sqrt(w.v[k]) / w.correction2 + w.eps;
            w.p[k] -= w.step_size * (w.m[k] / denominator);
          }
        },
        &work);
  }
}

void AdamW::Step(const std::vector<ops::Tensor>& grads, double factor, double lr) {
  ++step_;
  if (dtype_ == ENGINE_F64) {
    StepOf<double>(grads, factor, lr);
  } else {
    StepOf<float>(grads, factor, lr);
  }
}

}  // namespace engine::trainer
