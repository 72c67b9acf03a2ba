#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/cli/bench.h"

namespace engine::cli {
namespace {

using nlohmann::ordered_json;

// A JSON line without the fields that tell of time, memory and caches, not of the result.
std::string WithoutFigures(const std::string& text) {
  std::istringstream in(text);
  std::string out;
  for (std::string line; std::getline(in, line);) {
    auto j = nlohmann::json::parse(line, nullptr, false);
    if (j.is_object()) {
      for (const char* key : {"ttft_s", "tokens_per_s", "peak_bytes", "seconds", "queued_s",
                              "usage", "waves", "median"}) {
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

}  // namespace

Status RunChild(std::vector<std::string> words, Child* child) {
  namespace fs = std::filesystem;
  std::string folder = (fs::temp_directory_path() / "engine_bench_XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) {
    return Error(ENGINE_UNAVAILABLE, "no temporary folder can be made");
  }
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string out = folder + "/out", err = folder + "/err";
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&files, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t pid = 0;
  const int spawned = posix_spawn(&pid, words[0].c_str(), &files, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  Status status;
  if (spawned != 0) {
    status = Error(ENGINE_UNAVAILABLE, "'", words[0], "' cannot be run");
  } else {
    int exit_status = 0;
    rusage usage = {};
    while (wait4(pid, &exit_status, 0, &usage) < 0 && errno == EINTR) {
    }
    child->good = WIFEXITED(exit_status) && WEXITSTATUS(exit_status) == 0;
    child->peak_bytes = static_cast<uint64_t>(usage.ru_maxrss) * 1024;
    child->out = ReadWhole(out);
    child->err = ReadWhole(err);
  }
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  return status;
}

Status RunVariant(const BenchArgs& args, const Point& point, const std::string& folder, bool counts,
                  Variant* variant, ordered_json* machine) {
  const std::string report_path = folder + "/report.json";
  std::vector<std::string> words = {"/proc/self/exe", "run", args.pipeline.file};
  for (const std::string& p : args.pipeline.positional) words.push_back(p);
  for (const std::string& s : args.pipeline.sets) words.insert(words.end(), {"--set", s});
  if (!point.load.empty()) words.insert(words.end(), {"--set", "load=" + point.load});
  if (!variant->name.empty()) {
    words.insert(words.end(),
                 {"--set", variant->setting ? variant->name : variant->name + ".bypass=true"});
  }
  words.insert(words.end(), {"--report", report_path});
  Child child;
  ENGINE_RETURN_IF_ERROR(RunChild(words, &child));
  if (!child.good) {
    return Error(ENGINE_ABORTED, "the run ",
                 variant->name.empty() ? "with everything on" : "without '" + variant->name + "'",
                 " failed:\n", child.err);
  }
  const auto report = ordered_json::parse(ReadWhole(report_path), nullptr, false);
  if (!report.is_object()) return Error(ENGINE_INTERNAL, "a run wrote no report");
  *machine = report;
  if (counts) {
    variant->figures["run_s"].push_back(report["run_s"]);
    variant->figures["load_s"].push_back(report["load_s"]);
    variant->figures["peak_bytes"].push_back(report["peak_bytes"]);
    const auto figures = ordered_json::parse(child.out, nullptr, false);
    if (figures.is_object() && figures.contains("median")) {
      for (const auto& [key, value] : figures["median"].items()) {
        if (value.is_number()) variant->figures[key].push_back(value);
      }
    }
  }
  const std::string output = WithoutFigures(child.out);
  if (variant->output.empty()) {
    variant->output = output;
  } else if (variant->output != output) {
    variant->repeats_itself = false;
  }
  return Status();
}

}  // namespace engine::cli
