// Random legal graphs and what they must answer. A plan is drawn from a seed, step by step,
// together with the packets of each of its streams as a sequential interpreter finds them: the
// interpreter knows the rules of the SDK's header and nothing of the runtime.
#ifndef ENGINE_RUNTIME_TESTING_RANDOM_PLAN_H_
#define ENGINE_RUNTIME_TESTING_RANDOM_PLAN_H_

#include <optional>
#include <random>
#include <string>
#include <vector>

#include "engine/runtime/testing/kit.h"

namespace engine::runtime::testing {

// A settled place of a stream.
struct Place {
  uint64_t key = 0;
  uint64_t group = 0;
  std::optional<int64_t> value;
  std::string error;  // "message@node"; with neither, the key is absent
  bool absent() const { return !value && error.empty(); }
};
bool operator==(const Place& a, const Place& b);
std::string ToText(const Place& place);

enum class Op { kSource, kMap, kJoin, kMany, kMerge, kBatch, kHandle, kLoop };
enum class Sabotage { kNone, kLose, kReorder, kAlter };

struct Step {
  Op op = Op::kMap;
  std::string name;
  uint64_t seed = 0;
  std::vector<int> in, out;  // streams
  std::vector<bool> optional;
  std::vector<uint32_t> capacity;  // of each input
  int calls = 0;                   // sources
  uint32_t drop = 0, fail = 0;     // one in so many; 0: never
  uint32_t dies = 0;               // the node fails for good at one value in so many
  uint32_t batch_max = 1;
  bool many = false;  // sources
  uint32_t max_in_flight = 1, executor = 0;
  int slow_us = 0;
  bool defer = false;
  Sabotage sabotage = Sabotage::kNone;
};

struct Stream {
  int domain = 0;       // only streams of one numbering are joined
  bool ordered = true;  // the interpreter knows the order, and not only which packets there are
  bool batched = false;
  std::vector<Place> places;
  int consumers = 0;
  bool sink = false, sink_errors = false;
  uint32_t sink_capacity = 2;
};

struct RandomPlan {
  std::vector<Step> steps;
  std::vector<Stream> streams;
  std::vector<ExecutorSpec> executors;
  uint32_t max_in_flight = 0;
  bool batches = false;
  uint64_t failures = 0;  // that nobody handles
};

RandomPlan MakePlan(uint64_t seed);

// What arrived at the sinks, by stream.
struct Arrived {
  std::mutex mutex;
  std::vector<std::vector<Place>> places;  // guarded by mutex
};
void BuildGraph(const RandomPlan& plan, Completer* completer, Arrived* arrived, Graph* graph);

// Empty when what arrived is what the interpreter says, or with `partial` a beginning of it; else
// the first difference.
std::string Difference(const RandomPlan& plan, const Arrived& arrived, bool partial);

}  // namespace engine::runtime::testing

#endif  // ENGINE_RUNTIME_TESTING_RANDOM_PLAN_H_
