#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>

#include "engine/graph/check.h"
#include "engine/graph/diagnostic.h"
#include "engine/graph/refused.h"
#include "engine/graph/semver.h"
#include "engine/graph/suggest.h"

namespace engine::graph {

namespace pb = google::protobuf;

namespace {

using Field = pb::FieldDescriptor;

std::string Shown(double value) {
  char text[40];
  const bool whole = value == std::floor(value) && std::fabs(value) < 1e15;
  return std::string(
      text, whole ? std::to_chars(text, text + sizeof text, static_cast<int64_t>(value)).ptr
                  : std::to_chars(text, text + sizeof text, value).ptr);
}

double NumberOf(const pb::Message& message, const Field& field, int i) {
  const pb::Reflection* r = message.GetReflection();
  const bool many = field.is_repeated();
  switch (field.cpp_type()) {
    case Field::CPPTYPE_INT32:
      return many ? r->GetRepeatedInt32(message, &field, i) : r->GetInt32(message, &field);
    case Field::CPPTYPE_INT64:
      return static_cast<double>(many ? r->GetRepeatedInt64(message, &field, i)
                                      : r->GetInt64(message, &field));
    case Field::CPPTYPE_UINT32:
      return many ? r->GetRepeatedUInt32(message, &field, i) : r->GetUInt32(message, &field);
    case Field::CPPTYPE_UINT64:
      return static_cast<double>(many ? r->GetRepeatedUInt64(message, &field, i)
                                      : r->GetUInt64(message, &field));
    case Field::CPPTYPE_FLOAT:
      return many ? r->GetRepeatedFloat(message, &field, i) : r->GetFloat(message, &field);
    case Field::CPPTYPE_DOUBLE:
      return many ? r->GetRepeatedDouble(message, &field, i) : r->GetDouble(message, &field);
    default:
      return 0;
  }
}

class Annotated {
 public:
  Annotated(Work* work, const Item* item) : work_(work), item_(item) {}

  // `head` is what a missing field is told at; `skip` names fields of the top that are not looked
  // into, as they are checked in another place.
  void Message(const pb::Message& message, const OutlineBlock* outline, const Span& head,
               std::initializer_list<std::string_view> skip = {}) {
    const pb::Descriptor& type = *message.GetDescriptor();
    const pb::Reflection* r = message.GetReflection();
    std::vector<const Field*> set;
    r->ListFields(message, &set);
    for (const Field* field : set) {
      bool skipped = false;
      for (std::string_view name : skip) skipped = skipped || name == field->name();
      if (skipped) continue;
      const OutlineField* written = outline ? outline->FindField(field->name()) : nullptr;
      const int count = field->is_repeated() ? r->FieldSize(message, field) : 1;
      for (int i = 0; i < count; ++i) {
        const OutlineValue* value =
            outline ? outline->Find(field->name(), static_cast<size_t>(i)) : nullptr;
        if (field->cpp_type() == Field::CPPTYPE_MESSAGE) {
          const pb::Message& inner = field->is_repeated() ? r->GetRepeatedMessage(message, field, i)
                                                          : r->GetMessage(message, field);
          Message(inner, value ? value->block.get() : nullptr, written ? written->name_span : head);
        } else {
          Value(message, *field, i, value ? value->span : head);
        }
      }
    }
    if (outline != nullptr && outline->damaged()) return;
    for (int i = 0; i < type.field_count(); ++i) {
      const Field& field = *type.field(i);
      if (!AnnotationsOf(field).needed) continue;
      const bool missing = field.is_repeated() ? r->FieldSize(message, &field) == 0
                                               : !r->HasField(message, &field) ||
                                                     (field.cpp_type() == Field::CPPTYPE_STRING &&
                                                      r->GetString(message, &field).empty());
      if (!missing) continue;
      const OutlineValue* value = outline ? outline->Find(field.name()) : nullptr;
      Error(value ? value->span : head, Quote(field.name()) + " must be given");
    }
  }

 private:
  Diagnostic& Error(const Span& at, std::string message) {
    Diagnostic& d = work_->reporter->Error(at, std::move(message));
    return item_ == nullptr ? d : AddTrail(*item_, d);
  }

  void Value(const pb::Message& message, const Field& field, int i, const Span& at) {
    const Annotations a = AnnotationsOf(field);
    if (field.cpp_type() == Field::CPPTYPE_STRING) {
      const pb::Reflection* r = message.GetReflection();
      const std::string text = field.is_repeated() ? r->GetRepeatedString(message, &field, i)
                                                   : r->GetString(message, &field);
      if (a.byte_size && !ParseByteSize(text)) {
        Error(at, Quote(text) + " is not a size")
            .Hint("write a number with a unit, such as \"512MiB\" or \"1.5GiB\"");
      }
      std::error_code error;
      if (a.existing_path && work_->check_paths && !text.empty() && text != "-" &&
          !std::filesystem::exists(text, error)) {
        Error(at, "there is no file or folder " + Quote(text))
            .Hint("looked for in " + std::filesystem::current_path(error).string());
      }
      return;
    }
    if (!a.min && !a.max) return;
    const double number = NumberOf(message, field, i);
    const bool good = (!a.min || number >= *a.min) && (!a.max || number <= *a.max);
    if (good) return;
    Annotations limits;
    limits.min = a.min;
    limits.max = a.max;
    limits.unit = a.unit;
    Error(at, Quote(field.name()) + " must be " + DescribeAnnotations(limits) + ", and this is " +
                  Shown(number));
  }

  Work* work_;
  const Item* item_;
};

void CheckExecutors(Work* work) {
  work->executors = {{"default", false, 0}, {"compute", false, 0}, {"io", true, 0}};
  std::map<std::string, Span> seen;
  for (const auto& file : work->reading->files) {
    const Block root = file->block();
    for (int i = 0; i < root.Count("executor"); ++i) {
      const Block block = root.Child("executor", i);
      const std::string name = block.Text("name");
      if (name.empty()) continue;
      if (!IsName(name)) {
        work->reporter->Error(block.At("name"), "a name has letters, digits, '_' and '-' only");
        continue;
      }
      auto [first, fresh] = seen.emplace(name, block.At("name"));
      if (!fresh) {
        work->reporter->Error(block.At("name"), "a second executor " + Quote(name))
            .At(first->second, "the first is here");
        continue;
      }
      PlanExecutor* executor = nullptr;
      for (PlanExecutor& known : work->executors) {
        if (known.name == name) executor = &known;
      }
      if (executor == nullptr) {
        work->executors.push_back({name, false, 0});
        executor = &work->executors.back();
      }
      executor->io = block.Choice("kind", executor->io ? 1 : 0) == 1;
      executor->threads = block.Number("threads", 0);
    }
  }
}

void CheckRequirements(Work* work) {
  std::vector<std::string> ids;
  for (const abi::Plugin& plugin : work->index().plugins) ids.push_back(plugin.id);
  for (const auto& file : work->reading->files) {
    const Block root = file->block();
    for (int i = 0; i < root.Count("require"); ++i) {
      const Block block = root.Child("require", i);
      const std::string id = block.Text("plugin"), range = block.Text("version");
      std::string part;
      InRange("0.0.0", range, &part);
      if (!part.empty()) {
        work->reporter->Error(block.At("version"), Quote(part) + " is not a range of versions")
            .Hint("write \">=1.2 <2\", \"^1.2\", \"~1.2.3\" or \"1.2.3\"");
        continue;
      }
      if (id.empty()) continue;
      const abi::Plugin* plugin = work->index().FindPlugin(id);
      if (plugin == nullptr) {
        Diagnostic& d = work->reporter->Error(
            block.At("plugin"), "plugin " + Quote(id) + " is needed and was not found");
        bool refused = false;
        for (const abi::Refusal& refusal : work->index().refused) {
          if (refusal.id != id) continue;
          refused = true;
          HintRefused(refusal, "is there", "require " + Quote(id), &d);
        }
        if (!refused) d.Hint(DidYouMean(id, ids, "plugins"));
      } else if (!InRange(plugin->version, range, &part)) {
        work->reporter
            ->Error(block.At("version"), "plugin " + id + " is needed as " + Quote(range) +
                                             ", and the one found is " + plugin->version)
            .Hint(plugin->path.empty() ? "" : "the file is " + plugin->path);
      }
    }
  }
}

}  // namespace

void CheckOptions(Work* work) {
  for (const auto& file : work->reading->files) {
    const Block root = file->block();
    Annotated(work, nullptr)
        .Message(*root.message, root.outline, root.head, {"node", "resource", "subgraph"});
    for (int i = 0; i < root.Count("subgraph"); ++i) {
      const Block subgraph = root.Child("subgraph", i);
      Annotated(work, nullptr)
          .Message(*subgraph.message, subgraph.outline, subgraph.head, {"node"});
    }
  }
  for (const auto* items : {&work->flat->resources, &work->flat->nodes}) {
    for (const Item& item : *items) {
      Annotated(work, &item).Message(*item.message, item.outline.get(), item.head);
    }
  }
  CheckExecutors(work);
  CheckRequirements(work);
  Block main = work->reading->files[0]->block();
  if (main.Has("limits")) {
    const Block limits = main.Child("limits");
    work->limits.max_in_flight = limits.Number("max_in_flight", 0);
    work->limits.drain_ms = limits.Number("drain_ms", work->limits.drain_ms);
  }
}

}  // namespace engine::graph
