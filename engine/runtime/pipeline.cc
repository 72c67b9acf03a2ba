#include "engine/runtime/pipeline.h"

#include <algorithm>
#include <thread>

#include "engine/abi/instance.h"

namespace engine::runtime {
namespace {

std::string At(const graph::Location& l) {
  return l.file + ":" + std::to_string(l.line) + ":" + std::to_string(l.column) + ": ";
}

Overflow ToOverflow(graph::Overflow overflow) {
  switch (overflow) {
    case graph::Overflow::kDropOldest:
      return Overflow::kDropOldest;
    case graph::Overflow::kReject:
      return Overflow::kReject;
    default:
      return Overflow::kBlock;
  }
}

}  // namespace

Status Pipeline::MakeNode(const graph::PlanNode& node, const abi::Registry& registry,
                          NodeSpec* spec) {
  const abi::Kind& kind = *node.runs;
  const abi::KindSource* source = registry.Source(kind.name);
  if (source == nullptr || source->loaded->nodes == nullptr) {
    return Error(ENGINE_NOT_FOUND, At(node.location), "kind '", kind.name, "' has no plugin");
  }
  spec->name = node.name;
  spec->kind = kind.name;
  spec->plugin = kind.plugin;
  spec->policy = node.policy;
  spec->emission = kind.outputs.empty() ? abi::Emission::kNone : kind.emission;
  spec->batch_max = node.batch_max;
  spec->batch_wait_ns = uint64_t{node.batch_wait_us} * 1000;
  spec->max_in_flight = std::max(1u, node.max_in_flight);
  spec->unordered = kind.unordered;
  spec->hears = kind.hears;
  spec->executor = node.executor;
  for (size_t p = 0; p < kind.inputs.size(); ++p) {
    const abi::Port& port = kind.inputs[p];
    InputSpec input;
    input.name = port.name;
    input.optional = port.optional;
    input.errors = port.errors;
    input.connected = false;
    for (const graph::PlanInput& wired : node.inputs) {
      if (wired.port != p) continue;
      input.connected = true;
      input.feedback = wired.feedback;
      input.capacity = wired.capacity;
      input.overflow = ToOverflow(wired.overflow);
    }
    spec->inputs.push_back(std::move(input));
  }
  for (const abi::Port& port : kind.outputs) {
    spec->outputs.push_back({port.name, port.type == "*" ? "" : port.type, {}});
  }
  for (int use : node.uses) {
    spec->resources.push_back(use < 0 ? nullptr : resources_[static_cast<size_t>(use)]);
  }
  const auto placed = [&](const Status& status) {
    return status.Prefix(At(node.location)).At(kind.plugin, node.name);
  };
  const Status status(source->loaded->nodes->create(source->loaded->self, source->number,
                                                    Str(node.name), Str(node.options),
                                                    &spec->vtable, &spec->self));
  if (!status.ok()) return placed(status);
  using Table = engine_node_vtable;
  return placed(abi::CheckInstance(spec->vtable, "a node of kind '" + kind.name + "'",
                                   "open, process, close or destroy", &Table::open, &Table::process,
                                   &Table::close, &Table::destroy));
}

Status Pipeline::Make(const graph::Plan& plan, const abi::Registry& registry, ResourceMaker* maker,
                      const RunOptions& options, std::unique_ptr<Pipeline>* out) {
  std::unique_ptr<Pipeline> pipeline(new Pipeline(plan));
  for (const graph::PlanResource& resource : plan.resources) {
    ENGINE_RETURN_IF_ERROR(AddResource(registry, resource, maker, &pipeline->resources_)
                               .Prefix(At(resource.location))
                               .At(resource.kind->plugin, resource.name));
  }
  RunSpec spec;
  spec.max_in_flight = plan.limits.max_in_flight;
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  for (const graph::PlanExecutor& executor : plan.executors) {
    ExecutorSpec e;
    e.name = executor.name;
    // The compute executor has one lane by default: LibTorch spreads each call over the cores.
    e.dedicated = executor.name == "compute" || executor.io;
    const uint32_t lanes = executor.name == "compute" ? 1 : executor.io ? 2 : cores;
    e.threads = executor.threads != 0 ? executor.threads : lanes;
    spec.executors.push_back(std::move(e));
  }
  Status failure;
  for (const graph::PlanNode& node : plan.nodes) {
    NodeSpec made;
    failure = pipeline->MakeNode(node, registry, &made);
    if (!failure.ok()) break;
    spec.nodes.push_back(std::move(made));
  }
  if (!failure.ok()) {
    for (const NodeSpec& node : spec.nodes) node.vtable->destroy(node.self);
    return failure;
  }
  for (const graph::PlanEdge& edge : plan.edges) {
    auto& targets = spec.nodes[edge.producer].outputs[edge.producer_port].targets;
    for (const graph::PlanConsumer& consumer : edge.consumers) {
      targets.push_back({consumer.node, plan.nodes[consumer.node].inputs[consumer.input].port});
    }
  }
  pipeline->run_ = std::make_unique<Run>(std::move(spec), options);
  *out = std::move(pipeline);
  return Status();
}

}  // namespace engine::runtime
