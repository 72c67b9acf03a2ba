#include "tests/support.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "engine/cli/conformance/small_model.h"
#include "engine/model/autograd.h"
#include "engine/model/extensions.h"
#include "engine/model/formats/test_model.h"
#include "engine/model/host_services.h"

namespace engine::tests {

abi::Registry& BuiltPlugins() {
  static abi::Registry* registry = [] {
    model::RegisterServices();
    auto* made = new abi::Registry;
    model::AddBuiltinKinds(made);
    made->LoadFolder(ENGINE_BINARY_DIR "/lib/engine/plugins");
    return made;
  }();
  return *registry;
}

Chain::Chain(const std::string& text) {
  std::vector<graph::Diagnostic> diagnostics;
  const bool good = graph::LoadPipeline({.path = "test.pbtxt", .text = text, .need_nodes = false},
                                        BuiltPlugins().index(), {}, &plan_, &diagnostics);
  diagnostics_ = graph::Render(diagnostics);
  if (!good) {
    status_ = Status(ENGINE_INVALID_ARGUMENT, diagnostics_);
    return;
  }
  model::Maker maker(BuiltPlugins());
  for (const graph::PlanResource& resource : plan_.resources) {
    status_ = runtime::AddResource(BuiltPlugins(), resource, &maker, &slots_);
    if (status_.ok()) continue;
    slots_.pop_back();
    return;
  }
}

model::Model& Chain::At(const std::string& resource) {
  for (size_t i = 0; i < plan_.resources.size(); ++i) {
    if (plan_.resources[i].name == resource) return *model::ModelOf(slots_.at(i));
  }
  throw std::runtime_error("no resource is named " + resource + ": " +
                           std::string(status_.message()));
}

Status RunPipeline(const std::string& text) {
  graph::Plan plan;
  std::vector<graph::Diagnostic> diagnostics;
  if (!graph::LoadPipeline({.path = "test.pbtxt", .text = text}, BuiltPlugins().index(), {}, &plan,
                           &diagnostics)) {
    return Status(ENGINE_INVALID_ARGUMENT, graph::Render(diagnostics));
  }
  const auto thread_state = model::CaptureThreadState();
  runtime::RunOptions options;
  options.thread_state = thread_state.get();
  model::Maker maker(BuiltPlugins());
  std::unique_ptr<runtime::Pipeline> pipeline;
  ENGINE_RETURN_IF_ERROR(runtime::Pipeline::Make(plan, BuiltPlugins(), &maker, options, &pipeline));
  ENGINE_RETURN_IF_ERROR(pipeline->run().Open());
  pipeline->run().Start();
  return pipeline->run().Wait();
}

TempFolder::TempFolder() {
  std::string pattern = testing::TempDir() + "engine_test_XXXXXX";
  path_ = mkdtemp(pattern.data());
}
TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void WriteToyModel(const std::string& folder) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 0.08f);
  const Status status = conformance::WriteSmallModel(
      folder, {.blocks = 4}, [&](const std::string&, bool norm, std::vector<float>* values) {
        for (float& x : *values) x = norm ? 1.0f + normal(random) : normal(random);
      });
  ASSERT_TRUE(status.ok()) << status.message();
}

std::string RealModel() { return model::TestModelPath(); }

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

uint64_t OpenSequence(const engine_kv_pool* pool) {
  const int32_t token = 0;
  engine_kv_open open = Sized<engine_kv_open>();
  open.flags = ENGINE_KV_OPEN_NO_SHARING;
  open.tokens = &token;
  open.token_count = 1;
  engine_kv_match match = Sized<engine_kv_match>();
  uint64_t sequence = 0;
  const Status status(pool->sequence_open(pool->self, &open, &sequence, &match));
  if (!status.ok()) throw std::runtime_error(std::string(status.message()));
  return sequence;
}

Greedy Generate(model::Model* model, std::vector<int32_t> prompt, int count, int chunk) {
  const engine_kv_pool* kv = model::PoolOf(*model);
  Greedy result;
  std::vector<int32_t> tokens = std::move(prompt);
  size_t done = 0;
  uint64_t sequence = 0;
  const auto good = [](engine_status* s) {
    const Status status(s);
    if (!status.ok()) throw std::runtime_error(std::string(status.message()));
  };
  if (kv != nullptr) sequence = OpenSequence(kv);
  std::vector<float> logits(static_cast<size_t>(model->config().vocab));
  while (static_cast<int>(result.ids.size()) < count) {
    engine_step_sequence s = Sized<engine_step_sequence>();
    s.request = 1;
    size_t end = tokens.size();
    if (kv != nullptr) {
      end = std::min(end, done + static_cast<size_t>(chunk));
      good(kv->sequence_reserve(kv->self, sequence, end));
      good(kv->sequence_blocks(kv->self, sequence, &s.blocks, &s.block_count));
      s.start = static_cast<uint32_t>(done);
    }
    s.tokens = tokens.data() + s.start;
    s.token_count = static_cast<uint32_t>(end - s.start);
    s.logits_count = 1;
    const engine_step step = {sizeof(engine_step), 1, &s};
    const Status status = model->Step(step, logits.data());
    if (!status.ok()) throw std::runtime_error(std::string(status.message()));
    if (kv != nullptr) good(kv->sequence_written(kv->self, sequence, s.tokens, end));
    done = end;
    if (end < tokens.size()) continue;
    const auto best = std::max_element(logits.begin(), logits.end());
    float second = -INFINITY;
    for (auto it = logits.begin(); it != logits.end(); ++it) {
      if (it != best) second = std::max(second, *it);
    }
    result.ids.push_back(static_cast<int32_t>(best - logits.begin()));
    result.margins.push_back(*best - second);
    result.logits.push_back(logits);
    tokens.push_back(result.ids.back());
  }
  if (kv != nullptr) good(kv->sequence_close(kv->self, sequence, 0));
  return result;
}

}  // namespace engine::tests
