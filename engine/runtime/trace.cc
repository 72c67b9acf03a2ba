#include "engine/runtime/trace.h"

#include <unistd.h>

#include <atomic>
#include <fstream>
#include <nlohmann/json.hpp>

namespace engine::runtime {
namespace {

uint32_t ThreadNumber() {
  static std::atomic<uint32_t> next{1};
  thread_local const uint32_t number = next.fetch_add(1);
  return number;
}

}  // namespace

void Trace::Add(const Event& event) {
  std::lock_guard lock(mutex_);
  if (events_.size() < max_events_) {
    events_.push_back(event);
  } else {
    ++dropped_;
  }
}

void Trace::Call(uint32_t node, uint64_t key, uint64_t begin_ns, uint64_t end_ns) {
  Add({node, ThreadNumber(), key, begin_ns, end_ns});
}

void Trace::Depth(uint32_t node, uint32_t port, uint32_t length, uint64_t at_ns) {
  Add({node, UINT32_MAX, port, at_ns, length});
}

Status Trace::Write(const std::string& path, const std::vector<std::string>& node_names) const {
  std::lock_guard lock(mutex_);
  std::ofstream out(path);
  if (!out) return Error(ENGINE_INVALID_ARGUMENT, "trace file '", path, "' cannot be written");
  uint64_t origin = UINT64_MAX;
  for (const Event& e : events_) origin = std::min(origin, e.begin_ns);
  const auto micros = [&](uint64_t ns) { return static_cast<double>(ns - origin) / 1e3; };
  out << "{\"displayTimeUnit\":\"ns\",\"otherData\":{\"dropped_events\":" << dropped_
      << "},\"traceEvents\":[\n";
  out << R"({"ph":"M","pid":1,"name":"process_name","args":{"name":"engine"}})";
  for (const Event& e : events_) {
    nlohmann::json j;
    if (e.thread == UINT32_MAX) {
      j = {{"ph", "C"},
           {"pid", 1},
           {"name", node_names[e.node] + " queue " + std::to_string(e.key)},
           {"ts", micros(e.begin_ns)},
           {"args", {{"packets", e.end_ns}}}};
    } else {
      j = {{"ph", "X"},
           {"pid", 1},
           {"tid", e.thread},
           {"name", node_names[e.node]},
           {"ts", micros(e.begin_ns)},
           {"dur", static_cast<double>(e.end_ns - e.begin_ns) / 1e3},
           {"args", {{"key", e.key}}}};
    }
    out << ",\n" << j.dump();
  }
  out << "\n]}\n";
  out.flush();
  if (!out) return Error(ENGINE_INVALID_ARGUMENT, "trace file '", path, "': writing failed");
  return Status();
}

}  // namespace engine::runtime
