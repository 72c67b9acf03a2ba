// engine bench: runs a pipeline's work in fresh processes, with everything on and with each
// optimization bypassed in turn, interleaved, and says what each one brings. A claim is a ratio of
// pairs that ran beside each other, with an interval, and tells whether the output was the same.
#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "engine/cli/commands.h"

namespace engine::cli {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

// One way to run the pipeline.
struct Variant {
  std::string bypassed;  // resource or node; empty: everything on
  std::string kind;
  std::vector<double> run_s, load_s;
  std::vector<uint64_t> peak_bytes;
  std::string output;  // of the first run
  bool repeats_itself = true;
};

// A JSON line without the fields that tell of time, memory and caches, not of the result.
std::string WithoutFigures(const std::string& text) {
  std::istringstream in(text);
  std::string out;
  for (std::string line; std::getline(in, line);) {
    auto j = nlohmann::json::parse(line, nullptr, false);
    if (j.is_object()) {
      for (const char* key :
           {"ttft_s", "tokens_per_s", "peak_bytes", "seconds", "queued_s", "usage"}) {
        j.erase(key);
      }
      out += j.dump() + "\n";
    } else {
      out += line + "\n";
    }
  }
  return out;
}

std::string ReadWhole(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

Status RunOnce(const BenchArgs& args, const std::string& folder, Variant* variant,
               ordered_json* report) {
  std::vector<std::string> words = {"engine", "run", args.pipeline.file};
  for (const std::string& p : args.pipeline.positional) words.push_back(p);
  for (const std::string& s : args.pipeline.sets) words.insert(words.end(), {"--set", s});
  if (!variant->bypassed.empty()) {
    words.insert(words.end(), {"--set", variant->bypassed + ".bypass=true"});
  }
  words.insert(words.end(), {"--report", folder + "/report.json"});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  const std::string out = folder + "/out", err = folder + "/err";
  posix_spawn_file_actions_addopen(&files, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&files, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t pid = 0;
  const int spawned = posix_spawn(&pid, "/proc/self/exe", &files, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  if (spawned != 0) return Error(ENGINE_UNAVAILABLE, "a run could not be started");
  int exit_status = 0;
  while (waitpid(pid, &exit_status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(exit_status) || WEXITSTATUS(exit_status) != 0) {
    return Error(
        ENGINE_ABORTED, "the run ",
        variant->bypassed.empty() ? "with everything on" : "without '" + variant->bypassed + "'",
        " failed:\n", ReadWhole(err));
  }
  *report = ordered_json::parse(ReadWhole(folder + "/report.json"), nullptr, false);
  if (!report->is_object()) return Error(ENGINE_INTERNAL, "a run wrote no report");
  const std::string output = WithoutFigures(ReadWhole(out));
  if (variant->output.empty()) {
    variant->output = output;
  } else if (variant->output != output) {
    variant->repeats_itself = false;
  }
  return Status();
}

double Median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  const size_t n = v.size();
  return n % 2 == 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

struct Interval {
  double median, low, high;
};

// Median of the paired ratios and its 95 % bootstrap interval, with a fixed seed.
Interval Ratio(const std::vector<double>& without, const std::vector<double>& with) {
  std::vector<double> ratios;
  for (size_t i = 0; i < with.size(); ++i) ratios.push_back(without[i] / with[i]);
  std::mt19937 random(1);
  std::uniform_int_distribution<size_t> pick(0, ratios.size() - 1);
  std::vector<double> medians;
  for (int b = 0; b < 2000; ++b) {
    std::vector<double> sample;
    for (size_t i = 0; i < ratios.size(); ++i) sample.push_back(ratios[pick(random)]);
    medians.push_back(Median(std::move(sample)));
  }
  std::sort(medians.begin(), medians.end());
  return {Median(ratios), medians[50], medians[1949]};
}

void PrintTable(const std::vector<Variant>& variants, const ordered_json& machine) {
  std::printf("isa %s, %d threads, %zu runs each, interleaved\n",
              machine["isa"].get<std::string>().c_str(), machine["threads"].get<int>(),
              variants[0].run_s.size());
  std::printf("%-22s %10s %10s  %-22s %10s %10s  %s\n", "optimization", "with s", "without s",
              "speed-up [95 %]", "with MiB", "w/o MiB", "output");
  const Variant& on = variants[0];
  const auto peak = [](const Variant& v) {
    return static_cast<double>(*std::max_element(v.peak_bytes.begin(), v.peak_bytes.end())) /
           1048576.0;
  };
  if (variants.size() == 1) {
    std::printf("%-22s %10.3f %10s  %-22s %10.0f\n", "(everything on)", Median(on.run_s), "", "",
                peak(on));
  }
  for (size_t i = 1; i < variants.size(); ++i) {
    const Variant& off = variants[i];
    const Interval r = Ratio(off.run_s, on.run_s);
    char ratio[64];
    std::snprintf(ratio, sizeof ratio, "%.2fx [%.2f, %.2f]", r.median, r.low, r.high);
    std::printf("%-22s %10.3f %10.3f  %-22s %10.0f %10.0f  %s\n",
                (off.bypassed + " (" + off.kind + ")").c_str(), Median(on.run_s), Median(off.run_s),
                ratio, peak(on), peak(off), off.output == on.output ? "same" : "differs");
  }
  for (const Variant& v : variants) {
    if (!v.repeats_itself) {
      std::printf("note: the output %s is not the same in each run\n",
                  v.bypassed.empty() ? "with everything on" : ("without " + v.bypassed).c_str());
    }
  }
}

ordered_json ToJson(const std::vector<Variant>& variants, const ordered_json& machine,
                    const BenchArgs& args) {
  ordered_json j;
  j["pipeline"] = args.pipeline.file;
  j["isa"] = machine["isa"];
  j["threads"] = machine["threads"];
  j["variants"] = ordered_json::array();
  for (const Variant& v : variants) {
    ordered_json item;
    item["without"] = v.bypassed.empty() ? ordered_json() : ordered_json(v.bypassed);
    if (!v.kind.empty()) item["kind"] = v.kind;
    item["run_s"] = v.run_s;
    item["load_s"] = v.load_s;
    item["peak_bytes"] = v.peak_bytes;
    item["repeats_itself"] = v.repeats_itself;
    if (!v.bypassed.empty()) {
      const Interval r = Ratio(v.run_s, variants[0].run_s);
      item["speedup"] = {{"median", r.median}, {"low", r.low}, {"high", r.high}};
      item["same_output"] = v.output == variants[0].output;
    }
    j["variants"].push_back(item);
  }
  return j;
}

}  // namespace

int BenchCommand(const BenchArgs& args) {
  graph::Plan plan;
  if (!LoadPlan(args.pipeline, &plan)) return kBadInput;
  std::vector<Variant> variants(1);
  if (args.ablate) {
    for (const graph::PlanResource& r : plan.resources) {
      if (r.kind->role != abi::Role::kTransform || r.bypassed) continue;
      variants.emplace_back();
      variants.back().bypassed = r.name;
      variants.back().kind = r.kind->name;
    }
    for (const graph::PlanNode& n : plan.nodes) {
      if (n.kind->bypass.empty() || n.bypassed) continue;
      variants.emplace_back();
      variants.back().bypassed = n.name;
      variants.back().kind = n.kind->name;
    }
    if (variants.size() == 1) {
      std::fprintf(stderr, "engine: %s has nothing that can be bypassed\n",
                   args.pipeline.file.c_str());
    }
  }
  std::string pattern = (fs::temp_directory_path() / "engine_bench_XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) {
    std::fprintf(stderr, "engine: error: no temporary folder can be made\n");
    return kFailed;
  }
  ordered_json machine;
  Status status;
  // The first round warms the file cache and is not counted.
  for (int round = 0; round <= args.repeats && status.ok(); ++round) {
    for (Variant& variant : variants) {
      if (isatty(2) != 0) {
        std::fprintf(
            stderr, "\rround %d of %d: %-30s", round, args.repeats,
            variant.bypassed.empty() ? "everything on" : ("without " + variant.bypassed).c_str());
      }
      ordered_json report;
      status = RunOnce(args, pattern, &variant, &report);
      if (!status.ok()) break;
      machine = report;
      if (round == 0) continue;
      variant.run_s.push_back(report["run_s"]);
      variant.load_s.push_back(report["load_s"]);
      variant.peak_bytes.push_back(report["peak_bytes"]);
    }
  }
  if (isatty(2) != 0) std::fprintf(stderr, "\r%50s\r", "");
  std::error_code ignored;
  fs::remove_all(pattern, ignored);
  if (!status.ok()) {
    PrintStatus(status);
    return kFailed;
  }
  PrintTable(variants, machine);
  if (args.json.empty()) return kOk;
  std::ofstream out(args.json);
  out << ToJson(variants, machine, args).dump(1) << "\n";
  out.flush();
  if (!out) {
    std::fprintf(stderr, "engine: error: '%s' cannot be written\n", args.json.c_str());
    return kFailed;
  }
  return kOk;
}

}  // namespace engine::cli
