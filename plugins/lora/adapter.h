// A folder in PEFT's format: what it says and the tensors in it.
// Source: PEFT's adapter_config.json and adapter_model.safetensors, as PEFT 0.18 writes them.
#ifndef PLUGINS_LORA_ADAPTER_H_
#define PLUGINS_LORA_ADAPTER_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "branch.h"
#include "engine/host.hpp"
#include "engine/status.hpp"
#include "engine/torch_ops.h"

namespace engine::lora {

class Adapter {
 public:
  static Status Open(const std::string& folder, std::unique_ptr<Adapter>* out);
  ~Adapter();

  const BranchRules& rules() const { return rules_; }
  bool dora() const { return dora_; }
  // The branches stand beside what is left of the weights without their principal parts.
  bool pissa() const { return pissa_; }
  double dropout() const { return dropout_; }
  // True when the file has all tensors of the branch of that linear.
  bool Has(std::string_view site) const;
  // A copy of lora_A, lora_B or lora_magnitude_vector of a linear, in that dtype. Values that are
  // not finite are refused.
  Status Load(std::string_view site, std::string_view which, uint32_t dtype,
              std::optional<ops::Tensor>* out) const;
  // The same for a whole weight, by the parameter's name.
  bool HasWhole(std::string_view param) const;
  Status LoadWhole(std::string_view param, uint32_t dtype, std::optional<ops::Tensor>* out) const;
  // Tensors of the file that neither a linear of `sites` nor a parameter of `weights` takes; empty
  // when all fit.
  std::vector<std::string> Unused(const std::vector<std::string>& sites,
                                  const std::vector<std::string>& weights) const;
  const std::string& folder() const { return folder_; }

 private:
  Adapter() = default;
  Status Read(const std::string& key, uint32_t dtype, std::optional<ops::Tensor>* out) const;
  bool There(const std::string& key) const;
  std::string folder_;
  engine_files* files_ = nullptr;
  std::vector<std::string> names_;
  BranchRules rules_;
  bool dora_ = false, pissa_ = false;
  double dropout_ = 0;
};

}  // namespace engine::lora

#endif  // PLUGINS_LORA_ADAPTER_H_
