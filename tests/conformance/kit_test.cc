// engine/testing.hpp tried by its own means: options of every type from text, payloads there and
// back, what the host watches for.
#include "engine/plugin.hpp"
#include "engine/testing.hpp"
#include "kit.engine.hpp"

namespace test::kit {

using engine::Call;
using engine::Status;

struct Text : engine_text {
  std::string owned;
};

// Tells its options.
struct Tell : engine::Node {
  ENGINE_NODE("tell", "Tells its options.")
  ENGINE_OPTIONS(KitOptions)
  engine::In<engine_text> in{this, {.name = "TEXT"}};
  engine::Out<engine_text> out{this, {.name = "TEXT"}};
  Status Process(Call& call) override {
    const std::string word(engine::View(in.Get(call)->text));
    if (word == "fail") return engine::Error(ENGINE_ABORTED, "as \"asked\"");
    if (word == "node") call.FailNode(engine::Error(ENGINE_DATA_LOSS, "the node"));
    if (word == "throw") throw std::runtime_error("caught by the skin");
    if (word == "cancelled") return Give(call, call.Cancelled() ? "yes" : "no");
    if (word == "later") return Later(call);
    std::ostringstream to;
    const KitOptions& o = options;
    to << o.i32 << " " << o.i64 << " " << o.u32 << " " << o.u64 << " " << o.s32 << " " << o.s64
       << " " << o.f32 << " " << o.sf64 << " " << o.real << " " << o.wide << " " << o.yes << " "
       << o.raw.size() << " " << static_cast<int>(o.colour) << " [";
    for (const int32_t i : o.list) to << i << " ";
    to << "] " << o.inner.name << " " << o.inner.more.size() << " " << o.size;
    return Give(call, to.str());
  }
  Status Give(Call& call, std::string text, uint64_t group = engine::kSameGroup) {
    auto made = std::make_unique<Text>();
    made->owned = std::move(text);
    made->text = engine::Str(made->owned);
    return out.Emit(call, std::move(made), group);
  }
  // Answers from an I/O thread.
  Status Later(Call& call) {
    const engine::Host& host = engine::ThisHost();
    engine_completion* later = nullptr;
    ENGINE_RETURN_IF_ERROR(Status(host.nodes->defer(call.get(), &later)));
    return Status(host.async->run(
        [](void* arg) {
          const engine_nodes_host* nodes = engine::ThisHost().nodes;
          auto* l = static_cast<engine_completion*>(arg);
          auto made = std::make_unique<Text>();
          made->owned = "here";
          made->text = engine::Str(made->owned);
          engine::Packet packet;
          Status status = engine::Packet::Make<engine_text>(std::move(made), &packet);
          if (status.ok()) status = Status(nodes->completion_emit(l, 0, packet.release(), 9));
          nodes->completion_done(l, status.release());
        },
        later));
  }
};

// Gives three texts and ends.
struct Three : engine::Node {
  ENGINE_NODE("three", "Gives three texts.")
  engine::Out<engine_text> out{this, {.name = "TEXT"}};
  Status Process(Call& call) override {
    auto made = std::make_unique<Text>();
    made->owned = std::to_string(++count);
    made->text = engine::Str(made->owned);
    if (count == 3) call.Finish();
    return out.Emit(call, std::move(made), count);
  }
  uint64_t count = 0;
};

// Hands on what it gets, of any type.
struct Pass : engine::Node {
  ENGINE_NODE("pass", "Hands on.", .policies = ENGINE_POLICY_ANY,
              .default_policy = ENGINE_POLICY_ANY)
  Pass() {
    const auto port = [](std::string_view name) {
      return engine::internal::PortDesc({.name = name}, "*");
    };
    AddInput(port("IN"));
    AddOutput(port("OUT"));
  }
  Status Process(Call& call) override {
    auto* packet = const_cast<engine_packet*>(call.Input(0));
    engine::ThisHost().nodes->packet_retain(packet);
    return call.Emit(0, engine::Packet(packet));
  }
};

}  // namespace test::kit

ENGINE_PLUGIN((engine::PluginInfo{.id = "test.kit",
                                  .version = "1.0.0",
                                  .summary = "Tells.",
                                  .license = "MIT",
                                  .schemas = test::kit::kSchema,
                                  .schemas_size = sizeof test::kit::kSchema}),
              engine::Nodes<test::kit::Tell, test::kit::Three, test::kit::Pass>)

using engine::testing::TestNode;

ENGINE_TEST(OptionsOfEveryType) {
  TestNode node(R"(tell {
    i32: -5  i64: -9000000000  u32: 7  u64: 18446744073709551615  s32: -2147483648  s64: -7
    f32: 0xff  sf64: -8  real: 0.5  wide: -2.5e3  yes: true  raw: "\000\xff\n"
    colour: BLUE  list: [1, -2]  list: 3  inner { name: "a" 'b' more { name: "c" } }
    size: "1.5GB"  # the end
  })");
  ENGINE_EXPECT(
      node.Feed(R"(TEXT: "")"),
      R"(TEXT: "-5 -9000000000 7 18446744073709551615 -2147483648 -7 255 -8 0.5 -2500 1 3 -3)"
      R"( [1 -2 3 ] ab 1 1.5GB")");
}

ENGINE_TEST(DefaultsAreThoseOfTheSchema) {
  TestNode node("tell");
  ENGINE_EXPECT(node.Feed(R"(TEXT: "")"), R"(TEXT: "0 0 4 0 0 0 0 0 0 0 0 0 0 []  0 ")");
}

ENGINE_TEST(WrongOptionsAreRefusedWithTheirLine) {
  const auto refused = [](const char* text, const char* words) {
    ENGINE_EXPECT_HAS(TestNode(text).Show(), words);
  };
  refused("tell { u32: 1 }", "line 1: 'u32' is 1; the least is 2");
  refused("tell {\n u32: 10 }", "line 2: 'u32' is 10; the most is 9");
  refused("tell { i32: 2147483648 }", "a whole number from -2147483648 to 2147483647");
  refused("tell { u64: -1 }", "a whole number from 0");
  refused("tell { u32: 5 u32: 5 }", "'u32' is given twice");
  refused("tell { yes: 1 }", "takes true or false");
  refused("tell { colour: GREEN }", "it takes one of BLUE, RED");
  refused("tell { inner { } }", "'name' must be given");
  refused("tell { inner: 3 }", "takes a block");
  refused("tell { raw { } }", "it takes one value");
  refused("tell { size: \"much\" }", "is not a number of bytes");
  refused("tell { colours: RED }", "there is no option 'colours'; known options: i32");
  refused("tell { i32: }", "'i32' has no value");
  refused("tell { raw: \"a }", "has no end");
  refused("tel { }", "the plugin has no kind 'tel' of this role; it has tell, three, pass");
}

ENGINE_TEST(FailuresAreText) {
  TestNode node("tell");
  ENGINE_EXPECT(node.Feed(R"(TEXT: "fail")"), R"(error: "ABORTED: as \"asked\"")");
  ENGINE_EXPECT_HAS(node.Feed(R"(TEXT: "node")"), R"(node_error: "DATA_LOSS: the node")");
  ENGINE_EXPECT(node.Feed(R"(TEXT: "throw")"), R"(error: "INTERNAL: caught by the skin")");
  ENGINE_EXPECT_HAS(node.Feed(R"(WORD: "a")"), "the node has no input 'WORD'; it has TEXT");
  ENGINE_EXPECT_HAS(node.Feed(R"(TEXT { words: "a" })"), "'TEXT' has no field 'words'");
}

ENGINE_TEST(DeferredCallsAreWaitedFor) {
  TestNode node("tell");
  ENGINE_EXPECT(node.Feed(R"(TEXT: "later")"), R"(TEXT { text: "here" group: 9 })");
}

ENGINE_TEST(CancelIsSeen) {
  TestNode node("tell");
  ENGINE_EXPECT(node.Feed(R"(TEXT: "cancelled")"), R"(TEXT: "no")");
  node.Cancel();
  ENGINE_EXPECT(node.Feed(R"(TEXT: "cancelled")"), R"(TEXT: "yes")");
}

ENGINE_TEST(SourcesRunToTheirEnd) {
  TestNode node("three");
  ENGINE_EXPECT(node.Run(), R"(
    TEXT { text: "1" group: 1 }
    TEXT { text: "2" group: 2 }
    TEXT { text: "3" group: 3 }
    finish: true)");
}

// What is handed on reads as it was written.
ENGINE_TEST(PayloadsThereAndBack) {
  const auto same = [](const std::string& type, const std::string& fields) {
    TestNode node("pass");
    const std::string shown =
        node.Feed("IN { type: " + engine::testing::Quoted(type) + " " + fields + " }");
    ENGINE_EXPECT(shown, "OUT { " + fields + " }");
  };
  same(
      "engine.Tokens/1",
      R"(ids: [1, -2] continued_ids: 3 request { id: "r" n: 2 sampling { top_k: 4 temperature: 0.5 } })");
  same("engine.Cancel/1", "cancels: 8");
  same(
      "engine.Token/1",
      R"(id: 5 request: 2 index: 1 finish: LENGTH margin: 0.25 prompt_ids: [7, 8] error: "e" error_code: ABORTED choice: 1 choices: 3)");
  same("engine.Event/1", R"(text: "a\"b" finish: STOP token { id: 4 request: 3 })");
  same("engine.Step/1",
       "sequence { request: 1 tokens: [1, 2] start: 3 blocks: 9 logits_count: 2 room: 1 }");
  same("engine.Logits/1",
       "row { request: 1 position: 2 values: [0.5, -1] } row { values: [3, 4] }");
  same("engine.Sampled/1", "row { request: 1 id: 2 position: 3 margin: 0.5 }");
  same("engine.TrainBatch/1", "row { ids: [1, 2] labels: [2, -100] } start: 1 next: 2");
  same("engine.TrainStep/1", "step: 1 loss: 0.5 tokens: 7 grad_norm: 2 lr: 0.001 steps: 9");
  same("engine.Error/1", R"(code: NOT_FOUND message: "m" node: "n")");
}

// Each finding is taken before the test that makes it ends, or that test would fail.
ENGINE_TEST(WhatBreaksTheContractIsFound) {
  const auto found = [] {
    std::string all;
    for (const std::string& f : engine::testing::TheFindings().Take()) all += f + "\n";
    return all;
  };
  const engine_nodes_host* nodes = engine::ThisHost().nodes;
  {
    TestNode node("tell");
    node.Feed(R"(TEXT: "x")");
  }
  ENGINE_EXPECT(found(), "");
  engine_packet* packet = nullptr;
  auto* payload = new engine_cancel{};
  engine::Status made(nodes->packet_new(
      engine::Str("engine.Cancel/1"), payload,
      [](void* p) { delete static_cast<engine_cancel*>(p); }, &packet));
  {
    TestNode node("tell");  // counts what is there from here on
    nodes->packet_retain(packet);
    nodes->packet_release(packet);
    node.Feed(R"(TEXT: "x")");
  }
  ENGINE_EXPECT(found(), "");
  nodes->packet_release(packet);
  nodes->packet_release(packet);
  ENGINE_EXPECT_HAS(found(),
                    "packet_release() was given a packet of type engine.Cancel/1 that was let");
}

ENGINE_TEST(LayoutOfTextsDoesNotMatter) {
  ENGINE_EXPECT("A  {  b:1 }", "A { b: 1 }");
  ENGINE_EXPECT(" x y \n\n z", "x y\nz");
}

ENGINE_TEST_MAIN()
