// A plugin of the NONE tier that goes through all that the host offers to it, built with the SDK of
// 1.0 and stored, so that later hosts can be held to it. Numbers are squared and added up.
#include <atomic>
#include <charconv>
#include <cstdio>
#include <memory>
#include <string>

#include "engine/plugin.hpp"
#include "none.engine.hpp"

namespace replay::none {

using engine::Error;
using engine::Status;
using engine::View;

struct Tally {
  std::atomic<int64_t> sum{0}, failures{0};
};

struct TallyResource : engine::Resource {
  ENGINE_RESOURCE("replay_tally", "A sum that nodes add to.", "replay.Tally/1")
  ENGINE_OPTIONS(TallyOptions)
  Status Make() override {
    tally_.sum = options.start;
    return Status();
  }
  void* Object() override { return &tally_; }

 private:
  Tally tally_;
};

struct Text : engine_text {
  std::string owned;
};

std::unique_ptr<Text> MakeText(int64_t value) {
  auto text = std::make_unique<Text>();
  text->owned = std::to_string(value);
  text->text = engine::Str(text->owned);
  return text;
}

Status Number(const engine_text* text, int64_t* value) {
  const std::string_view digits = View(text->text);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), *value);
  if (error == std::errc() && end == digits.data() + digits.size()) return Status();
  return Error(ENGINE_INVALID_ARGUMENT, "'", digits, "' is no number");
}

struct Numbers : engine::Node {
  ENGINE_NODE("replay_numbers", "Counts from 0.")
  ENGINE_OPTIONS(NumbersOptions)
  engine::Out<engine_text> out{this, {.name = "NUMBER", .doc = "0, 1, 2 and so on."}};
  Status Process(engine::Call& call) override {
    if (next_ >= options.count || call.Cancelled()) {
      call.Finish();
      return Status();
    }
    // Groups go in hundreds, so that the follower sees whose a number is.
    const uint32_t number = next_++;
    return out.Emit(call, MakeText(number), 100 + number);
  }

 private:
  uint32_t next_ = 0;
};

struct Square : engine::Node {
  ENGINE_NODE("replay_square", "Squares numbers.", .max_in_flight = 4)
  ENGINE_OPTIONS(SquareOptions)
  engine::In<engine_text> in{this, {.name = "NUMBER", .doc = "A number."}};
  engine::In<engine_text> sign{
      this, {.name = "SIGN", .doc = "Turns the square round.", .flags = ENGINE_PORT_OPTIONAL}};
  engine::Out<engine_text> out{this, {.name = "SQUARE", .doc = "Its square."}};
  engine::Out<engine_text> same{
      this, {.name = "SAME", .doc = "The number itself.", .flags = ENGINE_PORT_OPTIONAL}};

  Status Open(engine::Call&) override {
    ENGINE_RETURN_IF_ERROR(Status(engine::ThisHost().metrics->get(
        ENGINE_METRIC_COUNTER, engine::Str("engine_replay_squares_total"),
        engine::Str("Numbers squared."), &squares_)));
    engine::Log(ENGINE_LOG_INFO, name(), "squares begin");
    return Status();
  }

  Status Process(engine::Call& call) override {
    int64_t value = 0;
    ENGINE_RETURN_IF_ERROR(Number(in.Get(call), &value));
    const uint64_t group = engine::ThisHost().nodes->packet_group(in.Raw(call));
    if (group != 100 + static_cast<uint64_t>(value)) {
      return Error(ENGINE_INTERNAL, value, " came in group ", group);
    }
    if (options.has_refused && options.refused == View(in.Get(call)->text)) {
      return Error(ENGINE_OUT_OF_RANGE, "the number ", value, " is refused");
    }
    if (sign.Get(call) != nullptr) value = -value;
    engine::ThisHost().metrics->add(squares_, 1);
    // The packet that came, once more: it is shared, not copied.
    auto* came = const_cast<engine_packet*>(in.Raw(call));
    engine::ThisHost().nodes->packet_retain(came);
    ENGINE_RETURN_IF_ERROR(call.Emit(same.index(), engine::Packet(came)));
    if (options.how == SquareOptions::How::CALL) return out.Emit(call, MakeText(value * value));
    if (options.how == SquareOptions::How::TASKS) return Parallel(call, value);
    return Later(call, value);
  }

 private:
  Status Parallel(engine::Call& call, int64_t value) {
    struct Sum {
      int64_t value;
      std::atomic<int64_t> sum{0};
    } sum{value, {}};
    engine::ThisHost().tasks->parallel_for(
        value, 1,
        [](void* arg, int64_t begin, int64_t end) {
          auto* to = static_cast<Sum*>(arg);
          to->sum += (end - begin) * to->value;
        },
        &sum);
    return out.Emit(call, MakeText(sum.sum));
  }

  Status Later(engine::Call& call, int64_t value) {
    struct Job {
      const engine_nodes_host* nodes;
      engine_completion* completion;
      int64_t value;
      uint32_t port;
    };
    auto job = std::make_unique<Job>(Job{engine::ThisHost().nodes, nullptr, value, out.index()});
    ENGINE_RETURN_IF_ERROR(Status(job->nodes->defer(call.get(), &job->completion)));
    Job* kept = job.release();
    Status status(engine::ThisHost().async->after(
        1000,
        [](void* arg) {
          const std::unique_ptr<Job> mine(static_cast<Job*>(arg));
          engine::Packet packet;
          Status made =
              engine::Packet::Make<engine_text>(MakeText(mine->value * mine->value), &packet);
          if (made.ok()) {
            made = Status(mine->nodes->completion_emit(mine->completion, mine->port,
                                                       packet.release(), engine::kSameGroup));
          }
          mine->nodes->completion_done(mine->completion, made.release());
        },
        kept));
    if (!status.ok()) {
      kept->nodes->completion_done(kept->completion, status.release());
      delete kept;
    }
    return Status();
  }

  engine_metric* squares_ = nullptr;
};

struct Collect : engine::Node {
  ENGINE_NODE("replay_collect", "Adds numbers up.", .policies = ENGINE_POLICY_ANY,
              .default_policy = ENGINE_POLICY_ANY)
  ENGINE_OPTIONS(CollectOptions)
  engine::In<engine_text> in{
      this,
      {.name = "NUMBER", .doc = "Numbers.", .flags = ENGINE_PORT_ERRORS | ENGINE_PORT_REPEATED}};
  engine::Use<Tally> other{this, "replay.Other/1", {.name = "OTHER", .optional = true}};
  engine::Use<Tally> tally{this, "replay.Tally/1", {.name = "TALLY", .mutates = true}};

  Status Process(engine::Call& call) override {
    Tally* to = tally.Get(call);
    if (to == nullptr) return Error(ENGINE_INTERNAL, "there is no tally");
    if (other.Get(call) != nullptr) return Error(ENGINE_INTERNAL, "there is another tally");
    if (const engine_error_payload* failure = in.Failure(call)) {
      if (failure->code != ENGINE_OUT_OF_RANGE) return Error(ENGINE_INTERNAL, "another failure");
      ++to->failures;
      return Status();
    }
    int64_t value = 0;
    ENGINE_RETURN_IF_ERROR(Number(in.Get(call), &value));
    to->sum += value;
    return Status();
  }

  Status Close(engine::Call& call) override {
    std::FILE* file = std::fopen(options.path.c_str(), "w");
    if (file == nullptr) return Error(ENGINE_NOT_FOUND, "'", options.path, "' cannot be written");
    const Tally* from = tally.Get(call);
    std::fprintf(file, "sum %lld failures %lld\n", static_cast<long long>(from->sum.load()),
                 static_cast<long long>(from->failures.load()));
    std::fclose(file);
    return Status();
  }
};

}  // namespace replay::none

ENGINE_PLUGIN((engine::PluginInfo{.id = "replay.none",
                                  .version = "1.0.0",
                                  .summary = "Squares and sums.",
                                  .license = "Apache-2.0",
                                  .schemas = replay::none::kSchema,
                                  .schemas_size = sizeof replay::none::kSchema}),
              engine::Nodes<replay::none::Numbers, replay::none::Square, replay::none::Collect>,
              engine::Transforms<>, engine::Resources<replay::none::TallyResource>)
