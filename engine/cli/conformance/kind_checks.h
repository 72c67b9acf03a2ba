// What is tried with the kinds of a plugin, in a child process. Each function tells one line or
// more to its reporter.
#ifndef ENGINE_CLI_CONFORMANCE_KIND_CHECKS_H_
#define ENGINE_CLI_CONFORMANCE_KIND_CHECKS_H_

#include "engine/cli/conformance/random_options.h"
#include "engine/cli/conformance/stage.h"
#include "engine/cli/conformance/workbench.h"

namespace engine::conformance {

struct Subject {
  Workbench* bench;
  const abi::Kind* kind;
  Reporter* report;
  const CheckOptions* options;

  RandomOptions Random() const;  // the same sequence each time
};

// An instance of any role, made from the wire bytes of its options.
class Instance {
 public:
  Instance(const Subject& subject, std::string_view options);
  ~Instance();
  Instance(const Instance&) = delete;
  const Status& status() const { return status_; }
  void* self() const { return self_; }

 private:
  Status status_;
  void* self_ = nullptr;
  void (*destroy_)(void*) = nullptr;
};

// Of the plugin: extension() and describe() answer the same twice.
void CheckDescriptions(Workbench* bench, Reporter* report);

void CheckCreate(const Subject& subject);  // create, destroy, twice; nothing is left in memory
void CheckRandomOptions(const Subject& subject);  // random valid options
void CheckWire(const Subject& subject);           // bytes that are no options
void CheckPackets(const Subject& subject);        // of a node: made-up packets
void CheckCancel(const Subject& subject);         // of a node
void CheckState(const Subject& subject);          // engine.state/1, where it is offered
void CheckTransform(const Subject& subject);      // on a small random model

}  // namespace engine::conformance

#endif  // ENGINE_CLI_CONFORMANCE_KIND_CHECKS_H_
