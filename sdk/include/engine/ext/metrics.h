/* engine.metrics/1: counters and gauges that /metrics exposes in Prometheus' text format.
 * Names begin with "engine_", carry base units, and counters end in "_total". */
#ifndef ENGINE_EXT_METRICS_H_
#define ENGINE_EXT_METRICS_H_

#include "engine/abi.h"

#define ENGINE_EXT_METRICS "engine.metrics/1"

typedef struct engine_metric engine_metric; /* lives as long as the process */

typedef enum engine_metric_type {
  ENGINE_METRIC_COUNTER = 1,
  ENGINE_METRIC_GAUGE = 2
} engine_metric_type;

typedef struct engine_metrics {
  uint32_t struct_size;
  /* [any] The metric of that name, made at the first call. A name used before with another type is
   * an error, as is a name outside [a-z_][a-z0-9_]*. */
  engine_status* (*get)(uint32_t type, engine_str name, engine_str help, engine_metric** out);
  void (*add)(engine_metric* metric, double value); /* [any] counters: value >= 0 */
  void (*set)(engine_metric* metric, double value); /* [any] gauges only */
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
  /* [any] Gives all metrics of the process to put(arg, ...) in Prometheus' text format. */
  engine_status* (*render)(engine_status* (*put)(void* arg, engine_str piece), void* arg);
#endif
} engine_metrics;

#endif /* ENGINE_EXT_METRICS_H_ */
