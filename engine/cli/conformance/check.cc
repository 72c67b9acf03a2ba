#include "engine/cli/conformance/check.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/abi/judge.h"
#include "engine/abi/scanner.h"
#include "engine/cli/conformance/kind_checks.h"
#include "engine/cli/conformance/stage.h"

namespace engine::conformance {
namespace {

namespace fs = std::filesystem;

struct KindCheck {
  const char* name;
  void (*run)(const Subject&);
  bool nodes, transforms, resources;  // of which roles
};
constexpr KindCheck kChecks[] = {
    {"create", &CheckCreate, true, true, true},
    {"options", &CheckRandomOptions, true, true, true},
    {"wire", &CheckWire, true, true, true},
    {"packets", &CheckPackets, true, false, false},
    {"cancel", &CheckCancel, true, false, false},
    {"state", &CheckState, true, false, false},
    {"model", &CheckTransform, false, true, false},
};

class Run {
 public:
  explicit Run(const CheckOptions& options) : options_(options) { report_.plugin = options.plugin; }

  Report All() {
    if (!Scanned()) return std::move(report_);
    std::vector<std::pair<std::string, abi::Role>> kinds;
    Stage("", "describe", [&](Workbench* bench, Reporter* reporter) {
      const abi::Plugin& plugin = *bench->registry().index().FindPlugin(bench->id());
      reporter->Tell(plugin.id, "id", Result::kOk, plugin.version);
      for (const abi::Kind* kind : bench->Kinds()) {
        reporter->Tell(kind->name, "kind", Result::kOk,
                       std::to_string(static_cast<int>(kind->role)));
      }
      CheckDescriptions(bench, reporter);
    });
    // The first lines were for us.
    std::vector<Line> lines;
    for (Line& line : report_.lines) {
      if (line.check == "id") {
        report_.id = line.kind;
        report_.version = line.text;
      } else if (line.check == "kind") {
        kinds.emplace_back(line.kind, static_cast<abi::Role>(std::stoi(line.text)));
      } else {
        lines.push_back(std::move(line));
      }
    }
    report_.lines = std::move(lines);
    for (const auto& [name, role] : kinds) {
      for (const KindCheck& check : kChecks) {
        const bool fits = role == abi::Role::kNode        ? check.nodes
                          : role == abi::Role::kTransform ? check.transforms
                                                          : check.resources;
        if (!fits) continue;
        const std::string kind = name;
        Stage(kind, check.name, [&check, kind, this](Workbench* bench, Reporter* reporter) {
          check.run({bench, bench->registry().index().Find(kind), reporter, &options_});
        });
      }
    }
    for (const Line& line : report_.lines) {
      report_.ok += line.result == Result::kOk;
      report_.failed += line.result == Result::kFailed;
      report_.skipped += line.result == Result::kSkipped;
    }
    return std::move(report_);
  }

 private:
  // The scanner's judgement, which is that of every start of the engine.
  bool Scanned() {
    abi::ElfFacts facts;
    abi::Refusal refusal;
    Line line{"", "load", Result::kOk, "taken by the scanner", {}};
    Status status = abi::JudgeFile(options_.plugin, &facts, &refusal);
    if (status.ok()) {
      abi::ScanOptions scan;
      scan.command = options_.scan;
      scan.limit = abi::ScanLimit();
      std::string trouble;
      const std::vector<abi::Verdict> verdicts = abi::Scan(scan, {options_.plugin}, &trouble);
      if (verdicts[0].kind == abi::Verdict::Kind::kRefused) {
        refusal = verdicts[0].refusal;
        status = Status(ENGINE_FAILED_PRECONDITION, refusal.reason);
      } else if (verdicts[0].kind == abi::Verdict::Kind::kUnknown) {
        status = Status(ENGINE_INTERNAL, "the scanner did not come to an answer: " + trouble);
      }
    }
    if (!status.ok()) {
      line.result = Result::kFailed;
      line.text = std::string(status.message());
      if (!refusal.fix.empty()) line.details.push_back("fix: " + refusal.fix);
      for (const std::string& printed : refusal.output) line.details.push_back(printed);
      report_.failed = 1;
    }
    report_.lines.push_back(line);
    return status.ok();
  }

  void Stage(const std::string& kind, const std::string& check,
             const std::function<void(Workbench*, Reporter*)>& body) {
    const std::string folder = options_.folder + "/" + std::to_string(stages_++);
    std::error_code ignored;
    fs::create_directories(folder, ignored);
    std::ofstream(folder + "/file") << "{\"prompt\": \"Name a colour.\"}\n";
    const std::string plugin = fs::absolute(options_.plugin, ignored).string();
    StageResult result = RunStage(folder, options_.limit, [&](Reporter& reporter) {
      std::unique_ptr<Workbench> bench;
      const Status opened = Workbench::Open(plugin, folder, &bench);
      if (!opened.ok()) {
        reporter.Tell(kind, check, Result::kFailed, std::string(opened.message()));
        return;
      }
      body(bench.get(), &reporter);
      bench.release();  // the process ends
    });
    for (Line& line : result.lines) report_.lines.push_back(std::move(line));
    if (!result.trouble.empty()) {
      report_.lines.push_back({kind, check, Result::kFailed, result.trouble, result.printed});
    }
    fs::remove_all(folder, ignored);
  }

  const CheckOptions& options_;
  Report report_;
  int stages_ = 0;
};

const char* Word(Result result) {
  return result == Result::kOk ? "ok" : result == Result::kFailed ? "FAILED" : "skipped";
}

}  // namespace

Report Check(const CheckOptions& options) { return Run(options).All(); }

std::string ReportText(const Report& report) {
  std::string text = report.plugin;
  if (!report.id.empty()) text += ": " + report.id + " " + report.version;
  text += "\n";
  for (const Line& line : report.lines) {
    char head[200];
    std::snprintf(head, sizeof head, "  %-8s %-12s %-12s ", Word(line.result),
                  line.kind.empty() ? "(plugin)" : line.kind.c_str(), line.check.c_str());
    std::string body = line.text;
    for (size_t at = 0; (at = body.find('\n', at)) != std::string::npos; ++at) body[at] = ' ';
    text += head + body + "\n";
    for (const std::string& detail : line.details) text += "           | " + detail + "\n";
  }
  text += std::to_string(report.ok) + " ok, " + std::to_string(report.failed) + " failed, " +
          std::to_string(report.skipped) + " skipped\n";
  return text;
}

std::string ReportJson(const Report& report) {
  nlohmann::ordered_json j = {{"plugin", report.plugin},
                              {"id", report.id},
                              {"version", report.version},
                              {"good", report.failed == 0}};
  j["checks"] = nlohmann::ordered_json::array();
  for (const Line& line : report.lines) {
    j["checks"].push_back({{"kind", line.kind},
                           {"check", line.check},
                           {"result", Word(line.result)},
                           {"text", line.text},
                           {"details", line.details}});
  }
  return j.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace engine::conformance
