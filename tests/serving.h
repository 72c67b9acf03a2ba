// Sequences through a model's steps and its KV pool, as whoever serves runs them: opened, fed in
// pieces beside others, drafted for, cut, forked, closed, kept in sessions. Calls that a full pool
// may refuse return a Status; errors of the others throw.
#ifndef TESTS_SERVING_H_
#define TESTS_SERVING_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/model/model.h"
#include "tests/small_model.h"

namespace engine::tests {

// The formats that weights are computed in, and how a chain on the small model asks for them.
struct WeightFormat {
  const char* name;
  Stored stored;
  const char* load;  // options of `load`
  const char* int8;  // options of `int8`; null: none
};
std::span<const WeightFormat> WeightFormats();
const WeightFormat& FormatNamed(const std::string& name);
inline constexpr const char* kKvFormats[] = {"F32", "F16", "INT8"};

// Resources "base", perhaps "small", and "kv" with these options.
std::string ChainText(const std::string& path, const WeightFormat& format, const std::string& kv);

// Throws what is wrong.
void Must(const Status& status);

// A road for as long as this lives. REQUIRES: no model packed before is used meanwhile.
class Road {
 public:
  explicit Road(const std::string& name);
  ~Road();
  // False where the machine lacks it.
  bool there() const { return there_; }

 private:
  std::string before_;
  bool there_ = false;
};

// Where two lists of logits differ first, by their bits; empty when nowhere. `vocab` floats a row.
std::string FirstDifference(std::span<const float> want, std::span<const float> got, int64_t vocab);
// Greatest difference, as a share of the greatest logit in `want`.
double MostDifference(std::span<const float> want, std::span<const float> got);

// How a sequence is opened.
struct Opening {
  bool share = true;
  std::string session = {}, salt = {};
  uint32_t adapter = 0;
};

class Serving {
 public:
  using How = Opening;
  struct Sequence {
    std::vector<int32_t> tokens;  // all that is known of it
    How how;
    uint64_t id = 0;                  // in the pool; 0: not open
    uint32_t done = 0;                // positions computed
    uint32_t cached = 0, reason = 0;  // of the last opening
  };
  // What a sequence takes part in a step with: `count` tokens, then drafts; logits of the last
  // `logits` of both. Of what was fed, `told` are told to the pool: the rest is in the pages, and
  // is written over later.
  struct Part {
    Sequence* sequence;
    uint32_t count;
    uint32_t logits;
    std::vector<int32_t> drafts = {};
    uint32_t told = UINT32_MAX;
  };

  // REQUIRES: the model keeps keys and values and outlives this.
  explicit Serving(model::Model* model);
  int64_t vocab() const { return model_->config().vocab; }
  const engine_kv_pool* pool() const { return pool_; }

  Sequence Open(std::vector<int32_t> tokens, const How& how = {});
  // Opens a closed one again, with whatever is still there of it.
  Status Reopen(Sequence* s);
  // Room for `count` more positions.
  Status Reserve(Sequence* s, uint32_t count);
  // Logits [rows][vocab], in the order of the parts. What was told counts as done, drafts too.
  std::vector<float> Step(std::span<const Part> parts);
  // Forgets positions from `done` on.
  void Cut(Sequence* s, uint32_t done);
  Status Fork(const Sequence& s, Sequence* copy);
  void Close(Sequence* s);
  // Closes it too; its session keeps what is done, or where there is no room what it had before.
  Status Keep(Sequence* s);
  Status SaveSession(const How& how, const std::string& path);
  Status RestoreSession(const How& how, const std::string& path);
  Status DropSession(const How& how);
  engine_kv_stats Stats() const;

  // Logits after each token from `first` on, of the tokens alone in one step.
  std::vector<float> Alone(const std::vector<int32_t>& tokens, uint32_t first = 0,
                           uint32_t adapter = 0);

 private:
  model::Model* const model_;
  const engine_kv_pool* const pool_;
};

}  // namespace engine::tests

#endif  // TESTS_SERVING_H_
