// From a checked plan to a run: resources are made in their order, then node instances, then the
// queues between them.
#ifndef ENGINE_RUNTIME_PIPELINE_H_
#define ENGINE_RUNTIME_PIPELINE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/abi/registry.h"
#include "engine/graph/plan.h"
#include "engine/runtime/run.h"

namespace engine::runtime {

// A seam: makes resources. The part that knows models implements it.
class ResourceMaker {
 public:
  virtual ~ResourceMaker() = default;
  // `from` is null for a resource that begins a chain.
  virtual Status Make(const graph::PlanResource& resource, const ResourceSlot& from,
                      ResourceSlot* out) = 0;
};

// Appends to `slots`, which hold those before it in the plan, what a resource is: for a bypassed
// one that from which it comes, else what make(from, &made) gives, null where that failed.
template <typename MakeFn>
Status AppendResource(const graph::PlanResource& resource, std::vector<ResourceSlot>* slots,
                      const MakeFn& make) {
  const ResourceSlot from =
      resource.from < 0 ? nullptr : (*slots)[static_cast<size_t>(resource.from)];
  ResourceSlot made;
  Status status;
  if (resource.bypassed) {
    made = from;
  } else {
    status = make(from, &made);
  }
  slots->push_back(std::move(made));
  return status;
}

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
