// One plugin opened in this process on the SDK's test host, beside the shipped plugins and a small
// random model: where its kinds are tried. Nodes get the tables of engine/testing/host.hpp, which
// watch; all that has to do with models is the engine's own.
#ifndef ENGINE_CLI_CONFORMANCE_WORKBENCH_H_
#define ENGINE_CLI_CONFORMANCE_WORKBENCH_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/cli/conformance/small_model.h"
#include "engine/graph/schema.h"
#include "engine/model/maker.h"
#include "engine/testing/node.hpp"

namespace engine::conformance {

class Workbench {
 public:
  // REQUIRES: the only one of this process, which registered no services before. `folder` is
  // empty and for what is tried to write to.
  static Status Open(const std::string& plugin, const std::string& folder,
                     std::unique_ptr<Workbench>* out);

  testing::TestPlugin& plugin() { return *plugin_; }
  const std::string& id() const { return id_; }
  const abi::Registry& registry() const { return registry_; }
  const graph::Schema& schema() const { return *schema_; }
  const std::string& folder() const { return folder_; }
  // The kinds of the plugin.
  std::vector<const abi::Kind*> Kinds() const;

  // A model of resources `text`, in which "@MODEL@" stands for the path of a small model of that
  // size; the last resource is the answer. Errors of the text are statuses that show its place.
  Status MakeModel(const std::string& text, const SmallModelSize& size,
                   std::vector<runtime::ResourceSlot>* slots);

 private:
  explicit Workbench(std::string folder) : folder_(std::move(folder)) {}
  std::string folder_, id_;
  abi::Registry registry_;
  std::unique_ptr<testing::TestPlugin> plugin_;
  std::unique_ptr<graph::Schema> schema_;
  int models_ = 0;
};

// What the model of a chain does on a few tokens.
struct Probe {
  std::vector<std::string> sites;  // that the last transform replaced
  std::vector<float> logits;
  struct Trained {
    std::string name;
    double norm = 0;  // of its gradient; not finite where that is
    bool there = false;
  };
  std::vector<Trained> trained;
};
// With `gradients`, also backward from a loss.
Status ProbeModel(model::Model* model, const std::string& last_transform, bool gradients,
                  Probe* out);

}  // namespace engine::conformance

#endif  // ENGINE_CLI_CONFORMANCE_WORKBENCH_H_
