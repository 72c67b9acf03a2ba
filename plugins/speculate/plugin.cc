// speculate, and its stand-in pass_step: a step in, the same step or one with drafts out.
#include "engine/plugin.hpp"

#include "drafter.h"
#include "engine/util.hpp"
#include "options.engine.hpp"

namespace engine::speculate {
namespace {

// A second reference to the packet that came.
Packet Share(const engine_packet* packet) {
  auto* mine = const_cast<engine_packet*>(packet);
  ThisHost().nodes->packet_retain(mine);
  return Packet(mine);
}

// A step with drafts: the rest of it lies in the step that came.
struct Drafted : engine_step {
  std::vector<engine_step_sequence> owned_sequences;
  std::vector<int32_t> owned_tokens;
  Packet keep;
};

}  // namespace

struct Speculate : Node {
  ENGINE_NODE("speculate",
              "Appends drafted tokens to a step where that pays, for the model to check. Answers "
              "stay the same; text that repeats itself comes in fewer steps.",
              .bypass = "pass_step")
  ENGINE_OPTIONS(SpeculateOptions)
  In<engine_step> in{this, {.name = "STEP", .doc = "What to run."}};
  Out<engine_step> out{this, {.name = "STEP", .doc = "The same, with drafts."}};

  Status Open(Call&) override {
    drafter_ = std::make_unique<Drafter>(
        Settings{options.max_draft, options.ngram, options.probe_steps, options.always});
    return Status();
  }

  Status Process(Call& call) override {
    const engine_step& step = *in.Get(call);
    drafter_->Draft(step, NowNs(), &drafts_);
    size_t rows = 0;
    for (const auto& draft : drafts_) rows += draft.size();
    Status status;
    if (rows == 0) {
      status = call.Emit(out.index(), Share(in.Raw(call)));
    } else {
      auto made = std::make_unique<Drafted>();
      for (uint32_t i = 0; i < step.count; ++i) {
        made->owned_sequences.push_back(Known(At(step.sequences, i)));
      }
      made->owned_tokens.reserve(rows + step.count);
      for (uint32_t i = 0; i < step.count; ++i) {
        if (drafts_[i].empty()) continue;
        engine_step_sequence& s = made->owned_sequences[i];
        const size_t begin = made->owned_tokens.size();
        made->owned_tokens.push_back(s.tokens[0]);
        made->owned_tokens.insert(made->owned_tokens.end(), drafts_[i].begin(), drafts_[i].end());
        s.tokens = made->owned_tokens.data() + begin;
        s.token_count += static_cast<uint32_t>(drafts_[i].size());
        s.logits_count = s.token_count;
        s.room -= static_cast<uint32_t>(drafts_[i].size());
      }
      made->sequences = made->owned_sequences.data();
      made->count = step.count;
      made->keep = Share(in.Raw(call));
      status = out.Emit(call, std::move(made));
    }
    drafter_->Sent(NowNs());
    return status;
  }

 private:
  std::unique_ptr<Drafter> drafter_;
  std::vector<std::vector<int32_t>> drafts_;
};

struct PassStep : Node {
  ENGINE_NODE("pass_step", "Passes steps on as they are. The plain stand-in of speculate.")
  ENGINE_OPTIONS(PassStepOptions)
  In<engine_step> in{this, {.name = "STEP", .doc = "What to run."}};
  Out<engine_step> out{this, {.name = "STEP", .doc = "The same."}};
  Status Process(Call& call) override { return call.Emit(out.index(), Share(in.Raw(call))); }
};

}  // namespace engine::speculate

namespace s = engine::speculate;

ENGINE_PLUGIN((engine::PluginInfo{.id = "engine.speculate",
                                  .version = "0.1.0",
                                  .summary = "Drafts from the text so far, checked by the model.",
                                  .license = "Apache-2.0",
                                  .schemas = s::kSchema,
                                  .schemas_size = sizeof s::kSchema}),
              engine::Nodes<s::Speculate, s::PassStep>)
