// Makes engine.Model/1 resources: loads the base, applies transforms, and says beforehand what they
// would cost.
#ifndef ENGINE_MODEL_MAKER_H_
#define ENGINE_MODEL_MAKER_H_

#include <memory>
#include <string>
#include <vector>

#include "engine/model/model.h"
#include "engine/runtime/pipeline.h"

namespace engine::model {

// Adds the engine's own kinds (load) to the registry.
void AddBuiltinKinds(abi::Registry* registry);

// What one resource of a plan would do.
struct ResourcePlan {
  std::string name;
  std::string summary;             // of a base: sizes; of a transform: how many sites
  std::vector<std::string> lines;  // the diff, one line a group of alike sites
  int64_t bytes_before = 0, bytes_after = 0;
};

class Maker : public runtime::ResourceMaker {
 public:
  explicit Maker(const abi::Registry& registry) : registry_(registry) {}
  Status Make(const graph::PlanResource& resource, const runtime::ResourceSlot& from,
              runtime::ResourceSlot* out) override;
  // As Make, but reads only what describes the model, never a weight; fills `plan`.
  Status Explain(const graph::PlanResource& resource, const runtime::ResourceSlot& from,
                 runtime::ResourceSlot* out, ResourcePlan* plan);

 private:
  Status Load(const graph::PlanResource& resource, bool check_memory, std::shared_ptr<Model>* out);
  const abi::Registry& registry_;
};

// The model that a resource holds.
Model* ModelOf(const runtime::ResourceSlot& slot);

// The file or folder that a resource loads; empty when it loads none.
Status ModelPath(const graph::PlanResource& resource, std::string* path);

// Where a model's name or path leads; the error lists the places and near names.
Status ResolveModel(const std::string& name, std::string* path);

}  // namespace engine::model

#endif  // ENGINE_MODEL_MAKER_H_
