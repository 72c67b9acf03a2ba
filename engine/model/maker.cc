#include "engine/model/maker.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "engine/abi/instance.h"
#include "engine/graph/suggest.h"
#include "engine/model/autograd.h"
#include "engine/model/formats/random_checkpoint.h"
#include "engine/model/machine.h"
#include "engine/util.hpp"
#include "load.engine.hpp"

namespace engine::model {
namespace {

namespace fs = std::filesystem;

std::string MiB(int64_t bytes) {
  char text[40];
  std::snprintf(text, sizeof text, "%.1f MiB", static_cast<double>(bytes) / 1048576.0);
  return text;
}

uint32_t ToDtype(load::LoadOptions::Dtype dtype) {
  switch (dtype) {
    case load::LoadOptions::Dtype::BF16:
      return ENGINE_BF16;
    case load::LoadOptions::Dtype::F64:
      return ENGINE_F64;
    default:
      return ENGINE_F32;
  }
}

runtime::ResourceSlot Slot(const std::string& name, std::shared_ptr<Model> model) {
  auto slot = std::make_shared<engine_resource>();
  slot->name = name;
  slot->type = ENGINE_TYPE_MODEL;
  slot->object = ToC(model.get());
  slot->keep = std::move(model);
  return slot;
}

// A transform's instance and its table.
struct Instance {
  const engine_transform_vtable* vtable = nullptr;
  std::shared_ptr<void> self;
};

Status CreateTransform(const abi::Registry& registry, const graph::PlanResource& resource,
                       Instance* out) {
  const abi::KindSource* source = registry.Source(resource.kind->name);
  if (source == nullptr || source->loaded->transforms == nullptr) {
    return Error(ENGINE_NOT_FOUND, "kind '", resource.kind->name, "' has no plugin");
  }
  void* self = nullptr;
  ENGINE_RETURN_IF_ERROR(Status(
      source->loaded->transforms->create(source->loaded->self, source->number, Str(resource.name),
                                         Str(resource.options), &out->vtable, &self)));
  using Table = engine_transform_vtable;
  ENGINE_RETURN_IF_ERROR(abi::CheckInstance(
      out->vtable, "a transform of kind '" + resource.kind->name + "'", "plan, rewrite or destroy",
      &Table::plan, &Table::rewrite, &Table::destroy));
  out->self = std::shared_ptr<void>(self, out->vtable->destroy);
  return Status();
}

// "model.layers.12.mlp.up_proj" -> "model.layers.*.mlp.up_proj".
std::string Grouped(const std::string& name) {
  std::string out;
  size_t i = 0;
  while (i < name.size()) {
    const bool begins = i == 0 || name[i - 1] == '.';
    size_t end = i;
    while (end < name.size() && name[end] >= '0' && name[end] <= '9') ++end;
    if (begins && end > i && (end == name.size() || name[end] == '.')) {
      out += '*';
      i = end;
    } else {
      out += name[i++];
    }
  }
  return out;
}

}  // namespace

void AddBuiltinKinds(abi::Registry* registry) {
  abi::Kind kind;
  kind.role = abi::Role::kResource;
  kind.name = "load";
  kind.doc = "Loads a model from a GGUF file or a Hugging Face folder.";
  kind.options_message = "engine.load.LoadOptions";
  kind.provides = ENGINE_TYPE_MODEL;
  registry->AddBuiltin(std::move(kind), std::string(reinterpret_cast<const char*>(load::kSchema),
                                                    sizeof load::kSchema));
}

Model* ModelOf(const runtime::ResourceSlot& slot) {
  if (slot == nullptr || slot->type != ENGINE_TYPE_MODEL) return nullptr;
  return FromC(static_cast<engine_model*>(slot->object));
}

Status ResolveModel(const std::string& name, std::string* path) {
  std::error_code ignored;
  if (fs::exists(name, ignored)) {
    *path = name;
    return Status();
  }
  std::vector<fs::path> folders;
  if (const char* list = std::getenv("ENGINE_MODELS")) {
    std::string_view rest = list;
    while (!rest.empty()) {
      const size_t colon = rest.find(':');
      if (colon != 0) folders.emplace_back(rest.substr(0, colon));
      if (colon == std::string_view::npos) break;
      rest.remove_prefix(colon + 1);
    }
  }
  folders.emplace_back("models");
  const fs::path prefix = abi::InstallPrefix();
  folders.push_back(prefix.parent_path() / "models");  // a build folder inside the sources
  folders.push_back(prefix / "share/engine/models");   // an installation
  std::vector<std::string> known;
  std::string places;
  for (const fs::path& folder : folders) {
    for (const fs::path& candidate : {folder / (name + ".gguf"), folder / name}) {
      if (!fs::exists(candidate, ignored)) continue;
      *path = candidate.string();
      return Status();
    }
    places += (places.empty() ? "" : ", ") + folder.string();
    for (const auto& entry : fs::directory_iterator(folder, ignored)) {
      if (entry.is_directory(ignored)) known.push_back(entry.path().filename().string());
      if (entry.path().extension() == ".gguf") known.push_back(entry.path().stem().string());
    }
  }
  std::string text = "no model or path '" + name + "'; looked in " + places;
  const std::string near = graph::Nearest(name, known);
  if (!near.empty()) {
    text += "; did you mean \"" + near + "\"?";
  } else if (known.empty()) {
    text += ". `make demo` fetches smollm2-135m-instruct; ENGINE_MODELS names further folders";
  }
  return Status(ENGINE_NOT_FOUND, text);
}

Status ModelPath(const graph::PlanResource& resource, std::string* path) {
  load::LoadOptions options;
  if (resource.kind->options_message != "engine.load.LoadOptions" ||
      !options.Read(resource.options)) {
    return Status();
  }
  return ResolveModel(options.path, path);
}

Status Maker::Load(const graph::PlanResource& resource, bool check_memory,
                   std::shared_ptr<Model>* out) {
  load::LoadOptions options;
  if (!options.Read(resource.options)) {
    return Error(ENGINE_INTERNAL, "the options of '", resource.name, "' cannot be read");
  }
  std::string path;
  ENGINE_RETURN_IF_ERROR(ResolveModel(options.path, &path));
  auto base = std::make_shared<Base>();
  ENGINE_RETURN_IF_ERROR(OpenCheckpoint(path, &base->checkpoint));
  if (options.has_random) {
    const auto& r = options.random;
    const RandomModel how = {r.hidden,  r.blocks, r.heads,     r.kv_heads,   r.mlp,
                             r.context, r.seed,   r.deviation, MemoryLimit()};
    ENGINE_RETURN_IF_ERROR(
        MakeRandomCheckpoint(std::move(base->checkpoint), how, &base->checkpoint));
  }
  ENGINE_RETURN_IF_ERROR(OpenTokenizer(*base->checkpoint, &base->tokenizer));
  base->dtype = ToDtype(options.dtype);
  base->decode = options.weights == load::LoadOptions::Weights::DECODED;
  base->plain_sites = options.sites == load::LoadOptions::Sites::PLAIN;
  const int64_t trained = base->checkpoint->config().context;
  base->context = options.context == 0 ? trained : options.context;
  if (base->context > trained) {
    return Error(ENGINE_OUT_OF_RANGE, "context ", base->context, " is more than the ", trained,
                 " tokens that model '", options.path, "' was trained for");
  }
  if (check_memory) {
    const int64_t needed = base->ServedBytes() + (int64_t{64} << 20);
    const uint64_t limit = MemoryLimit();
    if (static_cast<uint64_t>(needed) > limit) {
      return Error(ENGINE_RESOURCE_EXHAUSTED, "model '", options.path, "' needs ", MiB(needed),
                   " in this dtype; this process may use ", MiB(static_cast<int64_t>(limit)),
                   ". Take a smaller model, dtype BF16, or raise the cgroup's memory limit");
    }
    const int cores = CgroupCores();
    SetComputeThreads(options.threads > 0 ? options.threads : cores);
    if (base->dtype == ENGINE_F32 && !base->plain_sites) SetTorchThreads(1);
  }
  *out = Model::Make(std::move(base));
  return Status();
}

Status Maker::Make(const graph::PlanResource& resource, const runtime::ResourceSlot& from,
                   runtime::ResourceSlot* out) {
  std::shared_ptr<Model> model;
  if (resource.kind->role != abi::Role::kTransform) {
    ENGINE_RETURN_IF_ERROR(Load(resource, true, &model));
  } else {
    Instance instance;
    ENGINE_RETURN_IF_ERROR(CreateTransform(registry_, resource, &instance));
    ENGINE_RETURN_IF_ERROR(
        ModelOf(from)->Apply(instance.vtable, instance.self, resource.name, &model));
  }
  *out = Slot(resource.name, std::move(model));
  return Status();
}

Status Maker::Explain(const graph::PlanResource& resource, const runtime::ResourceSlot& from,
                      runtime::ResourceSlot* out, ResourcePlan* plan) {
  plan->name = resource.name;
  if (resource.kind->role != abi::Role::kTransform) {
    std::shared_ptr<Model> model;
    ENGINE_RETURN_IF_ERROR(Load(resource, false, &model));
    const ModelConfig& c = model->config();
    plan->bytes_after = model->base().ServedBytes();
    plan->summary = c.architecture + ", " + std::to_string(c.blocks) + " blocks, hidden " +
                    std::to_string(c.hidden) + ", " + std::to_string(c.heads) + " query and " +
                    std::to_string(c.kv_heads) + " KV heads of " + std::to_string(c.head_dim) +
                    ", MLP " + std::to_string(c.mlp) + ", vocabulary " + std::to_string(c.vocab) +
                    (c.tied_embedding ? ", tied embedding" : "") + "; weights " +
                    MiB(plan->bytes_after);
    *out = Slot(resource.name, std::move(model));
    return Status();
  }
  Instance instance;
  ENGINE_RETURN_IF_ERROR(CreateTransform(registry_, resource, &instance));
  std::vector<SiteChange> diff;
  ENGINE_RETURN_IF_ERROR(
      ModelOf(from)->Plan(instance.vtable, instance.self.get(), resource.name, &diff));
  struct Group {
    int64_t count = 0, before = 0, after = 0;
  };
  std::map<std::pair<std::string, std::string>, Group> groups;
  for (const SiteChange& change : diff) {
    Group& group = groups[{Grouped(ModelOf(from)->sites()[change.site].name), change.note}];
    ++group.count;
    group.before += change.bytes_before;
    group.after += change.bytes_after;
    plan->bytes_before += change.bytes_before;
    plan->bytes_after += change.bytes_after;
  }
  for (const auto& [key, group] : groups) {
    plan->lines.push_back(key.first + " (" + std::to_string(group.count) + "): " + key.second +
                          ", " + MiB(group.before) + " -> " + MiB(group.after));
  }
  plan->summary = std::to_string(diff.size()) + " sites, " + MiB(plan->bytes_before) + " -> " +
                  MiB(plan->bytes_after);
  // The chain goes on over the model as it is: what is planned needs descriptions only.
  *out = from;
  return Status();
}

}  // namespace engine::model
