// What schema.cc and schema_export.cc share; for them alone.
#ifndef ENGINE_GRAPH_SCHEMA_PARTS_H_
#define ENGINE_GRAPH_SCHEMA_PARTS_H_

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>

#include "engine/graph/schema.h"

namespace engine::graph {

struct Schema::Impl {
  const abi::KindIndex* index = nullptr;
  std::vector<SubgraphKind> subgraphs;
  std::vector<google::protobuf::FileDescriptorProto> plugin_files;  // under their names in the pool
  google::protobuf::FileDescriptorProto composed;
  google::protobuf::DescriptorPool pool;
  // After the pool: its messages must go before their descriptors.
  mutable google::protobuf::DynamicMessageFactory factory;
  const google::protobuf::Descriptor* pipeline = nullptr;
  const google::protobuf::Descriptor* node = nullptr;
  const google::protobuf::Descriptor* resource = nullptr;
};

std::string ExportSchema(const Schema::Impl& impl);

// Begins a schema: all files of the base but pipeline.proto itself, which becomes `composed`.
Status AddBase(Schema::Impl* impl);
// Adds the files of a plugin's schema to the pool.
Status AddPlugin(const abi::Plugin& plugin, Schema::Impl* impl);

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_SCHEMA_PARTS_H_
