// Writing a resource: a kind that makes one object for the nodes of a pipeline to share.
//
//   struct Words : engine::Resource {
//     ENGINE_RESOURCE("words", "A list of words from a file.", "acme.Words/1")
//     ENGINE_OPTIONS(WordsOptions)
//     engine::Status Make() override { ... }
//     void* Object() override { return &table_; }
//   };
//
// A node reaches it by engine::Use<Table> table{this, "acme.Words/1", {.name = "WORDS"}}.
#ifndef ENGINE_RESOURCE_HPP_
#define ENGINE_RESOURCE_HPP_

#include <string>
#include <string_view>

#include "engine/ext/resources.h"
#include "engine/host.hpp"

namespace engine {

struct ResourceInfo {
  std::string_view name = {}, doc = {};
  std::string_view provides = {};  // type id of the object: "acme.Words/1"
};

class Resource {
 public:
  virtual ~Resource() = default;
  Resource() = default;
  Resource(const Resource&) = delete;
  Resource& operator=(const Resource&) = delete;

  virtual const ResourceInfo& Info() const = 0;
  virtual bool ReadOptions(std::string_view) { return true; }
  virtual std::string_view OptionsMessage() const { return {}; }
  // [control] Once, after the options were read.
  virtual Status Make() = 0;
  // The object that nodes get; lives as long as this.
  virtual void* Object() = 0;
  // The resource's name in the pipeline.
  const std::string& name() const { return name_; }
  void set_name(std::string_view name) { name_ = name; }

 private:
  std::string name_;
};

#define ENGINE_RESOURCE(kind, text, type)                                                  \
  const ::engine::ResourceInfo& Info() const override {                                    \
    static const ::engine::ResourceInfo info{.name = kind, .doc = text, .provides = type}; \
    return info;                                                                           \
  }

}  // namespace engine

#endif  // ENGINE_RESOURCE_HPP_
