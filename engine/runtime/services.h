// The host's log, metrics, tasks and I/O tables (engine.log/1, engine.metrics/1, engine.async/1),
// and what the engine itself reads of them.
#ifndef ENGINE_RUNTIME_SERVICES_H_
#define ENGINE_RUNTIME_SERVICES_H_

#include <functional>
#include <string>

#include "engine/ext/async.h"
#include "engine/ext/log.h"
#include "engine/ext/metrics.h"

namespace engine::runtime {

const engine_log* LogHost();
const engine_metrics* MetricsHost();
const engine_async* AsyncHost();

// One line on stderr, "level source: text", at or above the level that was set.
void LogLine(engine_log_level level, std::string_view source, std::string_view text);
void SetLogLevel(engine_log_level level);

// Adds to a counter, or sets a gauge, of the engine's own.
void CountMetric(const std::string& name, const std::string& help, double value);
void SetMetric(const std::string& name, const std::string& help, double value);
// All metrics in Prometheus' text format 0.0.4.
std::string RenderMetrics();

}  // namespace engine::runtime

#endif  // ENGINE_RUNTIME_SERVICES_H_
