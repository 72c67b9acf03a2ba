// engine perplexity: how well the model of a pipeline, with all its transforms, predicts a text.
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/cli/commands.h"
#include "engine/kernels/isa.h"
#include "engine/model/maker.h"
#include "engine/model/perplexity.h"
#include "engine/util.hpp"

namespace engine::cli {

Status ReadTextFile(const std::string& path, std::string* out) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) return Error(ENGINE_NOT_FOUND, "text file '", path, "' cannot be read");
  *out = text.str();
  return Status();
}

namespace {

// The resources of a plan, without its nodes, up to the one that is named (all: the last).
Status MakeModel(const graph::Plan& plan, const std::string& resource,
                 std::vector<runtime::ResourceSlot>* slots, model::Model** out) {
  model::Maker maker(TheRegistry());
  *out = nullptr;
  std::string models;
  for (const graph::PlanResource& r : plan.resources) {
    ENGINE_RETURN_IF_ERROR(runtime::AddResource(TheRegistry(), r, &maker, slots).At("", r.name));
    model::Model* model = model::ModelOf(slots->back());
    if (model == nullptr) continue;
    models += (models.empty() ? "" : ", ") + r.name;
    if (resource.empty() || resource == r.name) *out = model;
    if (!resource.empty() && resource == r.name) return Status();
  }
  if (*out != nullptr) return Status();
  return Error(ENGINE_NOT_FOUND, "the pipeline has no model named '", resource, "'",
               models.empty() ? "" : "; there are: " + models);
}

Status Measure(const PerplexityArgs& args, const graph::Plan& plan) {
  std::string text;
  ENGINE_RETURN_IF_ERROR(ReadTextFile(args.text, &text));
  std::vector<runtime::ResourceSlot> slots;
  model::Model* model = nullptr;
  ENGINE_RETURN_IF_ERROR(MakeModel(plan, args.resource, &slots, &model));
  std::vector<int32_t> tokens;
  ENGINE_RETURN_IF_ERROR(model->base().tokenizer->Encode(text, false, true, &tokens));
  const bool terminal = isatty(STDERR_FILENO) != 0;
  const uint64_t begin = NowNs();
  model::Perplexity result;
  ENGINE_RETURN_IF_ERROR(model::MeasurePerplexity(
      model, tokens, args.window,
      [&](int64_t done, int64_t all) {
        if (terminal) std::fprintf(stderr, "\r%ld of %ld windows", long{done}, long{all});
      },
      &result));
  if (terminal) std::fputs("\n", stderr);
  const double seconds = static_cast<double>(NowNs() - begin) * 1e-9;
  if (args.json) {
    nlohmann::ordered_json j;
    j["perplexity"] = result.value;
    j["standard_error"] = result.spread;
    j["scored_tokens"] = result.scored;
    j["windows"] = result.windows;
    j["window"] = args.window;
    j["isa"] = kernels::IsaReport();
    j["seconds"] = seconds;
    std::printf("%s\n", j.dump().c_str());
    return Status();
  }
  std::printf("perplexity %.4f +/- %.4f (%ld tokens in %ld windows of %ld, %.1f s, %s)\n",
              result.value, result.spread, long{result.scored}, long{result.windows},
              long{args.window}, seconds, kernels::IsaReport().c_str());
  return Status();
}

}  // namespace

int PerplexityCommand(const PerplexityArgs& args) {
  graph::Plan plan;
  if (!LoadPlan(args.pipeline, &plan, /*need_nodes=*/false)) return kBadInput;
  const Status status = Measure(args, plan);
  if (status.ok()) return kOk;
  PrintStatus(status);
  return kFailed;
}

}  // namespace engine::cli
