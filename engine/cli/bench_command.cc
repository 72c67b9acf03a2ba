// engine bench: runs a pipeline's work in fresh processes, with everything on and with each
// optimization bypassed in turn, interleaved, beside a peer where one is given, and says what each
// one brings. A claim is a ratio of pairs that ran beside each other, with an interval, and tells
// whether the output was the same.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "engine/cli/bench.h"
#include "engine/model/maker.h"

namespace engine::cli {
namespace {

using nlohmann::ordered_json;

// "streams=1,2,4" over a load gives one point a value.
Status MakePoints(const BenchArgs& args, std::vector<Point>* points) {
  if (args.sweep.empty()) {
    points->push_back({args.load, "", {}});
    return Status();
  }
  const size_t equals = args.sweep.find('=');
  if (equals == std::string::npos || equals == 0) {
    return Error(ENGINE_INVALID_ARGUMENT, "--sweep ", args.sweep,
                 ": a word of the load and its values are needed, as in streams=1,2,4");
  }
  const std::string key = args.sweep.substr(0, equals);
  std::string rest = args.sweep.substr(equals + 1);
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    const std::string value = rest.substr(0, comma);
    rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    points->push_back({args.load + " " + key + "=" + value, value, {}});
  }
  return Status();
}

void AddBypasses(const graph::Plan& plan, std::vector<Variant>* variants) {
  for (const graph::PlanResource& r : plan.resources) {
    if (r.kind->role != abi::Role::kTransform || r.bypassed) continue;
    variants->push_back({r.name, r.kind->name, false, false, {}, {}, true});
  }
  for (const graph::PlanNode& n : plan.nodes) {
    if (n.kind->bypass.empty() || n.bypassed) continue;
    variants->push_back({n.name, n.kind->name, false, false, {}, {}, true});
  }
}

Status Write(const std::string& path, const std::string& text) {
  if (path.empty()) return Status();
  std::ofstream out(path);
  out << text;
  out.flush();
  return out ? Status() : Error(ENGINE_UNAVAILABLE, "'", path, "' cannot be written");
}

// All rounds of all points; each round runs every variant of a point once, side by side. The first
// round warms the file cache and is not counted; what cannot run without an optimization that is
// bypassed, training without anything to train, say, is left out after it and told.
Status Measure(const BenchArgs& args, const Peer& peer, const std::string& folder,
               std::vector<Point>* points, ordered_json* machine,
               std::vector<std::string>* left_out) {
  for (Point& point : *points) {
    for (int round = 0; round <= args.repeats; ++round) {
      for (size_t i = 0; i < point.variants.size(); ++i) {
        Variant& variant = point.variants[i];
        if (isatty(STDERR_FILENO) != 0) {
          std::fprintf(stderr, "\r%-40s round %d of %d: %-24s", point.load.c_str(), round,
                       args.repeats, variant.name.empty() ? "everything on" : variant.name.c_str());
        }
        if (variant.peer) {
          Peer with_threads = peer;
          with_threads.threads = (*machine)["threads"];
          ENGINE_RETURN_IF_ERROR(RunPeer(with_threads, point.load, round > 0, &variant));
        } else {
          const Status status = RunVariant(args, point, folder, round > 0, &variant, machine);
          const bool bypass = !variant.name.empty() && !variant.setting;
          if (round == 0 && bypass && status.code() == ENGINE_ABORTED) {
            left_out->push_back(std::string(status.message()));
            point.variants.erase(point.variants.begin() + static_cast<std::ptrdiff_t>(i--));
            continue;
          }
          ENGINE_RETURN_IF_ERROR(status);
        }
      }
    }
  }
  return Status();
}

Status Bench(const BenchArgs& args, const graph::Plan& plan) {
  std::vector<Point> points;
  ENGINE_RETURN_IF_ERROR(MakePoints(args, &points));
  std::vector<Variant> variants(1);
  if (args.ablate) {
    AddBypasses(plan, &variants);
    if (variants.size() == 1) {
      std::fprintf(stderr, "engine: %s has nothing that can be bypassed\n",
                   args.pipeline.file.c_str());
    }
  }
  for (const std::string& setting : args.compare) {
    variants.push_back({setting, "", false, true, {}, {}, true});
  }
  Peer peer;
  if (!args.against.empty()) {
    ENGINE_RETURN_IF_ERROR(ParsePeer(args.against, &peer));
    for (const graph::PlanResource& r : plan.resources) {
      if (peer.model.empty()) ENGINE_RETURN_IF_ERROR(model::ModelPath(r, &peer.model));
    }
    variants.push_back({"llama.cpp", "", true, false, {}, {}, true});
  }
  for (Point& point : points) point.variants = variants;
  std::string folder = (std::filesystem::temp_directory_path() / "engine_bench_XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) {
    return Error(ENGINE_UNAVAILABLE, "no temporary folder can be made");
  }
  ordered_json machine;
  std::vector<std::string> left_out;
  const Status status = Measure(args, peer, folder, &points, &machine, &left_out);
  if (isatty(STDERR_FILENO) != 0) std::fprintf(stderr, "\r%100s\r", "");
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  ENGINE_RETURN_IF_ERROR(status);
  PrintTable(points, args, machine);
  for (const std::string& what : left_out) std::printf("left out: %s\n", what.c_str());
  ENGINE_RETURN_IF_ERROR(Write(args.json, ToJson(points, args, machine).dump(1) + "\n"));
  return Write(args.svg, ToSvg(points, args, machine));
}

}  // namespace

int BenchCommand(BenchArgs args) {
  if (args.figure.empty()) args.figure = args.load.empty() ? "run_s" : "output_tokens_per_s";
  const bool needs_load = !args.against.empty() || !args.sweep.empty() || !args.svg.empty();
  if (needs_load && args.load.empty()) {
    std::fprintf(stderr, "engine: error: --against, --sweep and --svg need --load\n");
    return kBadInput;
  }
  graph::Plan plan;
  PipelineArgs checked = args.pipeline;
  if (!args.load.empty()) checked.sets.push_back("load=" + args.load);
  if (!LoadPlan(checked, &plan)) return kBadInput;
  const Status status = Bench(args, plan);
  if (status.ok()) return kOk;
  PrintStatus(status);
  return status.code() == ENGINE_INVALID_ARGUMENT || status.code() == ENGINE_NOT_FOUND ? kBadInput
                                                                                       : kFailed;
}

}  // namespace engine::cli
