// What tests of named adapters share: chains of two over a small model, and training them.
#ifndef TESTS_ADAPTER_CHAINS_H_
#define TESTS_ADAPTER_CHAINS_H_

#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support.h"
#include "tests/trained.h"

namespace engine::tests {

inline const std::vector<std::string> kNames = {"", "tone", "law"};  // by number

inline std::string Named(const std::string& options, const std::string& name) {
  return "lora { " + options + " name: \"" + name + "\" }";
}

inline std::unique_ptr<Chain> Made(const std::string& text) {
  auto chain = std::make_unique<Chain>(text);
  if (!chain->status().ok()) throw std::runtime_error(std::string(chain->status().message()));
  return chain;
}

class AdapterChains : public testing::Test {
 protected:
  AdapterChains() { WriteToyModel(Path("toy")); }
  std::string Path(const std::string& name) const { return folder_.Path(name); }
  std::string Both(const std::string& first, const std::string& second,
                   const std::string& load = "") const {
    return Base(Path("toy"), load) + On("first", "base", first) + On("second", "first", second);
  }
  // Trains all that `chain` ends in ("second") for two steps, into the folder `name`.
  Status Train(const std::string& chain, const std::string& name) const {
    return RunPipeline(chain +
                       "node { name: \"data\" dataset { path: \"" ENGINE_SOURCE_DIR
                       "/LICENSE\" shape: TEXT shuffle: false epochs: 0 sequence: 48 batch: 2 } "
                       "use: \"second\" out: \"batches\" }\n"
                       "node { name: \"train\" trainer { lr: 3e-2 steps: 2 out: \"" +
                       Path(name) +
                       "\" } in: \"batches\" use: \"second\" out: \"steps\" }\n"
                       "node { name: \"log\" train_log { path: \"" +
                       Path(name + ".jsonl") + "\" } in: \"steps\" }\n");
  }

 private:
  TempFolder folder_;
};

}  // namespace engine::tests

#endif  // TESTS_ADAPTER_CHAINS_H_
