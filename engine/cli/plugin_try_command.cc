// The commands that try a plugin out: test and check.
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "engine/cli/commands.h"
#include "engine/cli/conformance/cases.h"
#include "engine/cli/conformance/check.h"

namespace engine::cli {
namespace {

namespace fs = std::filesystem;

// A folder of this command's own, gone with it.
class Scratch {
 public:
  Scratch() {
    std::string pattern = (fs::temp_directory_path() / "engine_plugin_XXXXXX").string();
    if (mkdtemp(pattern.data()) != nullptr) path_ = pattern;
  }
  ~Scratch() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

int Fail(const Status& status, int code) {
  PrintStatus(status);
  return code;
}

}  // namespace

int PluginTestCommand(const PluginTestArgs& args) {
  std::string text;
  Status status = ReadTextFile(args.cases, &text);
  if (!status.ok()) return Fail(status, kBadInput);
  const Scratch scratch;
  std::unique_ptr<conformance::Workbench> bench;
  status = conformance::Workbench::Open(args.plugin, scratch.path(), &bench);
  if (!status.ok()) return Fail(status, kFailed);
  conformance::CasesResult result;
  status = conformance::RunCases(bench.get(), text, args.cases, args.only, &result);
  std::fputs(result.report.c_str(), stdout);
  if (!status.ok()) return Fail(status, kBadInput);
  std::printf("%d of %d cases passed\n", result.run - result.failed, result.run);
  if (result.run == 0) std::printf("no case has such a name\n");
  // What the plugin left behind is not taken apart: the process ends.
  bench.release();
  return result.failed == 0 && result.run != 0 ? kOk : kFailed;
}

int PluginCheckCommand(const PluginCheckArgs& args) {
  const Scratch scratch;
  conformance::CheckOptions options;
  options.plugin = args.plugin;
  options.folder = scratch.path();
  options.seed = args.seed;
  options.messages = args.messages;
  options.limit = std::chrono::seconds(args.limit_s);
  options.scan = {"/proc/self/exe", "plugin", "scan", "--"};
  const conformance::Report report = conformance::Check(options);
  std::fputs(
      args.json ? conformance::ReportJson(report).c_str() : conformance::ReportText(report).c_str(),
      stdout);
  return report.failed == 0 ? kOk : kFailed;
}

}  // namespace engine::cli
