#include "engine/runtime/testing/random_plan.h"

#include <algorithm>
#include <map>
#include <thread>

namespace engine::runtime::testing {
namespace {

constexpr uint64_t kKeepGroup = UINT64_MAX;

uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t z = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
int64_t Small(uint64_t hash) { return static_cast<int64_t>(hash % 1'000'000); }
bool OneIn(uint32_t n, uint64_t hash) { return n != 0 && hash % n == 0; }

// What one call of a node does: a pure function of the step and its inputs, for nodes and for the
// interpreter alike. How calls and streams hang together is not in here.
struct Outcome {
  std::vector<std::pair<uint32_t, int64_t>> emits;
  std::string failure;
  bool dies = false;
};

Outcome FromHash(const Step& step, uint64_t hash) {
  Outcome out;
  if (OneIn(step.dies, hash >> 7)) {
    out.dies = true;
    return out;
  }
  if (OneIn(step.fail, hash >> 13)) {
    out.failure = "fails " + std::to_string(hash % 1000);
    return out;
  }
  for (uint32_t port = 0; port < step.out.size(); ++port) {
    const uint64_t mine = Mix(hash, port);
    const bool many = step.op == Op::kMany || (step.op == Op::kSource && step.many);
    const uint64_t times = many ? mine % 4 : OneIn(step.drop, mine >> 9) ? 0 : 1;
    for (uint64_t i = 0; i < times; ++i) out.emits.emplace_back(port, Small(Mix(mine, i)));
  }
  return out;
}

Outcome OfValues(const Step& step, const std::vector<std::optional<int64_t>>& values) {
  uint64_t hash = step.seed;
  for (const auto& value : values) hash = Mix(hash, value ? static_cast<uint64_t>(*value) : 77);
  return FromHash(step, hash);
}

uint64_t HashText(const std::string& text) {
  uint64_t hash = 5;
  for (char c : text) hash = Mix(hash, static_cast<uint8_t>(c));
  return hash;
}

// Loops: a value carries the turns that are left in its lowest three bits.
int64_t EnterLoop(const Step& step, int64_t value) {
  const uint64_t hash = Mix(step.seed, static_cast<uint64_t>(value));
  return Small(hash >> 8) * 8 + static_cast<int64_t>(hash % 5);
}
Outcome TurnOfLoop(const Step& step, int64_t value) {
  Outcome out;
  const uint64_t hash = Mix(step.seed + 1, static_cast<uint64_t>(value));
  if (OneIn(step.fail, hash)) {
    out.failure = "loop fails " + std::to_string(hash % 1000);
  } else if (!OneIn(step.drop, hash >> 20)) {
    out.emits.emplace_back(0, value - 1);
  }
  return out;
}

// --- The interpreter

std::string At(const std::string& message, const std::string& node) { return message + "@" + node; }

void AppendOutcome(const Step& step, const Outcome& outcome, uint64_t key, uint64_t group,
                   bool many, bool source, std::vector<Stream>* streams) {
  const std::string error = outcome.failure.empty() ? "" : At(outcome.failure, step.name);
  for (uint32_t port = 0; port < step.out.size(); ++port) {
    auto& places = (*streams)[static_cast<size_t>(step.out[port])].places;
    const auto add = [&](std::optional<int64_t> value) {
      places.push_back({many ? places.size() : key, group, value, value ? "" : error});
    };
    bool any = false;
    if (!error.empty()) {
      add(std::nullopt);
      any = true;
    }
    for (const auto& [p, value] : outcome.emits) {
      if (p != port) continue;
      add(value);
      any = true;
    }
    if (!any && !many && !(source && outcome.emits.empty())) add(std::nullopt);
  }
}

void Interpret(const Step& step, std::vector<Stream>* streams) {
  const auto fail = [](std::string text) {
    Outcome outcome;
    outcome.failure = std::move(text);
    return outcome;
  };
  // Passes a failure of an input on: it keeps the name of the node where it happened.
  const auto append = [&](const Outcome& outcome, uint64_t key, uint64_t group, bool many) {
    if (outcome.failure.find('@') == std::string::npos) {
      AppendOutcome(step, outcome, key, group, many, false, streams);
      return;
    }
    for (int out : step.out) {
      auto& places = (*streams)[static_cast<size_t>(out)].places;
      places.push_back({many ? places.size() : key, group, std::nullopt, outcome.failure});
    }
  };
  std::vector<const std::vector<Place>*> ins;
  for (int in : step.in) ins.push_back(&(*streams)[static_cast<size_t>(in)].places);
  std::string dead;  // what a node that failed for good answers

  switch (step.op) {
    case Op::kSource:
      for (int i = 0; i < step.calls; ++i) {
        const auto n = static_cast<uint64_t>(i);
        AppendOutcome(step, FromHash(step, Mix(step.seed, n)), n, n, step.many, true, streams);
      }
      break;
    case Op::kMap:
    case Op::kHandle:
    case Op::kMany:
    case Op::kJoin: {
      const bool many = step.op == Op::kMany;
      std::map<uint64_t, std::vector<const Place*>> rows;
      for (size_t i = 0; i < ins.size(); ++i) {
        for (const Place& place : *ins[i]) {
          auto& row = rows[place.key];
          row.resize(ins.size());
          row[i] = &place;
        }
      }
      // In the order of the stream: the first input's, which all of them share.
      std::vector<uint64_t> order;
      for (const Place& place : *ins[0]) order.push_back(place.key);
      for (uint64_t key : order) {
        std::vector<std::optional<int64_t>> values;
        std::optional<uint64_t> group;
        std::string error;
        bool missing = false;
        for (size_t i = 0; i < ins.size(); ++i) {
          const Place* place = rows[key][i];
          const bool there = place != nullptr && !place->absent();
          if (there && !group) group = place->group;
          if (!there && !step.optional[i]) missing = true;
          if (there && !place->error.empty() && error.empty()) error = place->error;
          values.push_back(there ? place->value : std::nullopt);
        }
        const bool handled = step.op == Op::kHandle && !error.empty();
        if (handled) values[0] = Small(HashText(error));
        Outcome outcome;
        if (!error.empty() && !handled) {
          outcome = fail(error);
        } else if (missing || !group) {
          // absent
        } else if (!dead.empty()) {
          outcome = fail(dead);
        } else {
          outcome = OfValues(step, values);
          if (outcome.dies) outcome = fail(dead = At("dead", step.name));
        }
        append(outcome, key, group.value_or(0), many);
      }
      break;
    }
    case Op::kMerge:
      for (const auto* in : ins) {
        for (const Place& place : *in) {
          if (place.absent()) continue;
          const uint64_t key = (*streams)[static_cast<size_t>(step.out[0])].places.size();
          append(place.value ? OfValues(step, {place.value}) : fail(place.error), key, place.group,
                 false);
        }
      }
      break;
    case Op::kBatch: {
      std::vector<const Place*> batch;
      uint64_t key = 0;
      const auto flush = [&] {
        if (batch.empty()) return;
        std::vector<std::optional<int64_t>> values;
        for (const Place* place : batch) values.push_back(place->value);
        append(OfValues(step, values), key++, batch[0]->group, false);
        batch.clear();
      };
      for (const Place& place : *ins[0]) {
        if (!place.error.empty()) {
          flush();
          append(fail(place.error), key++, place.group, false);
        } else if (place.value) {
          batch.push_back(&place);
          if (batch.size() == step.batch_max) flush();
        }
      }
      flush();
      break;
    }
    case Op::kLoop:
      for (const Place& place : *ins[0]) {
        if (place.absent()) continue;
        auto& places = (*streams)[static_cast<size_t>(step.out[0])].places;
        Place result{places.size(), place.group, std::nullopt, place.error};
        if (place.value) {
          int64_t value = EnterLoop(step, *place.value);
          bool gone = false;
          while (value % 8 != 0 && !gone) {
            const Outcome turn = TurnOfLoop(step, value);
            gone = turn.emits.empty();
            if (!gone) value = turn.emits[0].second;
            if (!turn.failure.empty()) result.error = At(turn.failure, step.name + "_body");
          }
          if (!gone) result.value = value / 8;
        }
        if (!result.absent()) places.push_back(result);
      }
      break;
  }
}

}  // namespace

bool operator==(const Place& a, const Place& b) {
  return a.key == b.key && a.group == b.group && a.value == b.value && a.error == b.error;
}
std::string ToText(const Place& place) {
  return std::to_string(place.key) + "/" + std::to_string(place.group) + "=" +
         (place.value ? std::to_string(*place.value) : place.error);
}

// --- Drawing

RandomPlan MakePlan(uint64_t seed) {
  std::mt19937_64 random(seed * 7919 + 1);
  const auto draw = [&](uint64_t n) { return random() % n; };
  const auto chance = [&](uint64_t percent) { return draw(100) < percent; };
  RandomPlan plan;
  const uint64_t executors = 1 + draw(3);
  for (uint64_t i = 0; i < executors; ++i) {
    plan.executors.push_back(
        {"e" + std::to_string(i), static_cast<uint32_t>(1 + draw(3)), chance(50)});
  }
  if (chance(40)) plan.max_in_flight = static_cast<uint32_t>(1 + draw(6));

  int domains = 0;
  const auto finish_step = [&](Step step, int outs, bool ordered, bool batched, int domain,
                               bool domain_each) {
    step.seed = random();
    step.executor = static_cast<uint32_t>(draw(executors));
    for (int i = 0; i < outs; ++i) {
      Stream stream;
      stream.domain = domain < 0 || domain_each ? domains++ : domain;
      if (domain < 0 && !domain_each) domain = stream.domain;
      stream.ordered = ordered;
      stream.batched = batched;
      step.out.push_back(static_cast<int>(plan.streams.size()));
      plan.streams.push_back(std::move(stream));
    }
    for (size_t i = 0; i < step.in.size(); ++i) {
      const uint32_t least = step.op == Op::kBatch ? step.batch_max : 1;
      step.capacity.push_back(least + static_cast<uint32_t>(draw(3)));
      step.optional.resize(step.in.size());
      if (step.op == Op::kJoin) step.optional[i] = chance(40);
      ++plan.streams[static_cast<size_t>(step.in[i])].consumers;
    }
    Interpret(step, &plan.streams);
    plan.steps.push_back(std::move(step));
  };

  const uint64_t sources = 1 + draw(3);
  for (uint64_t i = 0; i < sources; ++i) {
    Step step;
    step.op = Op::kSource;
    step.name = "source" + std::to_string(i);
    step.calls = static_cast<int>(draw(26));
    step.many = chance(20);
    step.drop = chance(40) ? 4 : 0;
    step.fail = chance(30) ? 9 : 0;
    step.defer = chance(20);
    const bool many = step.many;
    finish_step(std::move(step), 1 + static_cast<int>(draw(2)), true, false, -1, many);
  }
  const uint64_t steps = draw(9);
  for (uint64_t i = 0; i < steps; ++i) {
    Step step;
    const auto pick = [&] { return static_cast<int>(draw(plan.streams.size())); };
    const int first = pick();
    const Stream from = plan.streams[static_cast<size_t>(first)];
    step.in = {first};
    step.drop = chance(40) ? 3 : 0;
    step.fail = chance(30) ? 7 : 0;
    step.slow_us = chance(15) ? static_cast<int>(1 + draw(40)) : 0;
    step.defer = chance(20);
    if (chance(40)) step.max_in_flight = static_cast<uint32_t>(2 + draw(3));
    const bool small = from.places.size() < 150;
    const uint64_t kind = draw(100);
    int outs = 1 + static_cast<int>(draw(2));
    if (kind < 25) {
      step.op = Op::kMap;
      if (from.ordered && step.max_in_flight == 1 && chance(15)) step.dies = 8;
      finish_step(std::move(step), outs, from.ordered, from.batched, from.domain, false);
    } else if (kind < 50) {
      step.op = Op::kJoin;
      const uint64_t more = 1 + draw(2);
      bool batched = from.batched;
      for (uint64_t k = 0; k < more; ++k) {
        std::vector<int> same;
        for (size_t s = 0; s < plan.streams.size(); ++s) {
          if (plan.streams[s].domain == from.domain) same.push_back(static_cast<int>(s));
        }
        step.in.push_back(same[draw(same.size())]);
        batched |= plan.streams[static_cast<size_t>(step.in.back())].batched;
      }
      finish_step(std::move(step), outs, from.ordered, batched, from.domain, false);
    } else if (kind < 62 && small) {
      step.op = Op::kMany;
      finish_step(std::move(step), outs, from.ordered, from.batched, -1, true);
    } else if (kind < 74 && small) {
      step.op = Op::kMerge;
      const int other = pick();
      if (plan.streams[static_cast<size_t>(other)].places.size() < 150) step.in.push_back(other);
      const bool batched = from.batched || plan.streams[static_cast<size_t>(other)].batched;
      finish_step(std::move(step), outs, false, batched, -1, false);
    } else if (kind < 84 && from.ordered && plan.max_in_flight == 0) {
      step.op = Op::kBatch;
      step.batch_max = static_cast<uint32_t>(1 + draw(5));
      plan.batches = true;
      finish_step(std::move(step), outs, true, true, -1, false);
    } else if (kind < 92) {
      step.op = Op::kHandle;
      finish_step(std::move(step), outs, from.ordered, from.batched, from.domain, false);
    } else {
      step.op = Op::kLoop;
      finish_step(std::move(step), 1, false, from.batched, -1, false);
    }
    plan.steps.back().name = "node" + std::to_string(i);
    // The interpreter ran before the step had its name: once more, now that it has.
    for (int out : plan.steps.back().out) plan.streams[static_cast<size_t>(out)].places.clear();
    Interpret(plan.steps.back(), &plan.streams);
  }
  for (const Step& step : plan.steps) {
    for (int out : step.out) {
      Stream& stream = plan.streams[static_cast<size_t>(out)];
      stream.sink = step.op == Op::kLoop || chance(stream.consumers == 0 ? 90 : 30);
      stream.sink_errors = chance(50);
      stream.sink_capacity = static_cast<uint32_t>(1 + draw(4));
    }
  }
  for (const Step& step : plan.steps) {
    bool heard = false;
    for (int out : step.out) {
      const Stream& stream = plan.streams[static_cast<size_t>(out)];
      heard |= stream.sink || stream.consumers != 0;
      if (!stream.sink || stream.sink_errors) continue;
      for (const Place& place : stream.places) plan.failures += !place.error.empty();
    }
    if (heard) continue;
    const Stream& stream = plan.streams[static_cast<size_t>(step.out[0])];
    for (const Place& place : stream.places) plan.failures += !place.error.empty();
  }
  return plan;
}

// --- Building

namespace {

void Pause(const Step& step, uint64_t hash) {
  if (step.slow_us != 0 && hash % 4 == 0) {
    std::this_thread::sleep_for(std::chrono::microseconds(step.slow_us));
  }
}

// What a node that breaks its word keeps.
struct Held {
  bool full = false;
  int64_t value = 0;
  uint64_t group = 0;
  int emitted = 0;
};

Status Act(const Step& step, Completer* completer, Call call, Outcome outcome, uint64_t hash,
           bool finish) {
  Status failure;
  if (!outcome.failure.empty()) failure = Error(ENGINE_DATA_LOSS, outcome.failure);
  if (outcome.dies) {
    call.Fail(ENGINE_SCOPE_NODE, Error(ENGINE_UNAVAILABLE, "dead"));
    return Status();
  }
  if (!step.defer || hash % 3 == 0) {
    Pause(step, hash);
    if (finish) call.finish();
    for (const auto& [port, value] : outcome.emits) {
      ENGINE_RETURN_IF_ERROR(call.Emit(port, value));
    }
    return failure;
  }
  engine_completion* completion = call.Defer();
  engine_status* answer = failure.release();
  completer->Post([&step, completion, outcome = std::move(outcome), answer, hash, finish] {
    Pause(step, hash);
    if (finish) Call::Host()->completion_finish(completion);
    for (const auto& [port, value] : outcome.emits) {
      const Status emitted(
          Call::Host()->completion_emit(completion, port, NewNumber(value), kKeepGroup));
    }
    Call::Host()->completion_done(completion, answer);
  });
  if (hash % 5 == 0) std::this_thread::yield();
  return Status();
}

// What arrived on an ENGINE_PORT_ERRORS port as the interpreter writes it; empty: no failure.
std::string ErrorText(Call call) {
  const engine_error_payload* error = call.error(0);
  if (error == nullptr) return "";
  return At(std::string(View(error->message)), std::string(View(error->node)));
}

void AddLoop(const Step& step, Completer* completer, Graph* graph) {
  NodeSpec& head = graph->Add(step.name, 2, 2, [&step](Call call) {
    const int64_t value = call.has(1) ? call.in(1) : EnterLoop(step, call.in(0));
    return value % 8 == 0 ? call.Emit(0, value / 8) : call.Emit(1, value);
  });
  head.policy = abi::Policy::kAny;
  head.emission = step.seed % 2 == 0 ? abi::Emission::kMany : abi::Emission::kOne;
  head.executor = step.executor;
  NodeSpec& body = graph->Add(step.name + "_body", 1, 1, [&step, completer](Call call) {
    Outcome outcome = TurnOfLoop(step, call.in());
    return Act(step, completer, call, std::move(outcome), Mix(step.seed, call.key()), false);
  });
  body.executor = step.executor;
  body.max_in_flight = step.max_in_flight;
}

void AddStep(const Step& step, Completer* completer, Graph* graph) {
  const auto inputs = static_cast<uint32_t>(step.in.size());
  const auto outputs = static_cast<uint32_t>(step.out.size());
  if (step.op == Op::kLoop) {
    AddLoop(step, completer, graph);
    return;
  }
  if (step.op == Op::kSource) {
    NodeSpec& node = graph->Add(
        step.name, 0, outputs, [&step, completer, n = uint64_t{0}](Call call) mutable -> Status {
          if (step.calls == 0) {
            call.finish();
            return Status();
          }
          const uint64_t hash = Mix(step.seed, n);
          const bool last = ++n == static_cast<uint64_t>(step.calls);
          return Act(step, completer, call, FromHash(step, hash), hash, last);
        });
    node.emission = step.many ? abi::Emission::kMany : abi::Emission::kOne;
    node.executor = step.executor;
    return;
  }
  auto held = std::make_shared<Held>();
  NodeSpec& node =
      graph->Add(step.name, inputs, outputs, [&step, completer, held](Call call) -> Status {
        std::vector<std::optional<int64_t>> values;
        if (step.op == Op::kBatch) {
          for (uint32_t i = 0; i < call.count(0); ++i) values.emplace_back(call.in(0, i));
        } else if (step.op == Op::kHandle && !ErrorText(call).empty()) {
          values.emplace_back(Small(HashText(ErrorText(call))));
        } else if (step.op == Op::kMerge) {
          values.emplace_back(call.in(call.has(0) ? 0 : 1));
        } else {
          for (uint32_t i = 0; i < step.in.size(); ++i) {
            values.push_back(call.has(i) ? std::optional(call.in(i)) : std::nullopt);
          }
        }
        Outcome outcome = OfValues(step, values);
        if (step.sabotage != Sabotage::kNone && !outcome.emits.empty()) {
          if (step.sabotage == Sabotage::kLose && held->emitted++ == 3) outcome.emits.clear();
          if (step.sabotage == Sabotage::kAlter && held->emitted++ == 3) ++outcome.emits[0].second;
          if (step.sabotage == Sabotage::kReorder) {
            // Each result leaves behind the one after it, as if calls were committed as they end.
            const Held before = *held;
            *held = {true, outcome.emits[0].second, call.group(), 0};
            if (!before.full) return Status();
            ENGINE_RETURN_IF_ERROR(call.Emit(0, held->value, held->group));
            held->full = false;
            return call.Emit(0, before.value, before.group);
          }
        }
        return Act(step, completer, call, std::move(outcome),
                   Mix(step.seed, static_cast<uint64_t>(values[0].value_or(3))), false);
      });
  node.executor = step.executor;
  node.max_in_flight = step.max_in_flight;
  if (step.op == Op::kMany) node.emission = abi::Emission::kMany;
  if (step.op == Op::kMerge) node.policy = abi::Policy::kAny;
  if (step.op == Op::kHandle) node.inputs[0].errors = true;
  if (step.op == Op::kBatch) {
    node.policy = abi::Policy::kBatch;
    node.batch_max = step.batch_max;
    node.batch_wait_ns = 3'600'000'000'000;
  }
  for (uint32_t i = 0; i < inputs; ++i) node.inputs[i].optional = step.optional[i];
}

}  // namespace

void BuildGraph(const RandomPlan& plan, Completer* completer, Arrived* arrived, Graph* graph) {
  graph->executors = plan.executors;
  graph->max_in_flight = plan.max_in_flight;
  arrived->places.resize(plan.streams.size());
  std::vector<std::string> from(plan.streams.size());
  for (const Step& step : plan.steps) {
    AddStep(step, completer, graph);
    for (size_t i = 0; i < step.in.size(); ++i) {
      graph->Connect(from[static_cast<size_t>(step.in[i])], step.name + ":" + std::to_string(i),
                     step.capacity[i]);
    }
    for (size_t i = 0; i < step.out.size(); ++i) {
      from[static_cast<size_t>(step.out[i])] = step.name + ":" + std::to_string(i);
    }
    if (step.op == Op::kLoop) {
      // Room for all that may go round at once: a loop with less could fill and never move.
      const auto room =
          static_cast<uint32_t>(plan.streams[static_cast<size_t>(step.in[0])].places.size() + 4);
      graph->Connect(step.name + ":1", step.name + "_body", 2);
      graph->Connect(step.name + "_body", step.name + ":1", room).feedback = true;
    }
  }
  for (size_t s = 0; s < plan.streams.size(); ++s) {
    const Stream& stream = plan.streams[s];
    if (!stream.sink) continue;
    const std::string name = "sink" + std::to_string(s);
    NodeSpec& sink = graph->Add(name, 1, 0, [arrived, s](Call call) {
      Place place{call.key(), call.group(), std::nullopt, ErrorText(call)};
      if (place.error.empty()) place.value = call.in();
      std::lock_guard lock(arrived->mutex);
      arrived->places[s].push_back(std::move(place));
      return Status();
    });
    sink.inputs[0].errors = stream.sink_errors;
    graph->Connect(from[s], name, stream.sink_capacity);
  }
}

std::string Difference(const RandomPlan& plan, const Arrived& arrived, bool partial) {
  const auto less = [](const Place& a, const Place& b) {
    return std::tie(a.group, a.value, a.error) < std::tie(b.group, b.value, b.error);
  };
  for (size_t s = 0; s < plan.streams.size(); ++s) {
    const Stream& stream = plan.streams[s];
    if (!stream.sink) continue;
    std::vector<Place> expected, got = arrived.places[s];
    for (const Place& place : stream.places) {
      if (place.value || (!place.error.empty() && stream.sink_errors)) expected.push_back(place);
    }
    const std::string where = "stream " + std::to_string(s) + ": ";
    if (got.size() > expected.size() || (!partial && got.size() != expected.size())) {
      return where + std::to_string(got.size()) + " packets instead of " +
             std::to_string(expected.size());
    }
    if (stream.ordered) {
      for (size_t i = 0; i < got.size(); ++i) {
        if (!(got[i] == expected[i])) {
          return where + ToText(got[i]) + " instead of " + ToText(expected[i]);
        }
      }
      continue;
    }
    // Whatever the order: the numbering of one stream still only rises.
    for (size_t i = 1; i < got.size(); ++i) {
      if (got[i].key <= got[i - 1].key) return where + ToText(got[i]) + " after a later key";
    }
    std::sort(expected.begin(), expected.end(), less);
    std::sort(got.begin(), got.end(), less);
    if (!std::includes(expected.begin(), expected.end(), got.begin(), got.end(), less)) {
      return where + "packets that should not be there";
    }
  }
  return "";
}

}  // namespace engine::runtime::testing
