#include "linear.h"

#include <utility>

#include "engine/model_tensors.hpp"
#include "engine/philox.hpp"
#include "engine/util.hpp"

namespace engine::lora {

Status RowLengths(engine_model* model, uint32_t weight, const ops::Tensor& a, const ops::Tensor& b,
                  double scale, std::optional<ops::Tensor>* out) {
  AtenTensorHandle handle = nullptr;
  ENGINE_RETURN_IF_ERROR(Status(ThisHost().model->param_tensor(model, weight, &handle)));
  const ops::Tensor w = ops::Detach(ops::Tensor(handle));
  const ops::Tensor sum = ops::AddScaled(w, ops::Matmul(ops::Detach(b), ops::Detach(a)), scale);
  *out = ops::Sqrt(ops::Sum(ops::Mul(sum, sum), {1}, /*keep=*/false));
  return Status();
}

LoraLinear::LoraLinear(const engine_site_impl* base, const std::string& site,
                       const std::string& adapter, uint32_t weight, BranchTensors tensors,
                       double scale, const DropoutOption& dropout)
    : tensors_(std::move(tensors)), adapter_(adapter), weight_(weight) {
  const auto handle = [](const std::optional<ops::Tensor>& t) { return t ? t->get() : nullptr; };
  table_.struct_size = sizeof table_;
  table_.rank = static_cast<uint32_t>(tensors_.a.size(0));
  table_.base = base;
  table_.a = tensors_.a.get();
  table_.b = tensors_.b.get();
  table_.scale = scale;
  table_.adapter = Str(adapter_);
  table_.dropout = dropout.p;
  table_.drop_seed = dropout.seed;
  table_.drop_stream = Philox::Hash(BranchNames(site, adapter).dropout);
  table_.magnitude = handle(tensors_.magnitude);
  table_.start_a = handle(tensors_.start_a);
  table_.start_b = handle(tensors_.start_b);
}

Status LoraLinear::Forward(engine_forward* pass, const AtenTensorHandle* in, uint32_t n_in,
                           AtenTensorHandle* out, uint32_t n_out) {
  if (n_in != 1 || n_out != 1) {
    return Error(ENGINE_INVALID_ARGUMENT, "a linear takes one tensor and gives one");
  }
  const engine_model_host* api = ThisHost().model;
  const ops::Tensor x = ops::Borrow(in[0]);
  AtenTensorHandle handle = nullptr;
  ENGINE_RETURN_IF_ERROR(Status(
      api->dropout(pass, table_.dropout, table_.drop_seed, table_.drop_stream, in[0], &handle)));
  const ops::Tensor kept(handle);
  std::optional<ops::Tensor> y, rest;
  ENGINE_RETURN_IF_ERROR(RunSite(*table_.base, pass, x, &y));
  const ops::Tensor branch = ops::Linear(ops::Linear(kept, tensors_.a), tensors_.b);
  if (!tensors_.magnitude) {
    out[0] = ops::Release(ops::AddScaled(*y, branch, table_.scale));
    return Status();
  }
  std::optional<ops::Tensor> lengths;
  ENGINE_RETURN_IF_ERROR(RowLengths(api->forward_model(pass), weight_, tensors_.a, tensors_.b,
                                    table_.scale, &lengths));
  const ops::Tensor factor = ops::Div(*tensors_.magnitude, *lengths);
  if (ops::Data<void>(kept) == ops::Data<void>(x)) {  // nothing is dropped
    out[0] = ops::Release(ops::Mul(ops::AddScaled(*y, branch, table_.scale), factor));
    return Status();
  }
  // As PEFT does: what the magnitude adds to the base sees the dropped input as well.
  ENGINE_RETURN_IF_ERROR(RunSite(*table_.base, pass, kept, &rest));
  const ops::Tensor scaled = ops::Mul(ops::AddScaled(*rest, branch, table_.scale), factor);
  out[0] = ops::Release(ops::Add(*y, ops::Sub(scaled, *rest)));
  return Status();
}

}  // namespace engine::lora
