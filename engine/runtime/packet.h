// Packets and resources as the host keeps them behind the SDK's opaque handles.
// Invariant: a packet never changes after it was emitted; a second emission of the same packet
// travels as a wrapper that shares its payload.
#ifndef ENGINE_RUNTIME_PACKET_H_
#define ENGINE_RUNTIME_PACKET_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "engine/ext/nodes.h"
#include "engine/status.hpp"

namespace engine::runtime {

// One admitted piece of work: lives as long as any packet that came of it, then says so once.
class Admission {
 public:
  explicit Admission(std::function<void()> done) : done_(std::move(done)) {}
  ~Admission() { done_(); }
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

 private:
  std::function<void()> done_;
};

}  // namespace engine::runtime

struct engine_packet {
  std::atomic<uint32_t> references{1};  // at 0 it no longer travels: its admission ends
  std::atomic<uint32_t> sharers{1};     // itself and its wrappers; at 0 the payload is freed
  bool emitted = false;
  engine_str type{};
  void* payload = nullptr;
  void (*free_payload)(void*) = nullptr;
  engine_packet* shared = nullptr;  // owner of the payload when this is a wrapper
  uint64_t key = 0;
  uint64_t group = 0;
  std::shared_ptr<engine::runtime::Admission> admission;
};

struct engine_resource {
  std::string name;
  std::string type;
  void* object = nullptr;
  std::shared_ptr<void> keep;  // whatever owns `object`
};

namespace engine::runtime {

void Retain(engine_packet* packet);
void Release(engine_packet* packet);

// One owned reference.
class PacketRef {
 public:
  PacketRef() = default;
  explicit PacketRef(engine_packet* taken) : packet_(taken) {}
  PacketRef(PacketRef&& other) noexcept : packet_(std::exchange(other.packet_, nullptr)) {}
  PacketRef& operator=(PacketRef&& other) noexcept {
    std::swap(packet_, other.packet_);
    return *this;
  }
  PacketRef(const PacketRef& other) : packet_(other.packet_) {
    if (packet_ != nullptr) Retain(packet_);
  }
  PacketRef& operator=(const PacketRef& other) {
    PacketRef copy(other);
    std::swap(packet_, copy.packet_);
    return *this;
  }
  ~PacketRef() {
    if (packet_ != nullptr) Release(packet_);
  }
  engine_packet* get() const { return packet_; }
  explicit operator bool() const { return packet_ != nullptr; }

 private:
  engine_packet* packet_ = nullptr;
};

// A packet of type engine.Error/1 that carries the failure.
PacketRef ErrorPacket(const Status& status);
// The failure that a packet carries, or null.
const engine_error_payload* ErrorOf(const engine_packet* packet);
// Stamps the packet for its stream, wrapping it when it already travels elsewhere.
PacketRef Stamp(PacketRef packet, uint64_t key, uint64_t group,
                const std::shared_ptr<Admission>& admission);
// The same payload at the same place of the stream, held without being work under way.
PacketRef WithoutAdmission(const PacketRef& packet);

}  // namespace engine::runtime

#endif  // ENGINE_RUNTIME_PACKET_H_
