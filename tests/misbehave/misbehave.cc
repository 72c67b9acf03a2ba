// A plugin that breaks its contract on demand: what becomes of the run is tested in
// misbehave_test.cc.
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>

#include "engine/plugin.hpp"
#include "misbehave.engine.hpp"

namespace misbehave {

using engine::Status;
using How = MisbehaveOptions::How;

struct Text : engine_text {
  std::string owned;
};

struct Misbehave : engine::Node {
  ENGINE_NODE("misbehave", "Breaks the contract in one way.")
  ENGINE_OPTIONS(MisbehaveOptions)
  engine::In<engine_text> in{this, {.name = "TEXT", .doc = "Any text."}};
  engine::Out<engine_text> out{this, {.name = "TEXT", .doc = "The same."}};

  static std::unique_ptr<Text> Copy(const engine_text& from) {
    auto text = std::make_unique<Text>();
    text->owned = std::string(engine::View(from.text));
    text->text = engine::Str(text->owned);
    return text;
  }

  Status Process(engine::Call& call) override {
    const engine_nodes_host* host = engine::ThisHost().nodes;
    switch (options.how) {
      case How::NOTHING:
        break;
      case How::THROW:
        throw 42;
      case How::HANG:
        for (;;) pause();
      case How::PORT: {
        engine::Packet packet;
        ENGINE_RETURN_IF_ERROR(engine::Packet::Make<engine_text>(Copy(*in.Get(call)), &packet));
        return call.Emit(77, std::move(packet));
      }
      case How::COUNT:
        if (call.Count(99) != 0 || call.Input(0, 5) != nullptr || call.Input(99, 0) != nullptr) {
          return engine::Error(ENGINE_INTERNAL, "there is what cannot be there");
        }
        break;
      case How::TWICE: {
        engine_completion* completion = nullptr;
        ENGINE_RETURN_IF_ERROR(Status(host->defer(call.get(), &completion)));
        host->completion_done(completion, nullptr);
        host->completion_done(completion, nullptr);
        return Status();
      }
      case How::LATE: {
        engine_completion* completion = nullptr;
        ENGINE_RETURN_IF_ERROR(Status(host->defer(call.get(), &completion)));
        call.FailRun(engine::Error(ENGINE_ABORTED, "the run is over"));
        return Status(engine::ThisHost().async->after(
            300'000'000,
            [](void* kept) {
              auto* late = static_cast<engine_completion*>(kept);
              engine::ThisHost().nodes->completion_done(
                  late, engine::Error(ENGINE_INTERNAL, "too late").release());
            },
            completion));
      }
      case How::KEEP:
        if (kept_ != nullptr) host->input_count(kept_, 0);
        kept_ = call.get();
        if (host->input_count(kept_, 0) != 1) return engine::Error(ENGINE_INTERNAL, "no input");
        ENGINE_RETURN_IF_ERROR(Status(engine::ThisHost().async->run(
            [](void* kept) {
              usleep(50'000);  // the call is over by then
              engine::ThisHost().nodes->input_count(static_cast<engine_call*>(kept), 0);
            },
            kept_)));
        break;
      case How::TYPE: {
        struct Cancel : engine_cancel {};
        engine::Packet packet;
        ENGINE_RETURN_IF_ERROR(
            engine::Packet::Make<engine_cancel>(std::make_unique<Cancel>(), &packet));
        return call.Emit(out.index(), std::move(packet));
      }
      case How::MUTE:
        call.FailNode(Status(engine::internal::NewStatus(ENGINE_UNKNOWN, "")));
        return Status();
    }
    return out.Emit(call, Copy(*in.Get(call)));
  }

 private:
  engine_call* kept_ = nullptr;
};

struct Lines : engine::Node {
  ENGINE_NODE("misbehave_lines", "Three texts.")
  engine::Out<engine_text> out{this, {.name = "TEXT", .doc = "one, two, three"}};
  Status Process(engine::Call& call) override {
    static constexpr const char* kWords[] = {"one", "two", "three"};
    if (next_ == 3) {
      call.Finish();
      return Status();
    }
    auto text = std::make_unique<Text>();
    text->owned = kWords[next_++];
    text->text = engine::Str(text->owned);
    return out.Emit(call, std::move(text));
  }

 private:
  int next_ = 0;
};

struct Show : engine::Node {
  ENGINE_NODE("misbehave_show", "Prints texts.")
  engine::In<engine_text> in{this, {.name = "TEXT", .doc = "Any text."}};
  Status Process(engine::Call& call) override {
    const engine_str text = in.Get(call)->text;
    std::printf("%.*s\n", static_cast<int>(text.size), text.data);
    std::fflush(stdout);
    return Status();
  }
};

}  // namespace misbehave

ENGINE_PLUGIN((engine::PluginInfo{.id = "test.misbehave",
                                  .version = "1.0.0",
                                  .summary = "Breaks its contract.",
                                  .license = "Apache-2.0",
                                  .schemas = misbehave::kSchema,
                                  .schemas_size = sizeof misbehave::kSchema}),
              engine::Nodes<misbehave::Misbehave, misbehave::Lines, misbehave::Show>)
