// From texts to messages. Owns every text of a load; reads the main file and its imports, composes
// the schema with the subgraphs they define, and parses each with protobuf's own text parser. What
// is wrong with a field is reported and the field left out, so that one reading finds all errors;
// only broken syntax ends the reading of a file.
#ifndef ENGINE_GRAPH_READER_H_
#define ENGINE_GRAPH_READER_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/graph/block.h"
#include "engine/graph/schema.h"
#include "engine/graph/source.h"

namespace engine::graph {

class Reporter;

// The text of a file, or nothing and a reason. A seam for tests.
using FileSource =
    std::function<std::optional<std::string>(const std::string& path, std::string* reason)>;
// Reads the disk; refuses files greater than kMaxFileBytes and what is no file.
FileSource DiskFiles();

inline constexpr size_t kMaxFileBytes = 4u << 20;
inline constexpr size_t kMaxFiles = 256;

struct ReadFile {
  std::string path;
  std::unique_ptr<SourceFile> source;
  std::unique_ptr<OutlineBlock> outline;
  std::unique_ptr<google::protobuf::Message> message;  // a Pipeline
  bool whole = false;                                  // its syntax is good

  Block block() const { return {message.get(), outline.get(), {source.get(), 0, 0}}; }
};

// The main file is the first. Members go in reverse order: messages before their schema.
struct Reading {
  std::unique_ptr<Schema> schema;
  std::vector<std::unique_ptr<ReadFile>> files;
};

// REQUIRES: `index` outlives the reading. False when there is nothing to check at all: the file is
// missing, its syntax broken, or the schemas do not compose; then an error is reported.
bool ReadPipeline(const std::string& path, const FileSource& files, const abi::KindIndex& index,
                  Reading* reading, Reporter* reporter);

// Reports every field of the block that does not fit the message, and marks it bad.
void CheckFields(const Schema& schema, const google::protobuf::Descriptor& message,
                 OutlineBlock* block, Reporter* reporter);

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_READER_H_
