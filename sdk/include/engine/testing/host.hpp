// A host for tests: the tables that a plugin gets, kept by this header alone. It watches what the
// real host can only suffer from: handles that are kept after their call, packets that are released
// twice or never, calls on a wrong thread, answers that come twice.
// Invariant: what a plugin may still hold (calls, packets) is never freed, so that its use later is
// a finding and no crash. Payloads are freed when the contract says so.
#ifndef ENGINE_TESTING_HOST_HPP_
#define ENGINE_TESTING_HOST_HPP_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/ext/async.h"
#include "engine/ext/log.h"
#include "engine/ext/metrics.h"
#include "engine/ext/nodes.h"
#include "engine/ext/tasks.h"
#include "engine/plugin.h"
#include "engine/status.hpp"

namespace engine::testing {

// What was found wrong so far, each once. [any]
class Findings {
 public:
  void Add(std::string text) {
    std::lock_guard lock(mutex_);
    if (std::find(all_.begin(), all_.end(), text) == all_.end()) all_.push_back(std::move(text));
  }
  // Gives them and forgets them.
  std::vector<std::string> Take() {
    std::lock_guard lock(mutex_);
    return std::exchange(all_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> all_;
};

inline Findings& TheFindings() {
  static auto* findings = new Findings;
  return *findings;
}

// Stands behind engine_packet*.
struct TestPacket {
  static constexpr uint32_t kMagic = 0x7e57b0b5u;
  uint32_t magic = kMagic;
  std::atomic<int32_t> references{1};
  std::string type;
  void* payload = nullptr;
  void (*free_payload)(void*) = nullptr;  // of a packet that the plugin made
  std::shared_ptr<void> held;             // of one that the test made
  uint64_t key = 0, group = 0;

  static TestPacket* Of(const engine_packet* p) {
    return reinterpret_cast<TestPacket*>(const_cast<engine_packet*>(p));
  }
  engine_packet* c() { return reinterpret_cast<engine_packet*>(this); }
};

// Stands behind engine_resource*.
struct TestObject {
  std::string name, type;
  void* object = nullptr;
};

struct TestEmitted {
  uint32_t port;
  uint64_t group;
  TestPacket* packet;  // owned: one reference
};

// Stands behind engine_call* and, once it was put off, behind engine_completion*.
struct TestCall {
  enum class Stage { kOpen, kProcess, kClose };
  static constexpr uint32_t kMagic = 0x7e57ca11u;
  uint32_t magic = kMagic;
  Stage stage = Stage::kProcess;
  std::string node;
  size_t outputs = 0;
  std::thread::id owner = std::this_thread::get_id();
  std::vector<std::vector<TestPacket*>> inputs;
  std::vector<TestObject*> resources;

  std::mutex mutex;
  std::condition_variable answered;
  std::atomic<bool> cancelled{false};
  std::atomic<bool> over{false};  // nothing may be asked of it any longer
  // Below: guarded by mutex.
  bool deferred = false, returned = false, done = false, finish = false;
  uint32_t fail_scope = 0;
  Status status, wide;
  std::vector<TestEmitted> emitted;

  static TestCall* Of(engine_call* c) { return reinterpret_cast<TestCall*>(c); }
  static TestCall* Of(engine_completion* c) { return reinterpret_cast<TestCall*>(c); }
  engine_call* c() { return reinterpret_cast<engine_call*>(this); }
};

class TestHost {
 public:
  static TestHost& Get() {
    static auto* host = new TestHost;  // plugins hold it to the end of the process
    return *host;
  }
  const engine_host* c() const { return &host_; }

  // Tables for ids that this header has none for: where the real ones are there too.
  void SetFallback(const engine_host* fallback) { fallback_ = fallback; }

  // A packet around a payload that the test owns a share of.
  TestPacket* NewPacket(std::string type, std::shared_ptr<void> payload, uint64_t key,
                        uint64_t group) {
    TestPacket* packet = Remember(new TestPacket);
    packet->type = std::move(type);
    packet->payload = payload.get();
    packet->held = std::move(payload);
    packet->key = key;
    packet->group = group;
    return packet;
  }
  TestCall* NewCall() {
    std::lock_guard lock(mutex_);
    calls_.push_back(std::make_unique<TestCall>());
    return calls_.back().get();
  }
  // Packets that somebody holds.
  int64_t live_packets() const { return live_.load(); }
  static void Release(TestPacket* packet) { ReleasePacket(packet->c()); }

  // Lines of the log so far: "warning upper: text".
  std::vector<std::string> TakeLog() {
    std::lock_guard lock(mutex_);
    return std::exchange(log_, {});
  }
  double Metric(const std::string& name) {
    std::lock_guard lock(mutex_);
    const auto it = metrics_.find(name);
    return it == metrics_.end() ? 0 : it->second->value.load();
  }
  // Waits until what was given to engine.async has run.
  void WaitForAsync() {
    std::unique_lock lock(mutex_);
    while (!threads_.empty()) {
      std::vector<std::thread> some;
      some.swap(threads_);
      lock.unlock();
      for (std::thread& t : some) t.join();
      lock.lock();
    }
  }
  // Packets that the plugin emitted into calls that are gone, and the like, are let go; the memory
  // of those that nobody holds comes back. Only between two nodes.
  void Sweep() {
    std::lock_guard lock(mutex_);
    if (live_.load() != 0) return;
    if (packets_.size() > kKept) packets_.erase(packets_.begin(), packets_.end() - kKept);
    if (calls_.size() > kKept) calls_.erase(calls_.begin(), calls_.end() - kKept);
  }

 private:
  static constexpr std::ptrdiff_t kKept = 4096;  // newest calls and packets stay recognizable
  struct TestMetric {
    explicit TestMetric(uint32_t t) : type(t) {}
    const uint32_t type;
    std::atomic<double> value{0};
  };

  TestHost() {
    host_ = {sizeof(engine_host), ENGINE_ABI_MAJOR, ENGINE_ABI_MINOR, Str("test"),
             [](const engine_host*, const char* id) { return Get().Extension(id); }};
  }
  const void* Extension(std::string_view id) const {
    if (id == ENGINE_EXT_NODES) return Nodes();
    if (id == ENGINE_EXT_LOG) return Log();
    if (id == ENGINE_EXT_TASKS) return Tasks();
    if (id == ENGINE_EXT_ASYNC) return Async();
    if (id == ENGINE_EXT_METRICS) return Metrics();
    return fallback_ == nullptr ? nullptr
                                : fallback_->extension(fallback_, std::string(id).c_str());
  }

  TestPacket* Remember(TestPacket* packet) {
    ++live_;
    std::lock_guard lock(mutex_);
    packets_.emplace_back(packet);
    return packet;
  }

  // --- packets -----------------------------------------------------------------------------
  static TestPacket* Alive(const engine_packet* p, const char* function) {
    TestPacket* packet = TestPacket::Of(p);
    if (packet == nullptr || packet->magic != TestPacket::kMagic) {
      TheFindings().Add(std::string(function) + "() was given what is no packet");
      return nullptr;
    }
    if (packet->references.load() <= 0) {
      TheFindings().Add(
          std::string(function) + "() was given a packet of type " + packet->type +
          " that was let go before: a packet was used without a reference of its own");
      return nullptr;
    }
    return packet;
  }
  static void ReleasePacket(engine_packet* p) {
    TestPacket* packet = Alive(p, "packet_release");
    if (packet == nullptr || packet->references.fetch_sub(1) != 1) return;
    --Get().live_;
    void* payload = std::exchange(packet->payload, nullptr);
    if (packet->free_payload != nullptr) packet->free_payload(payload);
    packet->held.reset();
  }

  // --- calls -------------------------------------------------------------------------------
  // The call, when what is asked may be asked now; `on_thread`: only where the call runs.
  static TestCall* Valid(engine_call* c, const char* function) {
    TestCall* call = TestCall::Of(c);
    if (call == nullptr || call->magic != TestCall::kMagic) {
      TheFindings().Add(std::string(function) + "() was given what is no call");
      return nullptr;
    }
    if (call->over.load()) {
      TheFindings().Add(std::string(function) +
                        "() was given a call that is over: a borrowed handle was kept");
      return nullptr;
    }
    if (call->owner != std::this_thread::get_id()) {
      TheFindings().Add(std::string(function) +
                        "() came from another thread than its call's: use defer()");
      return nullptr;
    }
    return call;
  }
  static engine_status* Fail(engine_code code, const char* text) {
    return engine::internal::NewStatus(code, text);
  }
  static engine_status* Emit(TestCall* call, uint32_t port, engine_packet* p, uint64_t group) {
    TestPacket* packet = p == nullptr ? nullptr : Alive(p, "emit");
    if (packet == nullptr) return Fail(ENGINE_INVALID_ARGUMENT, "emit: no packet");
    if (call == nullptr || port >= call->outputs) {
      Release(packet);
      if (call == nullptr) return Fail(ENGINE_FAILED_PRECONDITION, "emit: no call");
      TheFindings().Add("emit() names output " + std::to_string(port) + " of " +
                        std::to_string(call->outputs));
      return Fail(ENGINE_OUT_OF_RANGE, "emit: no such output");
    }
    std::lock_guard lock(call->mutex);
    call->emitted.push_back({port, group, packet});
    return nullptr;
  }
  static TestCall* Open(engine_completion* d, const char* function) {
    TestCall* call = TestCall::Of(d);
    if (call == nullptr || call->magic != TestCall::kMagic) {
      TheFindings().Add(std::string(function) + "() was given what is no completion");
      return nullptr;
    }
    std::lock_guard lock(call->mutex);
    if (call->deferred && !call->done) return call;
    TheFindings().Add(std::string(function) + "() came after the call was answered");
    return nullptr;
  }

  static const engine_nodes_host* Nodes() {
    static const engine_nodes_host table = {
      sizeof(engine_nodes_host),
      [](engine_str type, void* payload, void (*free_payload)(void*),
         engine_packet** out) -> engine_status* {
        if (type.size == 0) {
          TheFindings().Add("packet_new() was given no type");
          if (free_payload != nullptr) free_payload(payload);
          return Fail(ENGINE_INVALID_ARGUMENT, "a packet needs a type");
        }
        TestPacket* packet = Get().Remember(new TestPacket);
        packet->type = std::string(View(type));
        packet->payload = payload;
        packet->free_payload = free_payload;
        *out = packet->c();
        return nullptr;
      },
      [](engine_packet* p) {
        if (TestPacket* packet = Alive(p, "packet_retain")) ++packet->references;
      },
      &ReleasePacket,
      [](const engine_packet* p) {
        const TestPacket* packet = Alive(p, "packet_type");
        return packet == nullptr ? Str("") : Str(packet->type);
      },
      [](const engine_packet* p) -> const void* {
        const TestPacket* packet = Alive(p, "packet_payload");
        return packet == nullptr ? nullptr : packet->payload;
      },
      [](const engine_packet* p) -> uint64_t {
        const TestPacket* packet = Alive(p, "packet_key");
        return packet == nullptr ? 0 : packet->key;
      },
      [](const engine_packet* p) -> uint64_t {
        const TestPacket* packet = Alive(p, "packet_group");
        return packet == nullptr ? 0 : packet->group;
      },
      [](engine_call* c, uint32_t port) -> uint32_t {
        const TestCall* call = Valid(c, "input_count");
        return call == nullptr || port >= call->inputs.size()
                   ? 0
                   : static_cast<uint32_t>(call->inputs[port].size());
      },
      [](engine_call* c, uint32_t port, uint32_t i) -> const engine_packet* {
        TestCall* call = Valid(c, "input");
        const bool there =
            call != nullptr && port < call->inputs.size() && i < call->inputs[port].size();
        return there ? call->inputs[port][i]->c() : nullptr;
      },
      [](engine_call* c, uint32_t port, engine_packet* packet, uint64_t group) -> engine_status* {
        TestCall* call = Valid(c, "emit");
        if (call != nullptr && call->stage != TestCall::Stage::kProcess) {
          TheFindings().Add("emit() was called in open or close; only process may emit");
          call = nullptr;
        }
        return Emit(call, port, packet, group);
      },
      [](engine_call* c, uint32_t slot) -> engine_resource* {
        TestCall* call = Valid(c, "resource");
        return call == nullptr || slot >= call->resources.size()
                   ? nullptr
                   : reinterpret_cast<engine_resource*>(call->resources[slot]);
      },
      [](engine_call* c) -> uint8_t {
        const TestCall* call = Valid(c, "cancelled");
        return call == nullptr || call->cancelled.load();
      },
      [](engine_call* c) {
        if (TestCall* call = Valid(c, "finish")) {
          std::lock_guard lock(call->mutex);
          call->finish = true;
        }
      },
      [](engine_call* c, uint32_t scope, engine_status* status) {
        Status taken(status);
        if (TestCall* call = Valid(c, "fail")) {
          std::lock_guard lock(call->mutex);
          call->wide = std::move(taken);
          call->fail_scope = scope;
        }
      },
      [](engine_call* c, engine_completion** out) -> engine_status* {
        TestCall* call = Valid(c, "defer");
        if (call == nullptr || call->stage != TestCall::Stage::kProcess) {
          return Fail(ENGINE_FAILED_PRECONDITION, "defer: only process may defer");
        }
        std::lock_guard lock(call->mutex);
        call->deferred = true;
        *out = reinterpret_cast<engine_completion*>(call);
        return nullptr;
      },
      [](engine_completion* d, uint32_t port, engine_packet* packet, uint64_t group)
          -> engine_status* { return Emit(Open(d, "completion_emit"), port, packet, group); },
      [](engine_completion* d) {
        if (TestCall* call = Open(d, "completion_finish")) {
          std::lock_guard lock(call->mutex);
          call->finish = true;
        }
      },
      [](engine_completion* d, engine_status* status) {
        Status taken(status);
        if (TestCall* call = Open(d, "completion_done")) {
          std::lock_guard lock(call->mutex);
          call->done = true;
          call->status = std::move(taken);
          call->answered.notify_all();
        }
      },
      [](const engine_resource* r, engine_str type) -> void* {
        const auto* resource = reinterpret_cast<const TestObject*>(r);
        return resource != nullptr && resource->type == View(type) ? resource->object : nullptr;
      },
      [](const engine_resource* r) {
        const auto* resource = reinterpret_cast<const TestObject*>(r);
        return resource == nullptr ? Str("") : Str(resource->name);
      },
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
      [](const engine_completion* d) -> uint32_t {
        const TestCall* call = Open(const_cast<engine_completion*>(d), "completion_phase");
        return call == nullptr || call->cancelled.load() ? uint32_t{ENGINE_RUN_CANCELLED}
                                                         : uint32_t{ENGINE_RUN_RUNNING};
      },
      [](engine_call* c) -> uint32_t {
        const TestCall* call = Valid(c, "call_phase");
        return call == nullptr || call->cancelled.load() ? uint32_t{ENGINE_RUN_CANCELLED}
                                                         : uint32_t{ENGINE_RUN_RUNNING};
      },
#endif
    };
    return &table;
  }

  // --- services ----------------------------------------------------------------------------
  static const engine_log* Log() {
    static const engine_log table = {
        sizeof(engine_log), [](uint32_t level, engine_str source, engine_str text) {
          static constexpr const char* kLevels[] = {"debug", "info", "warning", "error"};
          if (level > ENGINE_LOG_ERROR) {
            TheFindings().Add("the log was given level " + std::to_string(level));
            return;
          }
          TestHost& host = Get();
          std::lock_guard lock(host.mutex_);
          host.log_.push_back(std::string(kLevels[level]) + " " + std::string(View(source)) + ": " +
                              std::string(View(text)));
        }};
    return &table;
  }

  // Two threads take turns, so that what is no safe to run beside itself can show.
  static const engine_tasks* Tasks() {
    static const engine_tasks table = {
        sizeof(engine_tasks), 0, []() -> uint32_t { return 2; },
        [](int64_t count, int64_t grain, void (*body)(void*, int64_t, int64_t), void* arg) {
          if (count <= 0) return;
          const int64_t step = std::max<int64_t>(std::max<int64_t>(grain, 1), (count + 3) / 4);
          std::atomic<int64_t> next{0};
          const auto work = [&] {
            for (int64_t at; (at = next.fetch_add(step)) < count;) {
              body(arg, at, std::min(at + step, count));
            }
          };
          if (step >= count) return work();
          std::thread other(work);
          work();
          other.join();
        }};
    return &table;
  }

  static engine_status* Later(uint64_t nanoseconds, void (*fn)(void*), void* arg) {
    if (fn == nullptr) {
      TheFindings().Add("engine.async was given no function");
      return Fail(ENGINE_INVALID_ARGUMENT, "no function");
    }
    return Guard([&] {
      TestHost& host = Get();
      std::lock_guard lock(host.mutex_);
      host.threads_.emplace_back([=] {
        std::this_thread::sleep_for(std::chrono::nanoseconds(nanoseconds));
        fn(arg);
      });
      return Status();
    });
  }
  static const engine_async* Async() {
    static const engine_async table = {
        sizeof(engine_async),
        [](void (*fn)(void*), void* arg) -> engine_status* { return Later(0, fn, arg); }, &Later};
    return &table;
  }

  static const engine_metrics* Metrics() {
    static const engine_metrics table = {
      sizeof(engine_metrics),
      [](uint32_t type, engine_str name, engine_str, engine_metric** out) -> engine_status* {
        const std::string wanted(View(name));
        bool good = !wanted.empty() && (wanted[0] < '0' || wanted[0] > '9');
        for (const char c : wanted) {
          good = good && ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_');
        }
        TestHost& host = Get();
        std::lock_guard lock(host.mutex_);
        auto& metric = host.metrics_[wanted];
        if (metric == nullptr) metric = std::make_unique<TestMetric>(type);
        if (!good || metric->type != type) {
          TheFindings().Add("metric '" + wanted + "' is no name, or was made with another type");
          return Fail(ENGINE_INVALID_ARGUMENT, "no such metric");
        }
        *out = reinterpret_cast<engine_metric*>(metric.get());
        return nullptr;
      },
      [](engine_metric* m, double value) {
        auto* metric = reinterpret_cast<TestMetric*>(m);
        if (!(value >= 0) && metric->type == ENGINE_METRIC_COUNTER) {
          TheFindings().Add("a counter was made smaller");
        }
        metric->value.fetch_add(value);
      },
      [](engine_metric* m, double value) {
        auto* metric = reinterpret_cast<TestMetric*>(m);
        if (metric->type != ENGINE_METRIC_GAUGE) TheFindings().Add("a counter was set");
        metric->value.store(value);
      },
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
      [](engine_status* (*put)(void*, engine_str), void* arg) -> engine_status* {
        std::string text;
        {
          TestHost& host = Get();
          std::lock_guard lock(host.mutex_);
          for (const auto& [name, metric] : host.metrics_) {
            text += name + " " + std::to_string(metric->value.load()) + "\n";
          }
        }
        return put(arg, Str(text));
      },
#endif
    };
    return &table;
  }

  engine_host host_ = {};
  const engine_host* fallback_ = nullptr;
  std::atomic<int64_t> live_{0};
  std::mutex mutex_;
  // Below: guarded by mutex_.
  std::deque<std::unique_ptr<TestPacket>> packets_;
  std::deque<std::unique_ptr<TestCall>> calls_;
  std::vector<std::string> log_;
  std::map<std::string, std::unique_ptr<TestMetric>> metrics_;
  std::vector<std::thread> threads_;
};

}  // namespace engine::testing

#endif  // ENGINE_TESTING_HOST_HPP_
