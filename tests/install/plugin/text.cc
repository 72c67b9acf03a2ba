// A plugin without tensors: `upper` turns text into capitals, `print` shows it.
#include <cctype>
#include <cstdio>
#include <memory>
#include <string>

#include "engine/plugin.hpp"
#include "text.engine.hpp"

namespace acme::text {

// A payload together with what it points to.
struct Text : engine_text {
  std::string owned;
};

struct Upper : engine::Node {
  ENGINE_NODE("upper", "Turns text into capitals.")
  ENGINE_OPTIONS(UpperOptions)
  engine::In<engine_text> in{this, {.name = "TEXT", .doc = "Any text."}};
  engine::Out<engine_text> out{this, {.name = "TEXT", .doc = "The same in capitals."}};

  engine::Status Process(engine::Call& call) override {
    const engine_text* given = in.Get(call);
    std::string loud(engine::View(given->text));
    bool inside_word = false;
    for (char& c : loud) {
      const auto byte = static_cast<unsigned char>(c);
      if (options.letters == UpperOptions::Letters::ALL || !inside_word) {
        c = static_cast<char>(std::toupper(byte));
      }
      inside_word = std::isalnum(byte) != 0;
    }
    auto made = std::make_unique<Text>();
    for (uint32_t i = 0; i < options.times; ++i) made->owned += (i == 0 ? "" : " ") + loud;
    made->text = engine::Str(made->owned);
    made->arrived_ns = given->arrived_ns;
    return out.Emit(call, std::move(made));
  }
};

struct Print : engine::Node {
  ENGINE_NODE("print", "Prints each text on a line of standard output.", .executor = "io")
  ENGINE_OPTIONS(PrintOptions)
  engine::In<engine_text> in{this, {.name = "TEXT", .doc = "Any text."}};

  engine::Status Process(engine::Call& call) override {
    const engine_str text = in.Get(call)->text;
    std::printf("%s%.*s\n", options.prefix.c_str(), static_cast<int>(text.size), text.data);
    std::fflush(stdout);
    return engine::Status();
  }
};

}  // namespace acme::text

ENGINE_PLUGIN((engine::PluginInfo{.id = "com.acme.text",
                                  .version = "1.0.0",
                                  .summary = "Capitals.",
                                  .license = "MIT",
                                  .schemas = acme::text::kSchema,
                                  .schemas_size = sizeof acme::text::kSchema}),
              engine::Nodes<acme::text::Upper, acme::text::Print>)
