// What a run did and when: one event a call, kept in memory up to a bound, written as the Trace
// Event Format that Chrome and Perfetto read.
// Source: "Trace Event Format", Google (complete events "X", counters "C", metadata "M").
#ifndef ENGINE_RUNTIME_TRACE_H_
#define ENGINE_RUNTIME_TRACE_H_

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "engine/status.hpp"
#include "engine/util.hpp"

namespace engine::runtime {

using engine::NowNs;

class Trace {
 public:
  explicit Trace(size_t max_events = 4'000'000) : max_events_(max_events) {}
  // Thread-safe. `node` is an index into the names given to Write.
  void Call(uint32_t node, uint64_t key, uint64_t begin_ns, uint64_t end_ns);
  // Queue length of an input of `node` at that time.
  void Depth(uint32_t node, uint32_t port, uint32_t length, uint64_t at_ns);
  Status Write(const std::string& path, const std::vector<std::string>& node_names) const;

 private:
  struct Event {
    uint32_t node;
    uint32_t thread;            // small number of the OS thread; UINT32_MAX: a depth event
    uint64_t key;               // of the call; port of a depth event
    uint64_t begin_ns, end_ns;  // end is the length for a depth event
  };
  void Add(const Event& event);
  const size_t max_events_;
  mutable std::mutex mutex_;
  std::vector<Event> events_;  // guarded by mutex_
  size_t dropped_ = 0;         // guarded by mutex_
};

}  // namespace engine::runtime

#endif  // ENGINE_RUNTIME_TRACE_H_
