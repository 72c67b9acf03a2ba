// What compiling and matching may cost. Texts come from anybody who can send a request, so every
// loop over one spends from a budget, and every structure made from one has a bound.
#ifndef PLUGINS_GUIDED_BUDGET_H_
#define PLUGINS_GUIDED_BUDGET_H_

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace engine::guided {

struct Limits {
  size_t text_bytes = size_t{256} << 10;    // of a schema, a regular expression, a list of tools
  uint32_t text_depth = 64;                 // brackets within brackets in it
  uint32_t members = 4096;                  // of one object in it
  uint32_t elements = 10'000;               // of one list in it, enums among them
  uint32_t repeat = 100'000;                // the largest bound of a repetition
  uint32_t nodes = 1u << 19;                // of the syntax tree
  uint32_t instructions = 1u << 19;         // of the program
  uint32_t automaton = 1u << 16;            // states of an intersection
  uint32_t nesting = 64;                    // open brackets in what is generated
  uint32_t configurations = 2048;           // of one state; further ones are not followed
  size_t state_bytes = size_t{16} << 20;    // of states remembered by one guide
  size_t mask_bytes = size_t{16} << 20;     // of masks remembered by one guide
  uint32_t streams = 1024;                  // remembered by one guide
  uint64_t work = 100'000'000;              // configurations looked at for one mask
  std::chrono::milliseconds compile{2000};  // of one compilation
};

// Counts steps and looks at the clock now and then. Once it is over it stays over.
class Budget {
 public:
  explicit Budget(std::chrono::milliseconds time) : end_(std::chrono::steady_clock::now() + time) {}

  // False when the time is over.
  bool Spend(uint32_t steps = 1) {
    steps_ += steps;
    if (steps_ >= 4096) {
      steps_ = 0;
      over_ = over_ || std::chrono::steady_clock::now() > end_;
    }
    return !over_;
  }
  bool over() const { return over_; }

 private:
  const std::chrono::steady_clock::time_point end_;
  uint32_t steps_ = 0;
  bool over_ = false;
};

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_BUDGET_H_
