// A plugin, its resources and its nodes under test, driven through the C ABI as a host drives them.
// What breaks the contract goes to TheFindings(); what is merely an error is text.
#ifndef ENGINE_TESTING_NODE_HPP_
#define ENGINE_TESTING_NODE_HPP_

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/ext/resources.h"
#include "engine/ext/transforms.h"
#include "engine/testing/host.hpp"
#include "engine/testing/options.hpp"
#include "engine/testing/payloads.hpp"

namespace engine::testing {

// "INVALID_ARGUMENT: the message".
inline std::string ShowError(const Status& status) {
  return internal::WordOf(internal::CodeWords(), static_cast<uint64_t>(status.code())) + ": " +
         std::string(status.message());
}

// Runs a function of the plugin: an exception, and a status that is none, are findings.
template <typename F>
Status CallPlugin(const std::string& what, F function) {
  engine_status* raw = nullptr;
  try {
    raw = function();
  } catch (const std::exception& e) {
    TheFindings().Add("an exception left " + what + ": " + e.what());
    return Status(ENGINE_INTERNAL, e.what());
  } catch (...) {
    TheFindings().Add("an exception left " + what);
    return Status(ENGINE_INTERNAL, "an exception");
  }
  if (raw == nullptr) return Status();
  if (!Complete(raw) || raw->destroy == nullptr) {
    TheFindings().Add(what + " answered a status that is not filled in");
    return Status(ENGINE_INTERNAL, "no status");
  }
  Status status(raw);
  if (raw->code <= ENGINE_OK || raw->code > ENGINE_DATA_LOSS) {
    TheFindings().Add(what + std::string(" answered a status with code ") +
                      std::to_string(raw->code));
  } else if (status.message().empty()) {
    TheFindings().Add(what + " answered an error without a message");
  }
  return status;
}

// A plugin that was opened.
class TestPlugin {
 public:
  // The one whose sources are compiled into this program; opened with the test host.
  static TestPlugin& Linked() {
    static auto* plugin = new TestPlugin(&engine_plugin_v1, TestHost::Get().c());
    return *plugin;
  }
  // Opens it with that host.
  TestPlugin(const engine_plugin* manifest, const engine_host* host) : manifest_(manifest) {
    status_ = CallPlugin("open()", [&] { return manifest->open(host, &self_); });
    opened_ = status_.ok();
    Learn();
  }
  // Of one that is open already.
  TestPlugin(const engine_plugin* manifest, void* self) : manifest_(manifest), self_(self) {
    Learn();
  }
  TestPlugin(const TestPlugin&) = delete;
  void Close() {
    if (std::exchange(opened_, false)) manifest_->close(self_);
  }

  const Status& status() const { return status_; }
  const OptionSchema& schema() const { return schema_; }
  const engine_plugin& manifest() const { return *manifest_; }
  void* self() const { return self_; }
  const engine_nodes_plugin* nodes() const { return nodes_; }
  const engine_transforms_plugin* transforms() const { return transforms_; }
  const engine_resources_plugin* resources() const { return resources_; }

  // The kind of that name in a table, and its number.
  template <typename Table>
  Status Find(const Table* table, std::string_view kind, uint32_t* number,
              const engine_kind_desc** desc) const {
    ENGINE_RETURN_IF_ERROR(status_);
    std::string names;
    for (uint32_t i = 0; table != nullptr && i < table->count; ++i) {
      *desc = table->describe(self_, i);
      *number = i;
      if (View((*desc)->name) == kind) return Status();
      names += (names.empty() ? "" : ", ") + std::string(View((*desc)->name));
    }
    return Error(ENGINE_NOT_FOUND, "the plugin has no kind '", kind, "' of this role; it has ",
                 names.empty() ? "none" : names);
  }
  // The bytes of the options in "kind { ... }".
  Status Options(const engine_kind_desc& desc, const Field& block, std::string* bytes) const {
    if (desc.options.size != 0) return schema_.Encode(View(desc.options), block.fields, bytes);
    if (block.fields.empty()) return Status();
    return Error(ENGINE_INVALID_ARGUMENT, "'", View(desc.name), "' takes no options");
  }

 private:
  void Learn() {
    if (!status_.ok()) return;
    AddKnownPayloads();
    nodes_ = Table<engine_nodes_plugin>(ENGINE_EXT_NODES);
    transforms_ = Table<engine_transforms_plugin>(ENGINE_EXT_TRANSFORMS);
    resources_ = Table<engine_resources_plugin>(ENGINE_EXT_RESOURCES);
    status_ = OptionSchema::Read(
        {reinterpret_cast<const char*>(manifest_->schemas), manifest_->schemas_size}, &schema_);
  }
  template <typename T>
  const T* Table(const char* id) const {
    return static_cast<const T*>(manifest_->extension(self_, id));
  }

  const engine_plugin* manifest_;
  void* self_ = nullptr;
  bool opened_ = false;
  Status status_;
  OptionSchema schema_;
  const engine_nodes_plugin* nodes_ = nullptr;
  const engine_transforms_plugin* transforms_ = nullptr;
  const engine_resources_plugin* resources_ = nullptr;
};

// The one block of "kind { options }", or "kind" alone.
inline Status ParseKind(std::string_view text, Field* out) {
  std::vector<Field> fields;
  std::string whole(text);
  if (whole.find('{') == std::string::npos) whole += " { }";
  ENGINE_RETURN_IF_ERROR(ParseText(whole, &fields));
  if (fields.size() != 1 || !fields[0].message) {
    return Error(ENGINE_INVALID_ARGUMENT, "'", text, "' is not one kind with its options");
  }
  *out = std::move(fields[0]);
  return Status();
}

// A resource of the plugin, made from "kind { options }".
class TestResource {
 public:
  explicit TestResource(std::string_view text, TestPlugin& plugin = TestPlugin::Linked()) {
    Field block;
    status_ = ParseKind(text, &block);
    if (status_.ok()) status_ = Make(block, plugin);
  }
  ~TestResource() {
    if (self_ != nullptr && table_ != nullptr) table_->destroy(self_);
  }
  TestResource(const TestResource&) = delete;

  const Status& status() const { return status_; }
  // "ok", or why it could not be made.
  std::string Show() const { return status_.ok() ? "ok" : ShowError(status_); }
  void* object() const { return object_; }
  const std::string& type() const { return type_; }

 private:
  Status Make(const Field& block, TestPlugin& plugin) {
    uint32_t number = 0;
    const engine_kind_desc* desc = nullptr;
    ENGINE_RETURN_IF_ERROR(plugin.Find(plugin.resources(), block.name, &number, &desc));
    std::string options;
    ENGINE_RETURN_IF_ERROR(plugin.Options(*desc, block, &options));
    ENGINE_RETURN_IF_ERROR(CallPlugin("create()", [&] {
      return plugin.resources()->create(plugin.self(), number, desc->name, Str(options), &table_,
                                        &self_);
    }));
    object_ = table_->object(self_);
    type_ = std::string(View(desc->provides));
    if (object_ == nullptr) TheFindings().Add("object() of " + block.name + " gave no object");
    return Status();
  }
  const engine_resource_vtable* table_ = nullptr;
  void* self_ = nullptr;
  void* object_ = nullptr;
  std::string type_;
  Status status_;
};

// One node. It is opened by the first packet, closed and destroyed at the end of its scope.
class TestNode {
 public:
  // "kind { options }", as it stands in a pipeline.
  explicit TestNode(std::string_view text, TestPlugin& plugin = TestPlugin::Linked())
      : plugin_(plugin) {
    Field block;
    status_ = ParseKind(text, &block);
    std::string options;
    if (status_.ok()) status_ = plugin.Find(plugin.nodes(), block.name, &number_, &desc_);
    if (status_.ok()) status_ = plugin.Options(*desc_, block, &options);
    if (status_.ok()) status_ = Create(options);
  }
  // With options as they go over the wire, however wrong.
  TestNode(const engine_kind_desc& desc, uint32_t number, std::string_view options,
           TestPlugin& plugin)
      : plugin_(plugin), desc_(&desc), number_(number) {
    status_ = Create(options);
  }
  ~TestNode() { End(); }
  TestNode(const TestNode&) = delete;

  // Of creation, then of open().
  const Status& status() const { return status_; }
  // "ok", or why the node could not be made.
  std::string Show() const { return status_.ok() ? "ok" : "error: " + Quoted(ShowError(status_)); }

  // What stands in a slot. Before the first packet, or between two.
  TestNode& Use(std::string_view slot, std::string type, void* object) {
    for (uint32_t i = 0; desc_ != nullptr && i < desc_->slot_count; ++i) {
      if (View(At(desc_->slots, i).name) != slot) continue;
      slots_.resize(desc_->slot_count);
      slots_[i] = TestObject{"resource_" + std::string(slot), std::move(type), object};
      return *this;
    }
    if (status_.ok()) {
      status_ = Error(ENGINE_NOT_FOUND, "the node has no slot '", std::string(slot), "'");
    }
    return *this;
  }
  TestNode& Use(std::string_view slot, const TestResource& resource) {
    if (status_.ok()) status_ = resource.status();
    return Use(slot, resource.type(), resource.object());
  }

  // Gives packets, one a line, "PORT: value" or "PORT { fields }", and answers what came of it, one
  // line each: packets in the same form, `error: "CODE: message"`, `node_error:`, `run_error:`,
  // `finish: true`. Under JOIN and LATEST they are of one key, in one call; under ANY each has its
  // own; under BATCH they are one batch. A packet { group: 3 } belongs to that request.
  std::string Feed(std::string_view packets) {
    std::vector<Field> fields;
    Status status = ParseText(packets, &fields);
    Inputs inputs;
    for (size_t i = 0; status.ok() && i < fields.size(); ++i) {
      std::pair<uint32_t, TestPacket*> made{};
      status = MakePacket(fields[i], &made);
      if (status.ok()) inputs.push_back(made);
    }
    if (!status.ok()) {
      for (const auto& [port, packet] : inputs) TestHost::Release(packet);
      return "test_error: " + Quoted(ShowError(status)) + "\n";
    }
    if (desc_ != nullptr && desc_->default_policy == ENGINE_POLICY_ANY) {
      std::string all;
      for (const auto& one : inputs) all += Call({one});
      return all;
    }
    return Call(inputs);
  }
  // A packet of another making, one reference of which is taken.
  std::string FeedPacket(uint32_t port, TestPacket* packet) { return Call({{port, packet}}); }
  // Calls a source until it says that it is done, or so often.
  std::string Run(int most = 1000) {
    std::string all;
    for (int i = 0; i < most && !finished_ && status_.ok(); ++i) all += Call({});
    return all;
  }
  // From now on calls see that the run was cancelled: at once, or after that time.
  void Cancel(std::chrono::microseconds after = std::chrono::microseconds(0)) {
    cancel_ = true;
    cancel_after_ = after;
  }
  // How long a deferred call may take to be answered; 10 s when not set.
  void SetPatience(std::chrono::milliseconds patience) { patience_ = patience; }
  bool finished() const { return finished_; }
  const engine_kind_desc* desc() const { return desc_; }
  void* self() const { return self_; }
  uint64_t packets() const { return packets_; }
  uint64_t errors() const { return errors_; }

  // Closes and destroys. Answers what close() said: "", or an error's line.
  std::string End() {
    std::string text;
    if (std::exchange(open_, false)) {
      TestCall* call = NewCall(TestCall::Stage::kClose);
      const Status closed = CallPlugin("close()", [&] { return table_->close(self_, call->c()); });
      call->over = true;
      if (!closed.ok()) text = "error: " + Quoted(ShowError(closed)) + "\n";
    }
    if (self_ != nullptr && table_ != nullptr) table_->destroy(std::exchange(self_, nullptr));
    TestHost::Get().WaitForAsync();
    if (std::exchange(made_, false)) {
      const int64_t more = TestHost::Get().live_packets() - live_before_;
      if (more > 0) {
        TheFindings().Add(std::to_string(more) + " packet" + (more == 1 ? " is" : "s are") +
                          " still held after the node '" + name_ + "' was destroyed");
      }
    }
    return text;
  }

 private:
  using Inputs = std::vector<std::pair<uint32_t, TestPacket*>>;

  Status Create(std::string_view options) {
    live_before_ = TestHost::Get().live_packets();
    made_ = true;
    name_ = std::string("my_") + std::string(View(desc_->name));
    ENGINE_RETURN_IF_ERROR(CallPlugin("create()", [&] {
      return plugin_.nodes()->create(plugin_.self(), number_, Str(name_), Str(options), &table_,
                                     &self_);
    }));
    if (Complete(table_) && table_->open != nullptr && table_->process != nullptr &&
        table_->close != nullptr && table_->destroy != nullptr) {
      return Status();
    }
    TheFindings().Add("create() gave a table that is not filled in");
    self_ = nullptr;
    return Error(ENGINE_INTERNAL, "create() gave a table that is not filled in");
  }

  TestCall* NewCall(TestCall::Stage stage) {
    TestCall* call = TestHost::Get().NewCall();
    call->stage = stage;
    call->node = name_;
    call->outputs = desc_->output_count;
    call->inputs.resize(desc_->input_count);
    slots_.resize(desc_->slot_count);
    for (TestObject& slot : slots_) {
      call->resources.push_back(slot.object == nullptr ? nullptr : &slot);
    }
    return call;
  }

  Status MakePacket(const Field& field, std::pair<uint32_t, TestPacket*>* out) {
    ENGINE_RETURN_IF_ERROR(status_);
    std::string names;
    for (uint32_t i = 0; i < desc_->input_count; ++i) {
      const engine_port_desc& port = At(desc_->inputs, i);
      names += (names.empty() ? "" : ", ") + std::string(View(port.name));
      if (View(port.name) != field.name) continue;
      std::string type(View(port.type));
      if (type == "*") type = ENGINE_TYPE_TEXT;
      type = field.Get("type", type);
      const bool failed = field.Find("code") != nullptr && (port.flags & ENGINE_PORT_ERRORS) != 0;
      if (failed) type = ENGINE_TYPE_ERROR;
      const auto known = PayloadTexts().find(type);
      if (known == PayloadTexts().end()) {
        return Error(ENGINE_NOT_FOUND, "line ", field.line, ": no payload of type ", type,
                     " is known to tests; see AddPayload of engine/testing/payloads.hpp");
      }
      std::shared_ptr<void> payload;
      ENGINE_RETURN_IF_ERROR(known->second.make(field, &payload));
      const std::string group = field.Get("group", std::to_string(key_));
      *out = {i, TestHost::Get().NewPacket(type, std::move(payload), key_,
                                           std::strtoull(group.c_str(), nullptr, 10))};
      return Status();
    }
    return Error(ENGINE_NOT_FOUND, "line ", field.line, ": the node has no input '", field.name,
                 "'; it has ", names.empty() ? "none" : names);
  }

  std::string Call(const Inputs& inputs) {
    Open();
    if (!status_.ok()) {
      for (const auto& [port, packet] : inputs) TestHost::Release(packet);
      return Show() + "\n";
    }
    TestCall* call = NewCall(TestCall::Stage::kProcess);
    for (const auto& [port, packet] : inputs) call->inputs[port].push_back(packet);
    const uint64_t group = inputs.empty() ? key_ : inputs[0].second->group;
    ++key_;
    std::thread canceller;
    if (cancel_) {
      call->cancelled = cancel_after_.count() == 0;
      canceller = std::thread([call, after = cancel_after_] {
        std::this_thread::sleep_for(after);
        call->cancelled = true;
      });
    }
    Status status = CallPlugin("process()", [&] { return table_->process(self_, call->c()); });
    {
      std::unique_lock lock(call->mutex);
      call->returned = true;
      if (call->deferred && !status.ok()) {
        TheFindings().Add("process() answered an error after defer(); only the completion answers");
      } else if (call->deferred) {
        if (!call->answered.wait_for(lock, patience_, [&] { return call->done; })) {
          TheFindings().Add("a deferred call was not answered within " +
                            std::to_string(patience_.count()) + " ms");
          finished_ = true;  // the next would not be either
        }
        status = std::move(call->status);
      }
      call->over = true;
    }
    if (canceller.joinable()) canceller.join();
    std::string text = Tell(call, status, group);
    for (const auto& [port, packet] : inputs) TestHost::Release(packet);
    TestHost::Get().Sweep();
    return text;
  }

  void Open() {
    if (!status_.ok() || open_) return;
    for (uint32_t i = 0; i < desc_->slot_count; ++i) {
      const engine_slot_desc& slot = At(desc_->slots, i);
      slots_.resize(desc_->slot_count);
      if (slots_[i].object == nullptr && slot.optional == 0) {
        status_ = Error(ENGINE_FAILED_PRECONDITION, "nothing stands in slot '", View(slot.name),
                        "' of type ", View(slot.type), "; give it by Use()");
        return;
      }
    }
    TestCall* call = NewCall(TestCall::Stage::kOpen);
    status_ = CallPlugin("open()", [&] { return table_->open(self_, call->c()); });
    call->over = true;
    open_ = status_.ok();
  }

  std::string Tell(TestCall* call, const Status& status, uint64_t group) {
    std::string text;
    std::vector<uint32_t> per_port(desc_->output_count);
    std::unique_lock lock(call->mutex);
    for (const TestEmitted& e : call->emitted) {
      const engine_port_desc& port = At(desc_->outputs, e.port);
      if (++per_port[e.port] == 2 && desc_->emission == ENGINE_EMIT_ONE) {
        TheFindings().Add(
            std::string("output ") + std::string(View(port.name)) +
            " got more than one packet of a call, and the contract says emission ONE");
      }
      text += ShowPacket(port, e, group) + "\n";
      ++packets_;
      TestHost::Release(e.packet);
    }
    call->emitted.clear();
    errors_ += !status.ok() || call->fail_scope != 0;
    if (!status.ok()) text += "error: " + Quoted(ShowError(status)) + "\n";
    if (call->fail_scope == ENGINE_SCOPE_NODE) {
      text += "node_error: " + Quoted(ShowError(call->wide)) + "\n";
    } else if (call->fail_scope == ENGINE_SCOPE_RUN) {
      text += "run_error: " + Quoted(ShowError(call->wide)) + "\n";
    } else if (call->fail_scope != 0) {
      TheFindings().Add(std::string("fail() was given scope ") + std::to_string(call->fail_scope));
    }
    if (call->finish) {
      text += "finish: true\n";
      finished_ = true;
    }
    return text;
  }

  static std::string ShowPacket(const engine_port_desc& port, const TestEmitted& e,
                                uint64_t group) {
    const std::string name(View(port.name)), declared(View(port.type));
    Shown shown;
    if (declared != "*" && declared != e.packet->type && e.packet->type != ENGINE_TYPE_ERROR) {
      TheFindings().Add("output " + name + " got a packet of type " + e.packet->type +
                        "; the contract says " + declared);
      shown.body = "type: " + Quoted(e.packet->type);
    } else if (const auto it = PayloadTexts().find(e.packet->type); it == PayloadTexts().end()) {
      shown.body = "type: " + Quoted(e.packet->type);
    } else if (e.packet->payload == nullptr) {
      TheFindings().Add("output " + name + " got a packet without a payload");
    } else {
      shown = it->second.show(e.packet->payload);
    }
    if (e.group != UINT64_MAX && e.group != group) {
      shown.body +=
          (shown.body.empty() ? "" : " ") + (std::string("group: ") + std::to_string(e.group));
      shown.brief.clear();
    }
    if (!shown.brief.empty()) return name + ": " + shown.brief;
    return name + (shown.body.empty() ? " { }" : " { " + shown.body + " }");
  }

  TestPlugin& plugin_;
  const engine_kind_desc* desc_ = nullptr;
  uint32_t number_ = 0;
  std::string name_;
  const engine_node_vtable* table_ = nullptr;
  void* self_ = nullptr;
  Status status_;
  std::vector<TestObject> slots_;
  bool open_ = false, finished_ = false, cancel_ = false, made_ = false;
  std::chrono::microseconds cancel_after_{0};
  std::chrono::milliseconds patience_{10000};
  int64_t live_before_ = 0;
  uint64_t key_ = 0, packets_ = 0, errors_ = 0;
};

}  // namespace engine::testing

#endif  // ENGINE_TESTING_NODE_HPP_
