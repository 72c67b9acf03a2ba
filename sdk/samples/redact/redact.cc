// A tutorial: a node of the NONE tier, which needs neither LibTorch nor the engine's sources. It
// stands between `detokenize` and whatever shows the text, and hides words as they stream by.
//
// A node is one struct. Its members are its contract: ports, options, and what `engine inspect`,
// the checker and the runtime read.
#include <algorithm>
#include <cctype>
#include <map>
#include <memory>
#include <string>

#include "engine/plugin.hpp"
#include "redact.engine.hpp"  // made from redact.proto by engine_plugin() in CMakeLists.txt

namespace samples::redact {

// A payload is a plain struct of engine/types.h; its holder derives from it and owns what it points
// to. Here that is the text, and a reference to the packet whose token the event points at.
struct Event : engine_event {
  std::string owned;
  engine::Packet keep;
};

struct Redact : engine::Node {
  ENGINE_NODE("redact", "Hides words in streamed text.")
  ENGINE_OPTIONS(RedactOptions)
  engine::In<engine_event> in{this, {.name = "EVENT", .doc = "Text of any requests."}};
  engine::Out<engine_event> out{this, {.name = "EVENT", .doc = "The same, words hidden."}};

  // Called once for each packet, never twice at once, on varying threads. What is returned as an
  // error fails this packet's request and nothing else.
  engine::Status Process(engine::Call& call) override {
    const engine_event& event = *in.Get(call);  // borrowed: ours until we return
    const bool ends = event.finish != ENGINE_FINISH_NONE;

    // A word may come in pieces, so text is held back until its word has ended. Streams of many
    // requests are mixed: each has its own.
    const Key whose{event.token->request, event.token->choice};
    std::string& text = held_[whose];
    text += engine::View(event.text);
    const size_t whole = ends ? text.size() : EndOfWholeWords(text);

    auto made = std::make_unique<Event>();
    made->owned = Hidden(text.substr(0, whole));
    text.erase(0, whole);
    if (ends) held_.erase(whose);

    made->finish = event.finish;
    made->token = event.token;
    made->text = engine::Str(made->owned);
    // The token belongs to the packet that came in; retain it for as long as ours lives.
    auto* packet = const_cast<engine_packet*>(in.Raw(call));
    engine::ThisHost().nodes->packet_retain(packet);
    made->keep = engine::Packet(packet);
    return out.Emit(call, std::move(made));
  }

 private:
  using Key = std::pair<uint64_t, uint32_t>;

  static bool InWord(char c) { return std::isalnum(static_cast<unsigned char>(c)) || (c & 0x80); }

  static size_t EndOfWholeWords(const std::string& text) {
    size_t end = text.size();
    while (end > 0 && InWord(text[end - 1])) --end;
    return end;
  }

  std::string Hidden(const std::string& text) const {
    std::string to;
    for (size_t i = 0; i < text.size();) {
      size_t end = i;
      while (end < text.size() && InWord(text[end])) ++end;
      const std::string word = text.substr(i, end - i);
      if (std::find(options.word.begin(), options.word.end(), word) != options.word.end()) {
        for (size_t c = 0; c < word.size(); ++c) to += options.mark;
      } else {
        to += word;
      }
      if (end < text.size()) to += text[end++];
      i = end;
    }
    return to;
  }

  std::map<Key, std::string> held_;
};

}  // namespace samples::redact

// The one symbol that the library exports. Everything else is hidden by engine_plugin().
ENGINE_PLUGIN((engine::PluginInfo{.id = "samples.redact",
                                  .version = "1.0.0",
                                  .summary = "Hides words in streamed text.",
                                  .license = "Apache-2.0",
                                  .schemas = samples::redact::kSchema,
                                  .schemas_size = sizeof samples::redact::kSchema}),
              engine::Nodes<samples::redact::Redact>)
