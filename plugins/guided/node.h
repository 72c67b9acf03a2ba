// The kind `constrain`: requests in, and out again with a guide where they ask for a form.
// Invariant: no worker compiles; a form that is not in the cache is compiled on an I/O thread while
// its call is put off, at most kCompilers at once, and other requests overtake it.
#ifndef PLUGINS_GUIDED_NODE_H_
#define PLUGINS_GUIDED_NODE_H_

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>

#include "engine/node.hpp"
#include "guide_cache.h"
#include "options.engine.hpp"

namespace engine::guided {

struct Constrain : ::engine::Node {
  ENGINE_NODE("constrain",
              "Keeps answers to the form that their request asks for: JSON, a JSON schema, a "
              "regular expression, calls of tools.",
              .emission = ENGINE_EMIT_MANY, .max_in_flight = 4096, .flags = ENGINE_KIND_UNORDERED)
  ENGINE_OPTIONS(ConstrainOptions)
  In<engine_tokens> in{this, {.name = "TOKENS", .doc = "Prompts."}};
  Out<engine_tokens> out{this, {.name = "TOKENS", .doc = "The same, each with its guide."}};
  UseModel model{this, ENGINE_TYPE_MODEL, {.name = "MODEL", .doc = "Whose tokens are allowed."}};
  Constrain();
  ~Constrain() override;
  Status Process(Call& call) override;

 private:
  struct Work;
  static constexpr uint32_t kCompilers = 2;
  static void Compile(void* self);
  Status CacheOf(const engine_model* m, std::shared_ptr<GuideCache>* out);

  std::mutex mutex_;  // guards all below
  std::deque<std::unique_ptr<Work>> waiting_;
  std::condition_variable idle_;
  uint32_t compilers_ = 0;  // I/O threads that take from waiting_
  const engine_model* made_for_ = nullptr;
  std::shared_ptr<GuideCache> cache_;
};

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_NODE_H_
