// AdamW in the order of torch.optim.AdamW's single-tensor form, so that the results agree with it.
#ifndef PLUGINS_TRAINER_ADAMW_H_
#define PLUGINS_TRAINER_ADAMW_H_

#include "optimizer.h"

namespace engine::trainer {

struct AdamWSettings {
  double beta1, beta2, eps, weight_decay;
};

class AdamW : public Optimizer {
 public:
  explicit AdamW(const AdamWSettings& settings) : settings_(settings) {}
  std::vector<std::pair<std::string, ops::Tensor>> States(size_t i) const override {
    return {{"mean", mean_[i]}, {"square", square_[i]}};
  }

 protected:
  void MakeStates(const ops::Tensor& like) override;
  void StepOne(size_t i, const ops::Tensor& grad, double factor, double lr) override;

 private:
  template <typename T>
  void StepAs(size_t i, const ops::Tensor& grad, double factor, double lr);
  const AdamWSettings settings_;
  std::vector<ops::Tensor> mean_, square_;
};

}  // namespace engine::trainer

#endif  // PLUGINS_TRAINER_ADAMW_H_
