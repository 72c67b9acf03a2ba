// traffic and figures: a described load into a graph, and what it did.
#include "engine/plugin.hpp"

#include <cstdio>

#include "board.h"
#include "engine/util.hpp"
#include "options.engine.hpp"
#include "report.h"

namespace engine::traffic {
namespace {

struct Prompt : engine_tokens {
  std::vector<int32_t> owned;
  std::string owned_session, owned_key;
  engine_request wish = Sized<engine_request>();
};
struct GiveUp : engine_cancel {};

}  // namespace

struct Traffic : Node {
  ENGINE_NODE("traffic", "Gives the requests of a load description into the graph, for measuring.",
              .emission = ENGINE_EMIT_MANY, .executor = "io")
  ENGINE_OPTIONS(TrafficOptions)
  Out<engine_tokens> out{this, {.name = "TOKENS", .doc = "Prompts."}};
  Out<engine_cancel> cancel{
      this,
      {.name = "CANCEL", .doc = "Requests that are given up.", .flags = ENGINE_PORT_OPTIONAL}};
  UseModel model{this, ENGINE_TYPE_MODEL, {.name = "MODEL", .doc = "Whose vocabulary is drawn."}};

  Status Open(Call&) override {
    Spec spec;
    ENGINE_RETURN_IF_ERROR(ParseSpec(options.load, &spec));
    board_ = Board::Of(options.board);
    board_->Begin(spec);
    return Status();
  }

  Status Process(Call& call) override {
    uint64_t index = 0;
    switch (board_->Wait(&index)) {
      case Board::Next::kWait:
        return Status();
      case Board::Next::kDone:
        call.Finish();
        return Status();
      case Board::Next::kCancel: {
        auto payload = std::make_unique<GiveUp>();
        payload->group = index;
        return cancel.Emit(call, std::move(payload), index);
      }
      case Board::Next::kRequest:
        break;
    }
    const Record record = board_->Get(index);
    engine_model_info info = Sized<engine_model_info>();
    ThisHost().model->info(model.Get(call), &info);
    auto payload = std::make_unique<Prompt>();
    payload->owned = board_->Prompt(index, info.vocab);
    payload->ids = payload->owned.data();
    payload->count = payload->owned.size();
    payload->arrived_ns = record.due_ns;
    payload->wish.struct_size = sizeof payload->wish;
    payload->wish.max_tokens = record.out;
    if (board_->spec().turns > 1) {
      payload->owned_session =
          "load-" + std::to_string(record.wave) + "-" + std::to_string(record.conversation);
      payload->wish.session = Str(payload->owned_session);
    }
    payload->request = &payload->wish;
    return out.Emit(call, std::move(payload), index);
  }

  Status Close(Call&) override {
    board_.reset();
    return Status();
  }

 private:
  std::shared_ptr<Board> board_;
};

struct Figures : Node {
  ENGINE_NODE("figures", "Measures what comes back of a load and writes its figures as JSON.",
              .executor = "io")
  ENGINE_OPTIONS(FiguresOptions)
  In<engine_token> in{this, {.name = "TOKEN", .doc = "Tokens and ends of the load's requests."}};
  UseModel model{this, ENGINE_TYPE_MODEL, {.name = "MODEL", .doc = "Whose kernels are timed."}};

  Status Open(Call&) override {
    board_ = Board::Of(options.board);
    return Status();
  }

  Status Process(Call& call) override {
    const engine_token& token = *in.Get(call);
    uint64_t steps = 0, step_ns = 0;
    Moment moment{token.made_ns, 0};
    ThisHost().model->step_times(model.Get(call), &steps, &step_ns, &moment.kernel_ns);
    if (token.id >= 0) board_->OnToken(token.request, token.id, token.made_ns, moment);
    if (token.finish == ENGINE_FINISH_NONE) return Status();
    const bool failed =
        token.finish == ENGINE_FINISH_ERROR || token.finish == ENGINE_FINISH_TIMEOUT;
    const engine_usage* usage = token.usage;
    const bool over = board_->OnEnd(token.request, failed,
                                    failed ? std::string(View(token.error)) : std::string(),
                                    usage != nullptr ? usage->cached_tokens : 0,
                                    usage != nullptr ? usage->preemptions : 0, moment);
    return over ? Write() : Status();
  }

  Status Close(Call&) override {
    board_.reset();
    return Status();
  }

 private:
  Status Write() {
    const std::string text = MakeReport(*board_).dump() + "\n";
    std::FILE* to = options.has_path ? std::fopen(options.path.c_str(), "w") : stdout;
    if (to == nullptr) {
      return Error(ENGINE_INVALID_ARGUMENT, "file '", options.path, "' cannot be written");
    }
    bool good = std::fwrite(text.data(), 1, text.size(), to) == text.size();
    good = (to == stdout ? std::fflush(to) : std::fclose(to)) == 0 && good;
    if (good) return Status();
    return Error(ENGINE_UNAVAILABLE, "the figures cannot be written whole");
  }
  std::shared_ptr<Board> board_;
};

}  // namespace engine::traffic

ENGINE_PLUGIN((engine::PluginInfo{.id = "engine.traffic",
                                  .version = "0.1.0",
                                  .summary = "Described loads and their figures.",
                                  .license = "Apache-2.0",
                                  .schemas = engine::traffic::kSchema,
                                  .schemas_size = sizeof engine::traffic::kSchema}),
              engine::Nodes<engine::traffic::Traffic, engine::traffic::Figures>)
