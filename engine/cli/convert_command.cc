// engine convert: a model from one container into the other, with other numbers if one likes, and
// with an adapter merged into its weights.
#include <csignal>
#include <cstdio>

#include "engine/cli/adapter_kind.h"
#include "engine/cli/commands.h"
#include "engine/model/export_model.h"
#include "engine/model/maker.h"

namespace engine::cli {
namespace {

// An adapter is read by the transform that computes with it, so that one thing knows its format.
Status Merge(const ConvertArgs& args, const model::MergeRequest& request) {
  std::string kind;
  ENGINE_RETURN_IF_ERROR(AdapterKind(TheRegistry().index(), args.adapter_kind, &kind));
  PipelineArgs pipeline;
  pipeline.file = "convert";
  pipeline.text =
      "resource { name: \"base\"  load { weights: DECODED } }\n"
      "resource { name: \"tuned\"  from: \"base\"  " +
      kind + " { } }\n";
  pipeline.sets = {"base.load.path=" + args.model, "tuned." + kind + ".adapter=" + args.adapter};
  if (request.format.matrices == model::Encoding::kF64) {
    pipeline.sets.push_back("base.load.dtype=F64");
  }
  graph::Plan plan;
  if (!LoadPlan(pipeline, &plan, /*need_nodes=*/false)) {
    return Error(ENGINE_INVALID_ARGUMENT, "the model or the adapter cannot be used");
  }
  model::Maker maker(TheRegistry());
  std::vector<runtime::ResourceSlot> slots;
  for (const graph::PlanResource& resource : plan.resources) {
    ENGINE_RETURN_IF_ERROR(runtime::AddResource(TheRegistry(), resource, &maker, &slots));
  }
  return model::ExportModel(*model::ModelOf(slots.back()), request);
}

Status Convert(const ConvertArgs& args) {
  model::MergeRequest request;
  request.path = args.out;
  request.replace = args.force;
  ENGINE_RETURN_IF_ERROR(model::ParseExportFormat(args.out, args.type, &request.format));
  std::string path;
  ENGINE_RETURN_IF_ERROR(model::ResolveModel(args.model, &path));
  std::unique_ptr<model::Checkpoint> source;
  ENGINE_RETURN_IF_ERROR(model::OpenCheckpoint(path, &source));
  const model::ExportRequest plain{args.out, request.format, args.force, nullptr, {}, ""};
  ENGINE_RETURN_IF_ERROR(model::CheckExportPath(*source, plain));
  ENGINE_RETURN_IF_ERROR(args.adapter.empty() ? model::ExportCheckpoint(*source, plain)
                                              : Merge(args, request));
  std::printf("wrote %s\n", args.out.c_str());
  return Status();
}

}  // namespace

int ConvertCommand(const ConvertArgs& args) {
  // As of quantize: a limit on file sizes is an error of a write.
  std::signal(SIGXFSZ, SIG_IGN);
  const Status status = Convert(args);
  if (status.ok()) return kOk;
  PrintStatus(status);
  return ExportExitCode(status);
}

}  // namespace engine::cli
