// A folder in PEFT's format: what it says and the tensors in it.
// Source: PEFT's adapter_config.json and adapter_model.safetensors, as PEFT 0.18 writes them.
#ifndef PLUGINS_LORA_ADAPTER_H_
#define PLUGINS_LORA_ADAPTER_H_

#include <memory>
#include <string>
#include <vector>

#include "branch.h"
#include "engine/host.hpp"
#include "engine/status.hpp"

namespace engine::lora {

class Adapter {
 public:
  static Status Open(const std::string& folder, std::unique_ptr<Adapter>* out);
  ~Adapter();

  const BranchRules& rules() const { return rules_; }
  // True when the file has both tensors for that linear.
  bool Has(std::string_view site) const;
  // A copy of lora_A or lora_B of a linear, in that dtype. Values that are not finite are refused.
  Status Load(std::string_view site, const char* which, uint32_t dtype,
              AtenTensorHandle* out) const;
  // Tensors of the file that no linear of `sites` takes; empty when all fit.
  std::vector<std::string> Unused(const std::vector<std::string>& sites) const;
  const std::string& folder() const { return folder_; }

 private:
  Adapter() = default;
  std::string Key(std::string_view site, const char* which) const;
  std::string folder_;
  engine_files* files_ = nullptr;
  std::vector<std::string> names_;
  BranchRules rules_;
};

}  // namespace engine::lora

#endif  // PLUGINS_LORA_ADAPTER_H_
