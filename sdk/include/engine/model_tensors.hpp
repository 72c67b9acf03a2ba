// A model's parameters and sites as tensors of the STABLE tier: what transforms do with them again
// and again. Failures of the host are statuses; those of operators throw, see torch_ops.h.
#ifndef ENGINE_MODEL_TENSORS_HPP_
#define ENGINE_MODEL_TENSORS_HPP_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/growth.hpp"
#include "engine/torch_ops.h"
#include "engine/transform.hpp"

namespace engine {

// The dense tensor of parameter `name`, shared with the model.
inline Status ParamTensor(const Model& model, engine_str name, std::optional<ops::Tensor>* out) {
  uint32_t number = 0;
  AtenTensorHandle handle = nullptr;
  ENGINE_RETURN_IF_ERROR(Status(Model::Api()->param_find(model.get(), name, &number)));
  ENGINE_RETURN_IF_ERROR(Status(Model::Api()->param_tensor(model.get(), number, &handle)));
  out->emplace(handle);
  return Status();
}

// From Rewrite: makes `tensor` a leaf that is trained, and a parameter of the model, which trainers
// find and save by its name. `group` is the optimizer's, which may have a learning rate of its own.
inline Status AddTrained(const Model& model, std::string_view name, const ops::Tensor& tensor,
                         std::string_view group = {}) {
  ops::SetRequiresGrad(tensor, true);
  auto info = Sized<engine_param_info>();
  info.name = Str(name);
  info.rank = static_cast<uint32_t>(tensor.dim());
  if (info.rank > 4)
    return Error(ENGINE_INVALID_ARGUMENT, "'", name, "' has more than 4 dimensions");
  for (uint32_t d = 0; d < info.rank; ++d) info.shape[d] = tensor.size(d);
  info.dtype = ops::DtypeOf(tensor);
  info.trainable = 1;
  info.init_key = Str(name);
  info.optimizer_group = Str(group);
  return Status(Model::Api()->param_add(model.get(), &info, ops::Release(tensor)));
}

// Trained tensors of the parameters whose names begin with `prefix`.
inline Status TrainedUnder(const Model& model, std::string_view prefix,
                           std::vector<ops::Tensor>* out) {
  const std::vector<engine_param_info> params = model.Params();
  for (uint32_t i = 0; i < params.size(); ++i) {
    if (params[i].trainable == 0 || View(params[i].name).rfind(prefix, 0) != 0) continue;
    AtenTensorHandle handle = nullptr;
    ENGINE_RETURN_IF_ERROR(Status(Model::Api()->param_tensor(model.get(), i, &handle)));
    out->emplace_back(handle);
  }
  return Status();
}

// What stands at a site of one input and one output, run on `x`.
inline Status RunSite(const engine_site_impl& impl, engine_forward* pass, const ops::Tensor& x,
                      std::optional<ops::Tensor>* y) {
  const AtenTensorHandle in = x.get();
  AtenTensorHandle out = nullptr;
  ENGINE_RETURN_IF_ERROR(Status(impl.forward(impl.self, pass, &in, 1, &out, 1)));
  y->emplace(out);
  return Status();
}

}  // namespace engine

#endif  // ENGINE_MODEL_TENSORS_HPP_
