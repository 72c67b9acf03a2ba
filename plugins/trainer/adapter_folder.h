// Adapter folders as PEFT reads them: adapter_model.safetensors, adapter_config.json, and beside
// them a model card (README.md) and provenance.json. The adapter without a name is in the folder
// itself, each named one in a sub-folder of its name. All that a model adds to its base is gathered
// in one place, GatherAdapter; writing knows nothing of kinds of adapters.
// Source: the files that PEFT 0.18 writes.
#ifndef PLUGINS_TRAINER_ADAPTER_FOLDER_H_
#define PLUGINS_TRAINER_ADAPTER_FOLDER_H_

#include <string>
#include <vector>

#include "engine/ext/model.h"
#include "engine/status.hpp"
#include "nlohmann/json.hpp"
#include "state.h"

namespace engine::trainer {

struct AdapterFolder {
  struct Adapter {
    std::string name;                  // of its sub-folder; empty: none
    std::vector<NamedTensor> tensors;  // of adapter_model.safetensors, under PEFT's names
    nlohmann::ordered_json config;     // adapter_config.json
  };
  std::vector<Adapter> adapters;
  std::string base;        // what they belong to
  std::string provenance;  // provenance.json
};

// What the model trains, and how it is put beside the base. FAILED_PRECONDITION when the model has
// no low-rank branch; DATA_LOSS names a tensor with values that are not finite.
Status GatherAdapter(engine_model* model, AdapterFolder* out);

// Each file appears whole or not at all; a model card that is there already is left alone.
Status WriteAdapterFolder(const AdapterFolder& all, const std::string& folder);

// Both.
Status SaveAdapter(engine_model* model, const std::string& folder);

}  // namespace engine::trainer

#endif  // PLUGINS_TRAINER_ADAPTER_FOLDER_H_
