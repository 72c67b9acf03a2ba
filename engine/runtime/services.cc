#include "engine/runtime/services.h"

#include <atomic>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>

#include "engine/runtime/io_pool.h"
#include "engine/status.hpp"

struct engine_metric {
  uint32_t type;
  std::string help;
  std::atomic<double> value{0};
};

namespace engine::runtime {
namespace {

std::atomic<int> g_level{ENGINE_LOG_WARNING};

struct Metrics {
  std::mutex mutex;
  std::map<std::string, std::unique_ptr<engine_metric>> all;  // guarded by mutex
};
Metrics& AllMetrics() {
  static auto* metrics = new Metrics;
  return *metrics;
}

bool IsMetricName(std::string_view name) {
  if (name.empty() || (name[0] >= '0' && name[0] <= '9')) return false;
  for (char c : name) {
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')) return false;
  }
  return true;
}

engine_status* GetMetric(uint32_t type, engine_str name, engine_str help, engine_metric** out) {
  return Guard([&]() -> Status {
    const std::string key(View(name));
    if (!IsMetricName(key)) {
      return Error(ENGINE_INVALID_ARGUMENT, "'", key, "' is no metric name: [a-z_][a-z0-9_]*");
    }
    if (type != ENGINE_METRIC_COUNTER && type != ENGINE_METRIC_GAUGE) {
      return Error(ENGINE_INVALID_ARGUMENT, "metric type ", type, " is unknown");
    }
    Metrics& metrics = AllMetrics();
    std::lock_guard lock(metrics.mutex);
    auto& slot = metrics.all[key];
    if (slot == nullptr) {
      slot = std::make_unique<engine_metric>();
      slot->type = type;
      slot->help = std::string(View(help));
    } else if (slot->type != type) {
      return Error(ENGINE_ALREADY_EXISTS, "metric '", key, "' exists with another type");
    }
    *out = slot.get();
    return Status();
  });
}

void AddMetric(engine_metric* metric, double value) {
  if (metric->type == ENGINE_METRIC_COUNTER && !(value >= 0)) return;
  metric->value.fetch_add(value, std::memory_order_relaxed);
}

engine_metric* Own(uint32_t type, const std::string& name, const std::string& help) {
  engine_metric* metric = nullptr;
  const Status status(GetMetric(type, Str(name), Str(help), &metric));
  return status.ok() ? metric : nullptr;
}

const engine_log kLog = {sizeof(engine_log),
                         [](uint32_t level, engine_str source, engine_str text) {
                           LogLine(static_cast<engine_log_level>(level), View(source), View(text));
                         }};
const engine_metrics kMetrics = {sizeof(engine_metrics), &GetMetric, &AddMetric,
                                 [](engine_metric* metric, double value) {
                                   if (metric->type == ENGINE_METRIC_GAUGE)
                                     metric->value.store(value);
                                 },
                                 [](engine_status* (*put)(void*, engine_str), void* arg) {
                                   return Guard([&] {
                                     const std::string text = RenderMetrics();
                                     return Status(put(arg, Str(text)));
                                   });
                                 }};
const engine_async kAsync = {sizeof(engine_async),
                             [](void (*fn)(void*), void* arg) -> engine_status* {
                               return Guard([&] {
                                 RunOnIo([fn, arg] { fn(arg); });
                                 return Status();
                               });
                             },
                             [](uint64_t ns, void (*fn)(void*), void* arg) -> engine_status* {
                               return Guard([&] {
                                 // A plugin may block: not on the timers' thread.
                                 AfterOnIo(ns, [fn, arg] { RunOnIo([fn, arg] { fn(arg); }); });
                                 return Status();
                               });
                             }};

}  // namespace

const engine_log* LogHost() { return &kLog; }
const engine_metrics* MetricsHost() { return &kMetrics; }
const engine_async* AsyncHost() { return &kAsync; }

void SetLogLevel(engine_log_level level) { g_level.store(level); }

void LogLine(engine_log_level level, std::string_view source, std::string_view text) {
  if (level < g_level.load()) return;
  static constexpr const char* kNames[] = {"debug", "info", "warning", "error"};
  std::string line = kNames[level & 3];
  line.append(" ").append(source).append(": ");
  for (char c : text) {
    // A line of the log stays one line, whatever a plugin or a request put into it.
    char escaped[8];
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      line += c;
    } else {
      std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
      line += escaped;
    }
  }
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void CountMetric(const std::string& name, const std::string& help, double value) {
  if (engine_metric* metric = Own(ENGINE_METRIC_COUNTER, name, help)) AddMetric(metric, value);
}
void SetMetric(const std::string& name, const std::string& help, double value) {
  if (engine_metric* metric = Own(ENGINE_METRIC_GAUGE, name, help)) metric->value.store(value);
}

std::string RenderMetrics() {
  Metrics& metrics = AllMetrics();
  std::lock_guard lock(metrics.mutex);
  std::string text;
  for (const auto& [name, metric] : metrics.all) {
    char value[40];
    std::snprintf(value, sizeof value, "%.17g", metric->value.load());
    std::string help;
    for (char c : metric->help) help += c == '\n' ? ' ' : c;
    text += "# HELP " + name + " " + help + "\n# TYPE " + name +
            (metric->type == ENGINE_METRIC_COUNTER ? " counter\n" : " gauge\n") + name + " " +
            value + "\n";
  }
  return text;
}

}  // namespace engine::runtime
