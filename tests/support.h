// What tests that cross folders share: models and chains from pipeline text, a small model on disk.
#ifndef TESTS_SUPPORT_H_
#define TESTS_SUPPORT_H_

#include <memory>
#include <string>
#include <vector>

#include "engine/graph/graph.h"
#include "engine/model/maker.h"
#include "engine/model/model.h"
#include "engine/runtime/pipeline.h"

namespace engine::tests {

// The registry with the plugins of the build.
abi::Registry& BuiltPlugins();

// Resources of a pipeline text, made in this process and alive as long as this object.
class Chain {
 public:
  // `text` holds resource blocks. Errors of the text or of making end up in status().
  explicit Chain(const std::string& text);
  const Status& status() const { return status_; }
  // Diagnostics of the text, rendered.
  const std::string& diagnostics() const { return diagnostics_; }
  model::Model& At(const std::string& resource);

 private:
  graph::Plan plan_;
  std::string diagnostics_;
  std::vector<runtime::ResourceSlot> slots_;
  Status status_;
};

// Runs a whole pipeline text to its end in this process.
Status RunPipeline(const std::string& text);

// A folder of the test, removed at the end.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  std::string Path(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Writes a Llama of 4 blocks, hidden 64, 4 query and 2 KV heads of 16, MLP 96, 320 tokens, with
// seeded random weights, as a Hugging Face folder.
void WriteToyModel(const std::string& folder);

// The real model of the tests.
std::string RealModel();

std::string ReadFile(const std::string& path);

// A sequence that shares nothing.
uint64_t OpenSequence(const engine_kv_pool* pool);

// Greedy tokens through Step, with the KV store when the model has one.
struct Greedy {
  std::vector<int32_t> ids;
  std::vector<float> margins;
  std::vector<std::vector<float>> logits;  // of every token
};
Greedy Generate(model::Model* model, std::vector<int32_t> prompt, int count, int chunk = 1 << 20);

}  // namespace engine::tests

#endif  // TESTS_SUPPORT_H_
