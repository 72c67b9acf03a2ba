#include "engine/runtime/packet.h"

namespace engine::runtime {
namespace {

struct OwnedError {
  engine_error_payload payload;
  std::string message, plugin, node;
};

void ReleasePayload(engine_packet* packet) {
  if (packet->sharers.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (packet->shared != nullptr) {
    ReleasePayload(packet->shared);
  } else if (packet->free_payload != nullptr) {
    packet->free_payload(packet->payload);
  }
  delete packet;
}

// A packet of its own that shares the payload. A wrapper of a wrapper holds the payload's owner.
PacketRef Wrap(engine_packet* p) {
  auto* wrapper = new engine_packet;
  wrapper->type = p->type;
  wrapper->payload = p->payload;
  wrapper->shared = p->shared != nullptr ? p->shared : p;
  wrapper->shared->sharers.fetch_add(1, std::memory_order_relaxed);
  return PacketRef(wrapper);
}

}  // namespace

void Retain(engine_packet* packet) { packet->references.fetch_add(1, std::memory_order_relaxed); }

void Release(engine_packet* packet) {
  if (packet->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  // The payload goes first: when the admission says that the work is over, it is.
  const std::shared_ptr<Admission> admission = std::move(packet->admission);
  ReleasePayload(packet);
}

PacketRef ErrorPacket(const Status& status) {
  auto owned = std::make_unique<OwnedError>();
  owned->message = std::string(status.message());
  owned->plugin = std::string(status.plugin());
  owned->node = std::string(status.node());
  owned->payload = {sizeof(engine_error_payload), status.code(), Str(owned->message),
                    Str(owned->plugin), Str(owned->node)};
  auto* packet = new engine_packet;
  packet->type = Str(ENGINE_TYPE_ERROR);
  packet->free_payload = [](void* p) { delete static_cast<OwnedError*>(p); };
  packet->payload = owned.release();
  return PacketRef(packet);
}

const engine_error_payload* ErrorOf(const engine_packet* packet) {
  if (packet == nullptr || View(packet->type) != ENGINE_TYPE_ERROR) return nullptr;
  return static_cast<const engine_error_payload*>(packet->payload);
}

PacketRef WithoutAdmission(const PacketRef& packet) {
  if (packet.get()->admission == nullptr) return packet;
  PacketRef wrapper = Wrap(packet.get());
  wrapper.get()->emitted = true;
  wrapper.get()->key = packet.get()->key;
  wrapper.get()->group = packet.get()->group;
  return wrapper;
}

PacketRef Stamp(PacketRef packet, uint64_t key, uint64_t group,
                const std::shared_ptr<Admission>& admission) {
  engine_packet* p = packet.get();
  // Alone means that nobody else can see the packet, so stamping it in place is unobservable.
  const bool alone = p->references.load(std::memory_order_acquire) == 1;
  if (p->emitted || !alone) {
    packet = Wrap(p);
    p = packet.get();
  }
  p->emitted = true;
  p->key = key;
  p->group = group;
  p->admission = admission;
  return packet;
}

}  // namespace engine::runtime
