// engine run: makes the pipeline, runs it to its end, reports.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "engine/cli/commands.h"
#include "engine/control/control.h"
#include "engine/kernels/int_kernels.h"
#include "engine/kernels/isa.h"
#include "engine/model/autograd.h"
#include "engine/model/machine.h"
#include "engine/model/maker.h"
#include "engine/runtime/pipeline.h"
#include "engine/runtime/services.h"
#include "engine/util.hpp"

namespace engine::cli {
namespace {

std::atomic<int> g_signals{0};

// The first one drains; the second one ends the process at once.
void OnSignal(int) {
  if (g_signals.fetch_add(1) >= 1) _exit(kInterrupted);
}

void PrintStats(const runtime::RunReport& report) {
  std::fprintf(stderr, "%-24s %-16s %10s %10s %8s %12s %12s %12s %6s\n", "node", "kind", "calls",
               "emitted", "failed", "total ms", "mean us", "max us", "queue");
  for (const runtime::NodeStats& n : report.nodes) {
    const double total = static_cast<double>(n.total_ns);
    std::fprintf(stderr, "%-24s %-16s %10llu %10llu %8llu %12.2f %12.2f %12.2f %6u\n",
                 n.name.c_str(), n.kind.c_str(), static_cast<unsigned long long>(n.calls),
                 static_cast<unsigned long long>(n.emitted),
                 static_cast<unsigned long long>(n.failed), total / 1e6,
                 n.calls == 0 ? 0.0 : total / 1e3 / static_cast<double>(n.calls),
                 static_cast<double>(n.max_ns) / 1e3, n.queue_high_water);
  }
  if (report.dropped_packets != 0) {
    std::fprintf(stderr, "dropped packets: %llu\n",
                 static_cast<unsigned long long>(report.dropped_packets));
  }
}

// A line on a terminal about long work: time and the calls of the busiest nodes. It stays away when
// standard output is a terminal too, since text may stream there.
class Progress {
 public:
  void Show(const runtime::Run& run) {
    const uint64_t now = runtime::NowNs();
    if (!wanted_ || now - begin_ < 2'000'000'000 || now - last_ < 500'000'000) return;
    last_ = now;
    std::vector<runtime::NodeStats> nodes = run.report().nodes;
    std::sort(nodes.begin(), nodes.end(),
              [](const auto& a, const auto& b) { return a.total_ns > b.total_ns; });
    std::string line = std::to_string((now - begin_) / 1'000'000'000) + " s";
    for (size_t i = 0; i < nodes.size() && i < 3; ++i) {
      line += "  " + nodes[i].name + " " + std::to_string(nodes[i].calls);
    }
    std::fprintf(stderr, "\r%-76.76s", line.c_str());
    shown_ = true;
  }
  void Clear() {
    if (std::exchange(shown_, false)) std::fprintf(stderr, "\r%76s\r", "");
  }

 private:
  const bool wanted_ = isatty(2) != 0 && isatty(1) == 0;
  const uint64_t begin_ = runtime::NowNs();
  uint64_t last_ = 0;
  bool shown_ = false;
};

std::string Seconds(uint64_t nanoseconds) {
  return std::to_string(nanoseconds / 1'000'000'000) + " s";
}

// Names nodes that do not come back. A thread inside a plugin cannot be ended, so where a run
// waits for one in vain the process ends without it.
class Watchdog {
 public:
  Watchdog(double warn_s, double limit_s, uint32_t grace_ms)
      : warn_ns_(Ns(warn_s)), limit_ns_(Ns(limit_s)), grace_ns_(uint64_t{grace_ms} * 1'000'000) {}

  void Look(runtime::Run* run) {
    const uint64_t now = runtime::NowNs();
    if (now < next_) return;
    next_ = now + 100'000'000;
    if (run->state() == runtime::RunState::kCancelled) return WaitForCancelled(*run, now);
    if (warn_ns_ != 0) {
      const std::vector<runtime::LongCall> calls = run->Inside(warn_ns_);
      for (const runtime::LongCall& call : calls) {
        std::fprintf(stderr, "engine: warning: %s; it may hang\n", Words(call).c_str());
      }
      if (!calls.empty()) warn_ns_ *= 2;  // not again soon
    }
    if (limit_ns_ != 0) {
      for (const runtime::LongCall& call : run->Inside(limit_ns_)) {
        run->Cancel(Error(ENGINE_DEADLINE_EXCEEDED, Words(call), " (--hang-limit)")
                        .At(call.plugin, call.node));
        return;
      }
    }
  }

 private:
  static uint64_t Ns(double seconds) { return static_cast<uint64_t>(seconds * 1e9); }
  static std::string Words(const runtime::LongCall& call) {
    return "node '" + call.node + "' (" + call.kind + " of " + call.plugin +
           ") has been in one call for " + Seconds(call.nanoseconds);
  }
  void WaitForCancelled(const runtime::Run& run, uint64_t now) {
    if (cancelled_ == 0) cancelled_ = now;
    if (now - cancelled_ < grace_ns_) return;
    for (const runtime::LongCall& call : run.Inside(0)) {
      std::fprintf(stderr, "engine: error: %s and did not come back when the run was cancelled\n",
                   Words(call).c_str());
    }
    const Status why = run.failure();
    if (!why.ok()) PrintStatus(why);
    std::fprintf(stderr,
                 "engine: the process ends without them, %s after the cancel (limits.drain_ms)\n",
                 Seconds(now - cancelled_).c_str());
    std::fflush(stdout);
    _exit(kFailed);
  }

  uint64_t warn_ns_;
  const uint64_t limit_ns_, grace_ns_;
  uint64_t next_ = 0, cancelled_ = 0;
};

// Times, memory and node figures as `engine bench` reads them.
Status WriteReport(const std::string& path, double load_s, double run_s,
                   const runtime::RunReport& report) {
  nlohmann::ordered_json j;
  j["load_s"] = load_s;
  j["run_s"] = run_s;
  j["peak_bytes"] = PeakBytes();
  j["isa"] = kernels::IsaReport();
  j["int_kernels"] = kernels::IntKernelReport();
  j["threads"] = model::ComputeThreads();
  for (const runtime::NodeStats& n : report.nodes) {
    j["nodes"][n.name] = {{"kind", n.kind},
                          {"calls", n.calls},
                          {"failed", n.failed},
                          {"seconds", static_cast<double>(n.total_ns) * 1e-9}};
  }
  std::ofstream out(path);
  out << j.dump(1) << "\n";
  out.flush();
  if (!out) return Error(ENGINE_INVALID_ARGUMENT, "report file '", path, "' cannot be written");
  return Status();
}

}  // namespace

int RunCommand(const RunArgs& args) {
  if (args.verbose) runtime::SetLogLevel(ENGINE_LOG_INFO);
  graph::Plan plan;
  if (!LoadPlan(args.pipeline, &plan)) return kBadInput;
  const std::string trace_file = args.trace.empty() ? plan.trace.file : args.trace;

  struct sigaction action = {};
  action.sa_handler = &OnSignal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);  // a reader that went away is an error of writing, not a death

  std::unique_ptr<runtime::Trace> trace;
  if (!trace_file.empty()) trace = std::make_unique<runtime::Trace>(plan.trace.events);
  const auto thread_state = model::CaptureThreadState();
  runtime::RunOptions options;
  options.thread_state = thread_state.get();
  options.trace = trace.get();
  model::Maker maker(TheRegistry());
  std::unique_ptr<runtime::Pipeline> pipeline;
  const uint64_t begin = runtime::NowNs();
  Status status = runtime::Pipeline::Make(plan, TheRegistry(), &maker, options, &pipeline);
  if (!status.ok()) {
    PrintStatus(status);
    return g_signals.load() != 0 ? kInterrupted : kFailed;
  }
  runtime::Run& run = pipeline->run();
  std::unique_ptr<control::Server> server;
  if (!args.control.empty()) {
    status = control::Server::Start(args.control, {&plan, &TheRegistry().index(), &run}, &server);
    if (!status.ok()) {
      PrintStatus(status);
      return kBadInput;
    }
    std::fprintf(stderr, "control endpoint on http://%s\n", server->address().c_str());
  }
  status = run.Open();
  const uint64_t started = runtime::NowNs();
  Progress progress;
  Watchdog watchdog(args.hang_warning, args.hang_limit, plan.limits.drain_ms);
  if (status.ok()) {
    run.Start();
    uint64_t drained = 0;
    while (!run.WaitFor(50'000'000)) {
      progress.Show(run);
      watchdog.Look(&run);
      if (drained != 0 && runtime::NowNs() - drained > uint64_t{plan.limits.drain_ms} * 1'000'000) {
        run.Cancel(Error(ENGINE_DEADLINE_EXCEEDED, "what was under way was not finished within ",
                         plan.limits.drain_ms, " ms (limits.drain_ms)"));
      }
      if (drained != 0) continue;
      if (g_signals.load() != 0) {
        std::fprintf(stderr, "\nengine: draining; interrupt again to end at once\n");
        run.Drain();
      }
      // An operator may have asked for it too.
      if (run.state() == runtime::RunState::kDraining) drained = runtime::NowNs();
    }
    progress.Clear();
    status = run.Wait();
  }
  const uint64_t ended = runtime::NowNs();
  const runtime::RunReport report = run.report();
  server.reset();
  if (args.stats) PrintStats(report);
  if (!args.report.empty()) {
    const Status written = WriteReport(args.report, static_cast<double>(started - begin) * 1e-9,
                                       static_cast<double>(ended - started) * 1e-9, report);
    if (!written.ok()) PrintStatus(written);
    if (status.ok()) status = written;
  }
  if (trace != nullptr) {
    std::vector<std::string> names;
    for (const runtime::NodeStats& n : report.nodes) names.push_back(n.name);
    const Status written = trace->Write(trace_file, names);
    if (!written.ok()) PrintStatus(written);
    if (status.ok()) status = written;
  }
  for (size_t i = 0; i < report.failures.size(); ++i) {
    if (i != 0 || status.message() != report.failures[0].message()) PrintStatus(report.failures[i]);
  }
  if (!status.ok()) PrintStatus(status);
  // What serves until it is told to stop has done all of it when it has drained.
  const bool serves = std::any_of(plan.nodes.begin(), plan.nodes.end(),
                                  [](const graph::PlanNode& n) { return n.runs->hears; });
  if (g_signals.load() != 0 && !(serves && status.ok())) return kInterrupted;
  return status.ok() ? kOk : kFailed;
}

}  // namespace engine::cli
