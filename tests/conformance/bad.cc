// Plugins that each break the contract in one way: BAD says which. `engine plugin check` must find
// it; with BAD 0 there is nothing to find.
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "bad.engine.hpp"
#include "engine/ext/draft/state.h"
#include "engine/plugin.hpp"

#define NOTHING 0
#define CRASHES_IN_PROCESS 1
#define THROWS_OUT 2
#define KEEPS_PACKETS 3
#define KEEPS_THE_CALL 4
#define WRONG_THREAD 5
#define ANSWERS_TWICE 6
#define NEVER_ANSWERS 7
#define LEAKS_MEMORY 8
#define WRONG_TYPE 9
#define TOO_MANY 10
#define CRASHES_ON_OPTIONS 11
#define CRASHES_ON_BYTES 12
#define DESCRIBES_ANEW 13
#define EXITS_AT_CLOSE 14
#define LOSES_STATE 15
#define PLANS_ANEW 16
#define RELEASES_TWICE 17
#define HANGS 18
#define EMITS_IN_OPEN 19
#define ONE_INSTANCE 20
#define STATUS_WITHOUT_CODE 21

namespace test::bad {

using engine::Call;
using engine::Status;

struct Text : engine_text {
  std::string owned;
};

struct Bad : engine::Node {
  ENGINE_NODE("bad", "Breaks the contract.")
  BadOptions options;
  std::string_view OptionsMessage() const override { return BadOptions::kMessage; }
  bool ReadOptions(std::string_view bytes) override {
    const bool good = options.Read(bytes);
    if (BAD == CRASHES_ON_OPTIONS && good && options.times > 9) std::abort();
    if (BAD == CRASHES_ON_BYTES && !good) std::abort();
    if (BAD == LEAKS_MEMORY) leaked_ = new char[100];
    return good;
  }
  engine::In<engine_text> in{this, {.name = "TEXT", .doc = "Any text."}};
  engine::Out<engine_text> out{this, {.name = "TEXT", .doc = "The same."}};

  Status Open(Call& call) override { return BAD == EMITS_IN_OPEN ? Give(call, "x") : Status(); }
  Status Process(Call& call) override {
    const engine_nodes_host* nodes = engine::ThisHost().nodes;
    auto* packet = const_cast<engine_packet*>(in.Raw(call));
    ++seen_;
    switch (BAD) {
      case CRASHES_IN_PROCESS:
        std::abort();
      case KEEPS_PACKETS:
        nodes->packet_retain(packet);
        break;
      case KEEPS_THE_CALL:
        if (kept_ != nullptr) nodes->input_count(kept_, 0);
        kept_ = call.get();
        break;
      case WRONG_THREAD:
        std::thread([&] { nodes->input_count(call.get(), 0); }).join();
        break;
      case ANSWERS_TWICE:
      case NEVER_ANSWERS: {
        engine_completion* later = nullptr;
        ENGINE_RETURN_IF_ERROR(Status(nodes->defer(call.get(), &later)));
        if (BAD == NEVER_ANSWERS) return Status();
        nodes->completion_done(later, nullptr);
        nodes->completion_done(later, nullptr);
        return Status();
      }
      case WRONG_TYPE: {
        engine_packet* made = nullptr;
        ENGINE_RETURN_IF_ERROR(Status(nodes->packet_new(
            engine::Str("test.Other/1"), new int(1), [](void* p) { delete static_cast<int*>(p); },
            &made)));
        return Status(nodes->emit(call.get(), 0, made, UINT64_MAX));
      }
      case TOO_MANY:
        ENGINE_RETURN_IF_ERROR(Give(call, "a"));
        break;
      case RELEASES_TWICE:
        nodes->packet_release(packet);
        return Status();
      case HANGS:
        std::this_thread::sleep_for(std::chrono::hours(1));
        break;
      default:
        break;
    }
    return Give(call, std::string(engine::View(in.Get(call)->text)));
  }
  Status Close(Call&) override {
    if (BAD == EXITS_AT_CLOSE) std::_Exit(3);
    return Status();
  }
  uint64_t seen() const { return seen_; }
  void set_seen(uint64_t seen) { seen_ = BAD == LOSES_STATE ? 0 : seen; }

 private:
  Status Give(Call& call, std::string text) {
    auto made = std::make_unique<Text>();
    made->owned = std::move(text);
    made->text = engine::Str(made->owned);
    return out.Emit(call, std::move(made));
  }
  uint64_t seen_ = 0;
  engine_call* kept_ = nullptr;
  char* leaked_ = nullptr;
};

// Leaves a site as it is.
class Same : public engine::SiteImpl {
 public:
  explicit Same(const engine_site_impl* base) : base_(base) {}
  Status Forward(engine_forward* pass, const AtenTensorHandle* i, uint32_t n, AtenTensorHandle* o,
                 uint32_t m) override {
    return Status(base_->forward(base_->self, pass, i, n, o, m));
  }

 private:
  const engine_site_impl* base_;
};
struct BadTransform : engine::Transform {
  ENGINE_TRANSFORM("bad_transform", "Breaks the contract.", ENGINE_PHASE_ADAPTER)
  Status Plan(const engine::Model& model, engine::Diff& diff) override {
    static int calls = 0;
    const auto sites = model.Sites();
    for (uint32_t i = 0; i < sites.size(); ++i) {
      if (sites[i].kind != ENGINE_SITE_LINEAR) continue;
      const int64_t bytes = BAD == PLANS_ANEW ? ++calls : 0;
      ENGINE_RETURN_IF_ERROR(diff.Replace(i, "nothing", 0, bytes));
    }
    return Status();
  }
  Status Rewrite(const engine::Model& model, uint32_t site,
                 std::unique_ptr<engine::SiteImpl>* out) override {
    *out = std::make_unique<Same>(model.Impl(site));
    return Status();
  }
};

constexpr engine_state kState = {
    sizeof(engine_state),
    [](void* instance, engine_status* (*write)(void*, engine_str), void* arg) -> engine_status* {
      const uint64_t seen = static_cast<Bad*>(static_cast<engine::Node*>(instance))->seen();
      return write(arg, {reinterpret_cast<const char*>(&seen), sizeof seen});
    },
    [](void* instance, engine_str bytes) -> engine_status* {
      uint64_t seen = 0;
      if (bytes.size != sizeof seen) {
        return engine::Error(ENGINE_INVALID_ARGUMENT, bytes.size, " bytes are no state").release();
      }
      std::memcpy(&seen, bytes.data, sizeof seen);
      static_cast<Bad*>(static_cast<engine::Node*>(instance))->set_seen(seen);
      return nullptr;
    }};

// What the C++ skin would not let happen is put between it and the host.
constexpr engine_plugin kPlugin =
    engine::MakePlugin<engine::Nodes<Bad>, engine::Transforms<BadTransform>>(
        {.id = "test.bad",
         .version = "1.0.0",
         .summary = "Breaks the contract.",
         .license = "MIT",
         .schemas = kSchema,
         .schemas_size = sizeof kSchema});

const engine_nodes_plugin* Skin() {
  return static_cast<const engine_nodes_plugin*>(kPlugin.extension(nullptr, ENGINE_EXT_NODES));
}

const engine_kind_desc* Describe(void* self, uint32_t i) {
  if (BAD != DESCRIBES_ANEW) return Skin()->describe(self, i);
  static engine_kind_desc desc = *Skin()->describe(self, i);
  desc.max_in_flight += 1;
  return &desc;
}

engine_status* Create(void* self, uint32_t i, engine_str name, engine_str options,
                      const engine_node_vtable** vtable, void** out) {
  static engine_node_vtable table;
  static void* only = nullptr;
  if (BAD == ONE_INSTANCE && only != nullptr) {
    *out = only;
    *vtable = &table;
    return nullptr;
  }
  if (engine_status* status = Skin()->create(self, i, name, options, vtable, out)) return status;
  table = **vtable;
  if (BAD == THROWS_OUT) {
    table.process = [](void*, engine_call*) -> engine_status* { throw 1; };
  }
  if (BAD == STATUS_WITHOUT_CODE) {
    table.process = [](void*, engine_call*) -> engine_status* {
      static engine_status none = {sizeof none, ENGINE_OK, {"x", 1}, {}, {}, [](engine_status*) {}};
      return &none;
    };
  }
  if (BAD == ONE_INSTANCE) {
    table.destroy = [](void*) {};
    only = *out;
  }
  *vtable = &table;
  return nullptr;
}

constexpr engine_nodes_plugin kNodes = {sizeof(engine_nodes_plugin), 1, &Describe, &Create};

constexpr engine_plugin Wrapped() {
  engine_plugin p = kPlugin;
  p.extension = [](void* self, const char* id) -> const void* {
    if (std::string_view(id) == ENGINE_EXT_NODES) return &kNodes;
    if (std::string_view(id) == ENGINE_EXT_STATE) return &kState;
    return kPlugin.extension(self, id);
  };
  return p;
}

}  // namespace test::bad

extern "C" __attribute__((visibility("default"))) constexpr engine_plugin engine_plugin_v1 =
    test::bad::Wrapped();
