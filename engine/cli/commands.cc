// The commands that read and tell: check, explain, graph, schema, inspect.
#include "engine/cli/commands.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>

#include "engine/graph/explain.h"
#include "engine/graph/inspect.h"
#include "engine/graph/render.h"
#include "engine/graph/schema.h"
#include "engine/model/maker.h"
#include "engine/runtime/resource.h"

namespace engine::cli {
namespace {

void Print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  if (!text.empty() && text.back() != '\n') std::fputc('\n', stdout);
}

}  // namespace

int CheckCommand(const PipelineArgs& args) {
  graph::Plan plan;
  if (!LoadPlan(args, &plan)) return kBadInput;
  std::printf("%s: good: %zu resources, %zu nodes, %zu edges\n", args.file.c_str(),
              plan.resources.size(), plan.nodes.size(), plan.edges.size());
  return kOk;
}

int ExplainCommand(const PipelineArgs& args) {
  graph::Plan plan;
  if (!LoadPlan(args, &plan)) return kBadInput;
  model::Maker maker(TheRegistry());
  std::map<std::string, std::string> diffs;
  std::vector<runtime::ResourceSlot> slots;
  int exit_code = kOk;
  for (const graph::PlanResource& resource : plan.resources) {
    const auto explain = [&](const runtime::ResourceSlot& from, runtime::ResourceSlot* made) {
      if (resource.from >= 0 && from == nullptr) return Status();  // what it needs failed already
      if (runtime::MadeByPlugin(TheRegistry(), resource)) {
        diffs[resource.name] = resource.kind->provides + ", made by " + resource.kind->plugin;
        return Status();
      }
      model::ResourcePlan planned;
      ENGINE_RETURN_IF_ERROR(maker.Explain(resource, from, made, &planned));
      std::string& text = diffs[resource.name] = planned.summary;
      for (const std::string& line : planned.lines) text += "\n" + line;
      return Status();
    };
    const Status status = runtime::AppendResource(resource, &slots, explain);
    if (status.ok()) continue;
    PrintStatus(status);
    exit_code = kFailed;
  }
  Print(graph::Explain(plan, diffs));
  return exit_code;
}

int GraphCommand(const PipelineArgs& args, const std::string& format) {
  graph::Plan plan;
  if (!LoadPlan(args, &plan)) return kBadInput;
  Print(format == "mermaid" ? graph::RenderMermaid(plan)
        : format == "svg"   ? graph::RenderSvg(plan)
                            : graph::RenderDot(plan));
  return kOk;
}

int SchemaCommand(const std::string& file) {
  std::unique_ptr<graph::Schema> schema;
  const Status status = graph::Schema::Build(TheRegistry().index(), {}, &schema);
  if (!status.ok()) {
    PrintStatus(status);
    return kFailed;
  }
  const std::string text = schema->Export();
  if (file.empty()) {
    Print(text);
    return kOk;
  }
  std::FILE* out = std::fopen(file.c_str(), "w");
  if (out == nullptr) {
    std::fprintf(stderr, "engine: error: file '%s' cannot be written\n", file.c_str());
    return kBadInput;
  }
  const bool written = std::fwrite(text.data(), 1, text.size(), out) == text.size();
  return std::fclose(out) == 0 && written ? kOk : kFailed;
}

int InspectCommand(const std::string& what) {
  std::unique_ptr<graph::Schema> schema;
  Status status = graph::Schema::Build(TheRegistry().index(), {}, &schema);
  std::string text;
  if (status.ok()) status = graph::Inspect(*schema, what, &text);
  if (!status.ok()) {
    PrintStatus(status);
    return kBadInput;
  }
  Print(text);
  return kOk;
}

int InspectMarkdownCommand(const std::string& what, const std::string& folder) {
  namespace fs = std::filesystem;
  std::unique_ptr<graph::Schema> schema;
  Status status = graph::Schema::Build(TheRegistry().index(), {}, &schema);
  std::string text;
  if (status.ok() && folder.empty()) status = graph::InspectMarkdown(*schema, what, &text);
  if (status.ok() && !folder.empty() && !what.empty()) {
    status = Error(ENGINE_INVALID_ARGUMENT, "--pages writes the pages of all plugins; leave '",
                   what, "' out");
  }
  if (status.ok() && !folder.empty()) {
    std::error_code error;
    fs::create_directories(folder, error);
    const auto pages = graph::ReferencePages(*schema);
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      const std::string name = entry.path().filename().string();
      const bool made = std::any_of(pages.begin(), pages.end(),
                                    [&](const auto& page) { return page.first == name; });
      if (!made && entry.path().extension() == ".md") fs::remove(entry.path(), error);
    }
    for (const auto& [name, page] : pages) {
      std::ofstream out(folder + "/" + name);
      out << page;
      out.close();
      if (!out) {
        status = Error(ENGINE_UNAVAILABLE, "file ", folder, "/", name, " cannot be written");
        break;
      }
    }
  }
  if (!status.ok()) {
    PrintStatus(status);
    return kBadInput;
  }
  if (folder.empty()) Print(text);
  return kOk;
}

}  // namespace engine::cli
