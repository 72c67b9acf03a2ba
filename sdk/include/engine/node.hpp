// Writing a node: one struct whose ports, resources and options are its contract, read by the
// checker, the manual and the runtime alike.
//
//   struct Upper : engine::Node {
//     ENGINE_NODE("upper", "Turns text into capitals.")
//     In<engine_text> in{this, {.name = "TEXT", .doc = "Any text."}};
//     Out<engine_text> out{this, {.name = "TEXT", .doc = "The same in capitals."}};
//     engine::Status Process(engine::Call& call) override { ... }
//   };
//   ENGINE_PLUGIN(.id = "com.acme.upper", ...)   // plugin.hpp
#ifndef ENGINE_NODE_HPP_
#define ENGINE_NODE_HPP_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/growth.hpp"
#include "engine/host.hpp"
#include "engine/types.h"

namespace engine {

// The type id of a payload struct; specialize it for your own with ENGINE_PAYLOAD.
template <typename Payload>
struct TypeOf;

#define ENGINE_PAYLOAD(Struct, id)              \
  template <>                                   \
  struct engine::TypeOf<Struct> {               \
    static constexpr std::string_view kId = id; \
  };

}  // namespace engine

ENGINE_PAYLOAD(engine_text, ENGINE_TYPE_TEXT)
ENGINE_PAYLOAD(engine_tokens, ENGINE_TYPE_TOKENS)
ENGINE_PAYLOAD(engine_cancel, ENGINE_TYPE_CANCEL)
ENGINE_PAYLOAD(engine_step, ENGINE_TYPE_STEP)
ENGINE_PAYLOAD(engine_logits, ENGINE_TYPE_LOGITS)
ENGINE_PAYLOAD(engine_sampled, ENGINE_TYPE_SAMPLED)
ENGINE_PAYLOAD(engine_token, ENGINE_TYPE_TOKEN)
ENGINE_PAYLOAD(engine_event, ENGINE_TYPE_EVENT)
ENGINE_PAYLOAD(engine_train_batch, ENGINE_TYPE_TRAIN_BATCH)
ENGINE_PAYLOAD(engine_train_step, ENGINE_TYPE_TRAIN_STEP)
ENGINE_PAYLOAD(engine_error_payload, ENGINE_TYPE_ERROR)

namespace engine {

inline constexpr uint64_t kSameGroup = UINT64_MAX;

// A packet that this object owns one reference of.
class Packet {
 public:
  Packet() = default;
  explicit Packet(engine_packet* taken) : packet_(taken) {}
  Packet(Packet&& other) noexcept : packet_(std::exchange(other.packet_, nullptr)) {}
  Packet& operator=(Packet&& other) noexcept {
    std::swap(packet_, other.packet_);
    return *this;
  }
  ~Packet() {
    if (packet_ != nullptr) ThisHost().nodes->packet_release(packet_);
  }
  engine_packet* get() const { return packet_; }
  engine_packet* release() { return std::exchange(packet_, nullptr); }

  // A packet around `holder`, a struct derived from Payload that owns what the payload points to.
  template <typename Payload, typename Holder>
  static Status Make(std::unique_ptr<Holder> holder, Packet* out) {
    static_assert(std::is_base_of_v<Payload, Holder>);
    Payload* payload = holder.release();
    payload->struct_size = sizeof(Payload);
    engine_packet* made = nullptr;
    Status status(ThisHost().nodes->packet_new(
        Str(TypeOf<Payload>::kId), payload,
        [](void* p) { delete static_cast<Holder*>(static_cast<Payload*>(p)); }, &made));
    if (status.ok()) *out = Packet(made);
    return status;
  }

 private:
  engine_packet* packet_ = nullptr;
};

// One call of a node. All that it gives is borrowed until the call ends.
class Call {
 public:
  explicit Call(engine_call* call) : call_(call) {}
  engine_call* get() const { return call_; }
  uint32_t Count(uint32_t port) const { return Nodes()->input_count(call_, port); }
  const engine_packet* Input(uint32_t port, uint32_t i = 0) const {
    return i < Count(port) ? Nodes()->input(call_, port, i) : nullptr;
  }
  Status Emit(uint32_t port, Packet packet, uint64_t group = kSameGroup) {
    return Status(Nodes()->emit(call_, port, packet.release(), group));
  }
  bool Cancelled() const { return Nodes()->cancelled(call_) != 0; }
  // This source has nothing more to give; or, of a node with inputs, the run has what it is for.
  void Finish() { Nodes()->finish(call_); }
  void FailNode(Status status) { Nodes()->fail(call_, ENGINE_SCOPE_NODE, status.release()); }
  void FailRun(Status status) { Nodes()->fail(call_, ENGINE_SCOPE_RUN, status.release()); }

 private:
  static const engine_nodes_host* Nodes() { return ThisHost().nodes; }
  engine_call* call_;
};

// What a contract says of itself besides ports and slots.
struct KindInfo {
  std::string_view name = {}, doc = {};
  engine_emission emission = ENGINE_EMIT_ONE;
  uint32_t policies = ENGINE_POLICY_JOIN;
  uint32_t default_policy = ENGINE_POLICY_JOIN;
  uint32_t max_in_flight = 1;
  std::string_view executor = {}, bypass = {};
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
  uint32_t flags = 0;  // engine_kind_flags
#endif
};

struct PortInfo {
  std::string_view name = {}, doc = {};
  std::string_view shape = {}, dtype = {};
  uint32_t flags = 0;  // engine_port_flags
};

struct SlotInfo {
  std::string_view name = {}, doc = {};
  bool mutates = false, optional = false;
};

class Node {
 public:
  virtual ~Node() = default;
  Node() = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  virtual const KindInfo& Info() const = 0;
  virtual bool ReadOptions(std::string_view) { return true; }
  virtual std::string_view OptionsMessage() const { return {}; }
  virtual Status Open(Call&) { return Status(); }
  virtual Status Process(Call& call) = 0;
  virtual Status Close(Call&) { return Status(); }
  // The node's name in the pipeline.
  const std::string& name() const { return name_; }

  // Registration by the port members below; not for authors.
  uint32_t AddInput(const engine_port_desc& d) { return Add(&inputs_, d); }
  uint32_t AddOutput(const engine_port_desc& d) { return Add(&outputs_, d); }
  uint32_t AddSlot(const engine_slot_desc& d) { return Add(&slots_, d); }
  void set_name(std::string_view name) { name_ = name; }
  const std::vector<engine_port_desc>& inputs() const { return inputs_; }
  const std::vector<engine_port_desc>& outputs() const { return outputs_; }
  const std::vector<engine_slot_desc>& slots() const { return slots_; }

 private:
  template <typename T>
  static uint32_t Add(std::vector<T>* list, const T& item) {
    list->push_back(item);
    return static_cast<uint32_t>(list->size() - 1);
  }
  std::string name_;
  std::vector<engine_port_desc> inputs_, outputs_;
  std::vector<engine_slot_desc> slots_;
};

namespace internal {
inline engine_port_desc PortDesc(const PortInfo& i, std::string_view type) {
  return {sizeof(engine_port_desc),
          i.flags,
          Str(i.name),
          Str(type),
          Str(i.shape),
          Str(i.dtype),
          Str(i.doc)};
}
}  // namespace internal

// An input of payload type P. Get() is null when the key is absent on this port.
template <typename P>
class In {
 public:
  In(Node* node, const PortInfo& info)
      : index_(node->AddInput(internal::PortDesc(info, TypeOf<P>::kId))) {}
  const P* Get(const Call& call, uint32_t i = 0) const {
    const engine_packet* packet = call.Input(index_, i);
    if (packet == nullptr || View(ThisHost().nodes->packet_type(packet)) != TypeOf<P>::kId) {
      return nullptr;
    }
    return static_cast<const P*>(ThisHost().nodes->packet_payload(packet));
  }
  // The failure that arrived instead of a payload; needs ENGINE_PORT_ERRORS.
  const engine_error_payload* Failure(const Call& call, uint32_t i = 0) const {
    const engine_packet* packet = call.Input(index_, i);
    if (packet == nullptr || View(ThisHost().nodes->packet_type(packet)) != ENGINE_TYPE_ERROR) {
      return nullptr;
    }
    return static_cast<const engine_error_payload*>(ThisHost().nodes->packet_payload(packet));
  }
  const engine_packet* Raw(const Call& call, uint32_t i = 0) const { return call.Input(index_, i); }
  uint32_t index() const { return index_; }

 private:
  uint32_t index_;
};

// An output of payload type P. Emit takes a holder derived from P that owns what P points to.
template <typename P>
class Out {
 public:
  Out(Node* node, const PortInfo& info)
      : index_(node->AddOutput(internal::PortDesc(info, TypeOf<P>::kId))) {}
  template <typename Holder>
  Status Emit(Call& call, std::unique_ptr<Holder> holder, uint64_t group = kSameGroup) const {
    Packet packet;
    ENGINE_RETURN_IF_ERROR((Packet::Make<P, Holder>(std::move(holder), &packet)));
    return call.Emit(index_, std::move(packet), group);
  }
  uint32_t index() const { return index_; }

 private:
  uint32_t index_;
};

// A resource that the node uses, as the C object behind it.
template <typename Object>
class Use {
 public:
  Use(Node* node, std::string_view type, const SlotInfo& i)
      : type_(type),
        index_(node->AddSlot({sizeof(engine_slot_desc), i.mutates, i.optional, 0, Str(i.name),
                              Str(type), Str(i.doc)})) {}
  // Null when the slot is optional and empty. Ask again in each call: the host may swap it.
  Object* Get(const Call& call) const {
    const engine_nodes_host* nodes = ThisHost().nodes;
    const engine_resource* resource = nodes->resource(call.get(), index_);
    if (resource == nullptr) return nullptr;
    return static_cast<Object*>(nodes->resource_object(resource, Str(type_)));
  }

 private:
  std::string_view type_;
  uint32_t index_;
};

using UseModel = Use<engine_model>;

// Names a node's kind. Further settings follow as designated initializers:
//   ENGINE_NODE("merge", "Merges streams.", .policies = ENGINE_POLICY_ANY, ...)
#define ENGINE_NODE(kind, text, ...)                                              \
  const ::engine::KindInfo& Info() const override {                               \
    static const ::engine::KindInfo info{.name = kind, .doc = text, __VA_ARGS__}; \
    return info;                                                                  \
  }

// Gives the node its options: a struct that the options generator made.
#define ENGINE_OPTIONS(Type)                                                        \
  Type options;                                                                     \
  bool ReadOptions(std::string_view bytes) override { return options.Read(bytes); } \
  std::string_view OptionsMessage() const override { return Type::kMessage; }

}  // namespace engine

#endif  // ENGINE_NODE_HPP_
