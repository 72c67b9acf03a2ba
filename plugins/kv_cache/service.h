// A pool as the C table engine.kv_pool/1, and its figures as metrics of the host.
#ifndef PLUGINS_KV_CACHE_SERVICE_H_
#define PLUGINS_KV_CACHE_SERVICE_H_

#include <array>
#include <memory>
#include <mutex>

#include "engine/ext/metrics.h"
#include "engine/growth.hpp"
#include "pool.h"

namespace engine::kv_cache {

// What changed in a pool since the last call, added to process-wide metrics, so that several pools
// add up. Thread-safe.
class Meters {
 public:
  // `host` may be null: then nothing is counted.
  explicit Meters(const engine_metrics* host);
  void Publish(const Pool& pool);
  // Takes the gauges back: the pool is gone.
  void Retire();

 private:
  static constexpr size_t kFigures = 17;
  using Figures = std::array<uint64_t, kFigures>;
  void Add(const Figures& now);

  const engine_metrics* const host_;
  std::array<engine_metric*, kFigures> metrics_ = {};
  std::mutex mutex_;
  Figures published_ = {};  // guarded by mutex_
};

class Service {
 public:
  Service(std::unique_ptr<Pool> pool, const engine_metrics* metrics);
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  const engine_kv_pool* table() const { return &table_; }
  Pool& pool() { return *pool_; }

 private:
  template <typename Body>
  static engine_status* Do(void* self, Body&& body);

  const std::unique_ptr<Pool> pool_;
  Meters meters_;
  engine_kv_pool table_ = {};
};

}  // namespace engine::kv_cache

#endif  // PLUGINS_KV_CACHE_SERVICE_H_
