// What moves parameters along their gradients, on raw memory. Invariant: after Step and the loading
// of what States named, a run goes on as if it had not stopped.
#ifndef PLUGINS_TRAINER_OPTIMIZER_H_
#define PLUGINS_TRAINER_OPTIMIZER_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/host.hpp"
#include "engine/status.hpp"
#include "engine/torch_ops.h"

namespace engine::trainer {

class Optimizer {
 public:
  struct Param {
    ops::Tensor tensor;
    double lr_ratio = 1;  // of the step's learning rate
  };
  virtual ~Optimizer() = default;

  // All in one dtype, F32 or F64, contiguous.
  Status Init(std::vector<Param> params);
  // One step with the gradients of all parameters times `factor`.
  void Step(const std::vector<ops::Tensor>& grads, double factor, double lr);

  // What it keeps of parameter i, by name; the tensors are its own.
  virtual std::vector<std::pair<std::string, ops::Tensor>> States(size_t i) const = 0;
  void set_steps(int64_t steps) { step_ = steps; }

 protected:
  virtual void MakeStates(const ops::Tensor& like) = 0;
  // Of parameter i; `grad` is contiguous and in the dtype of all.
  virtual void StepOne(size_t i, const ops::Tensor& grad, double factor, double lr) = 0;

  static ops::Tensor Zeros(const ops::Tensor& like) { return ops::ZerosLike(ops::Detach(like)); }
  // body(begin, end) over [0, count) on the compute threads.
  template <typename Body>
  static void Over(int64_t count, const Body& body) {
    ThisHost().tasks->parallel_for(
        count, 16384,
        [](void* arg, int64_t begin, int64_t end) { (*static_cast<const Body*>(arg))(begin, end); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

  std::vector<Param> params_;
  uint32_t dtype_ = ENGINE_F32;
  int64_t step_ = 0;  // the one under way, from 1
};

}  // namespace engine::trainer

#endif  // PLUGINS_TRAINER_OPTIMIZER_H_
