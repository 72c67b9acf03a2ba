#include "engine/graph/check.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <filesystem>
#include <memory>

#include "engine/graph/diagnostic.h"

namespace engine::graph {

namespace pb = google::protobuf;

namespace {

std::string OptionBytes(const Item& item) {
  const pb::FieldDescriptor* kind = KindFieldOf(*item.message);
  if (kind == nullptr) return "";
  return item.message->GetReflection()->GetMessage(*item.message, kind).SerializePartialAsString();
}

// The options of a bypassed node that its stand-in has too, by name and type: what is measured
// without the node then differs in the node alone.
std::string StandInOptions(const WorkNode& node) {
  const pb::FieldDescriptor* kind = KindFieldOf(*node.item->message);
  if (kind == nullptr || node.runs->options_message.empty()) return "";
  const pb::Message& from =
      node.item->message->GetReflection()->GetMessage(*node.item->message, kind);
  const pb::Descriptor* type =
      from.GetDescriptor()->file()->pool()->FindMessageTypeByName(node.runs->options_message);
  if (type == nullptr) return "";
  std::unique_ptr<pb::Message> to(
      from.GetReflection()->GetMessageFactory()->GetPrototype(type)->New());
  std::vector<const pb::FieldDescriptor*> set;
  from.GetReflection()->ListFields(from, &set);
  for (const pb::FieldDescriptor* field : set) {
    const pb::FieldDescriptor* same = type->FindFieldByName(field->name());
    if (same == nullptr || same->type() != field->type() || field->is_repeated() ||
        same->is_repeated() || field->cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE ||
        field->enum_type() != same->enum_type()) {
      continue;
    }
    std::string value;
    pb::TextFormat::PrintFieldValueToString(from, field, -1, &value);
    pb::TextFormat::ParseFieldValueFromString(value, same, to.get());
  }
  return to->SerializePartialAsString();
}

void BuildResources(const Work& work, Plan* plan) {
  std::vector<int> place(work.resources.size(), -1);
  for (int i : work.resource_order) {
    place[i] = static_cast<int>(plan->resources.size());
    const WorkResource& from = work.resources[i];
    PlanResource to;
    to.name = from.item->name;
    to.kind = from.kind;
    to.options = OptionBytes(*from.item);
    to.from = from.from < 0 ? -1 : place[from.from];
    for (int use : from.uses) to.uses.push_back(use < 0 ? -1 : place[use]);
    to.bypassed = from.bypassed;
    to.location = LocationOf(from.item->name_span);
    plan->resources.push_back(std::move(to));
  }
}

void BuildNodes(const Work& work, Plan* plan) {
  std::vector<int> resource_place(work.resources.size(), -1);
  for (size_t i = 0; i < work.resource_order.size(); ++i) {
    resource_place[work.resource_order[i]] = static_cast<int>(i);
  }
  std::vector<uint32_t> place(work.nodes.size());
  for (size_t i = 0; i < work.node_order.size(); ++i) {
    place[work.node_order[i]] = static_cast<uint32_t>(i);
  }
  for (int n : work.node_order) {
    const WorkNode& from = work.nodes[n];
    const Block block = from.item->block();
    PlanNode to;
    to.name = from.item->name;
    to.kind = from.kind;
    to.runs = from.runs;
    to.options = from.bypassed ? StandInOptions(from) : OptionBytes(*from.item);
    for (const Wire& wire : from.ins) {
      to.inputs.push_back({static_cast<uint32_t>(wire.port), static_cast<uint32_t>(wire.edge),
                           wire.feedback, wire.capacity, wire.overflow});
    }
    to.outputs.resize(from.kind->outputs.size());
    for (const Wire& wire : from.outs) {
      to.outputs[wire.port].push_back(static_cast<uint32_t>(wire.edge));
    }
    for (int use : from.uses) to.uses.push_back(use < 0 ? -1 : resource_place[use]);
    to.executor = from.executor;
    to.policy = from.policy;
    to.batch_max = block.Number("batch_max", to.batch_max);
    to.batch_wait_us = block.Number("batch_wait_us", to.batch_wait_us);
    to.max_in_flight = block.Number("max_in_flight", from.kind->max_in_flight);
    to.bypassed = from.bypassed;
    to.location = LocationOf(from.item->name_span);
    plan->nodes.push_back(std::move(to));
  }
  for (const WorkEdge& from : work.edges) {
    PlanEdge to;
    to.name = from.name;
    const Wire& out = work.nodes[from.producer].outs[from.out];
    const abi::Port& port = work.nodes[from.producer].kind->outputs[out.port];
    to.producer = place[from.producer];
    to.producer_port = static_cast<uint32_t>(out.port);
    for (const auto& [n, i] : from.consumers) {
      to.consumers.push_back({place[n], static_cast<uint32_t>(i)});
      to.feedback = to.feedback || work.nodes[n].ins[i].feedback;
    }
    to.type = port.type;
    to.shape = from.shape;
    to.dtype = port.dtype;
    plan->edges.push_back(std::move(to));
  }
}

void BuildPlan(const Work& work, Plan* plan) {
  const ReadFile& file = *work.reading->files[0];
  const Block main = file.block();
  plan->path = file.path;
  plan->name = main.Text("name");
  if (plan->name.empty()) plan->name = std::filesystem::path(file.path).stem().string();
  plan->params = work.flat->params;
  plan->executors = work.executors;
  plan->limits = work.limits;
  if (main.Has("trace")) {
    const pb::FieldDescriptor* field = main.message->GetDescriptor()->FindFieldByName("trace");
    Block trace = main;
    trace.message = main.message->GetReflection()->MutableMessage(main.message, field);
    plan->trace.file = trace.Text("file");
    plan->trace.events = trace.Number("events", plan->trace.events);
  }
  for (const auto& each : work.reading->files) {
    const Block root = each->block();
    for (int i = 0; i < root.Count("require"); ++i) {
      const Block require = root.Child("require", i);
      plan->requirements.push_back({require.Text("plugin"), require.Text("version")});
    }
  }
  BuildResources(work, plan);
  BuildNodes(work, plan);
}

}  // namespace

Location LocationOf(const Span& span) {
  Location location;
  if (!span) return location;
  location.file = span.file->name();
  span.file->Locate(span.begin, &location.line, &location.column);
  return location;
}

void Check(const Reading& reading, const Flat& flat, bool check_paths, bool need_nodes, Plan* plan,
           Reporter* reporter) {
  Work work;
  work.reading = &reading;
  work.flat = &flat;
  work.reporter = reporter;
  work.check_paths = check_paths;
  for (const Item& item : flat.nodes) {
    WorkNode node;
    node.item = &item;
    node.kind = node.runs = item.kind;
    work.nodes.push_back(std::move(node));
  }
  CheckOptions(&work);
  CheckWiring(&work);
  CheckTypes(&work);
  CheckFlow(&work);
  CheckResources(&work);
  if (need_nodes && flat.nodes.empty() && !reporter->has_errors()) {
    reporter->Error(reading.files[0]->block().head, "the pipeline has no nodes");
  }
  if (!reporter->has_errors()) BuildPlan(work, plan);
}

}  // namespace engine::graph
