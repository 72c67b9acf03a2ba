// From a checked plan to a run: resources are made in their order, then node instances, then the
// queues between them.
#ifndef ENGINE_RUNTIME_PIPELINE_H_
#define ENGINE_RUNTIME_PIPELINE_H_

#include <memory>
#include <vector>

#include "engine/abi/registry.h"
#include "engine/graph/plan.h"
#include "engine/runtime/resource.h"
#include "engine/runtime/run.h"

namespace engine::runtime {

class Pipeline {
 public:
  // The plan and the registry must outlive the pipeline.
  static Status Make(const graph::Plan& plan, const abi::Registry& registry, ResourceMaker* maker,
                     const RunOptions& options, std::unique_ptr<Pipeline>* out);

  Run& run() { return *run_; }
  const graph::Plan& plan() const { return plan_; }
  const std::vector<ResourceSlot>& resources() const { return resources_; }

 private:
  explicit Pipeline(const graph::Plan& plan) : plan_(plan) {}
  Status MakeNode(const graph::PlanNode& node, const abi::Registry& registry, NodeSpec* spec);

  const graph::Plan& plan_;
  std::vector<ResourceSlot> resources_;
  std::unique_ptr<Run> run_;
};

}  // namespace engine::runtime

#endif  // ENGINE_RUNTIME_PIPELINE_H_
