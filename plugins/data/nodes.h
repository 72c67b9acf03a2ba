// The kinds of this plugin: dataset gives the examples of a file as batches, data_check tells what
// dataset would make of it.
#ifndef PLUGINS_DATA_NODES_H_
#define PLUGINS_DATA_NODES_H_

#include <cstdint>
#include <optional>
#include <string>

#include "engine/node.hpp"
#include "feed.h"
#include "options.engine.hpp"
#include "reader.h"
#include "report.h"

namespace engine::data {

struct Dataset : Node {
  ENGINE_NODE(
      "dataset",
      "Gives the examples of a file into the graph as batches of tokens and labels, to train "
      "on or to evaluate.",
      .executor = "io")
  ENGINE_OPTIONS(DatasetOptions)
  Out<engine_train_batch> out{this, {.name = "BATCH", .doc = "One microbatch after the other."}};
  UseModel model{this,
                 ENGINE_TYPE_MODEL,
                 {.name = "MODEL", .doc = "Whose tokenizer and chat format are used."}};

  Status Open(Call& call) override;
  Status Process(Call& call) override;
  Status Close(Call&) override;

 private:
  Reader reader_;
  std::optional<Feed> feed_;
  uint64_t position_ = 0;
};

struct DataCheck : Node {
  ENGINE_NODE("data_check",
              "Reads a file as dataset would, and tells what is in it, what of it would count, and "
              "what is wrong with it. Bad examples, or none of use, fail the run.",
              .executor = "io")
  ENGINE_OPTIONS(DataCheckOptions)
  UseModel model{this,
                 ENGINE_TYPE_MODEL,
                 {.name = "MODEL", .doc = "Whose tokenizer and chat format are used."}};

  Status Process(Call& call) override;

 private:
  Status Begin(Call& call);
  Status Look(uint64_t i);
  Status Write(const std::string& text) const;

  bool open_ = false;
  Reader reader_;
  uint64_t next_ = 0;
  Report report_;
};

}  // namespace engine::data

#endif  // PLUGINS_DATA_NODES_H_
