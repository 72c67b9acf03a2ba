// Builds the syntax tree of one schema.
//
// A value is described by all schemas that hold of it at once (Places): the schema itself, what it
// refers to, the members of its allOf and one alternative of its anyOf. Objects and lists become
// rules, found again by the schemas that describe them, and their insides are built from a queue;
// so schemas may refer to themselves, and nothing here calls itself deeper than alternatives and
// references stand within one another.
#ifndef PLUGINS_GUIDED_SCHEMA_BUILDER_H_
#define PLUGINS_GUIDED_SCHEMA_BUILDER_H_

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "json_forms.h"
#include "numbers.h"
#include "schema_places.h"

namespace engine::guided {

class SchemaBuilder {
 public:
  SchemaBuilder(const Json* document, std::string at, JsonForms* forms)
      : forms_(*forms), grammar_(*forms->grammar()), document_(document, std::move(at)) {}

  // The value and everything that it needs.
  Status Build(const Place& root, uint32_t types, Node* node);

 private:
  // Keeps the first error and answers Nothing().
  Node Fail(Status status) { return grammar_.Fail(std::move(status)); }
  // No value is possible here; which is an error only when there is no way around.
  Node Nothing(const Place& place, const char* word, std::string_view why);

  // `types` are those that may be generated.
  Node Value(const Places& places, uint32_t types, uint32_t depth);
  // Adds a schema, what it refers to and its allOf. `way` are the schemas that led here.
  Status FlattenAll(const Places& places, Places* flat, bool* never);
  Status Flatten(const Place& place, std::vector<const Json*>* way, Places* flat, bool* never);
  Node Alternatives(Places flat, size_t with, bool one_of, uint32_t types, uint32_t depth);
  // Nothing is valid under two alternatives of the oneOf of `place`, which holds beside `flat`.
  Status CheckApart(const Place& place, const Places& flat);
  Node Enumerated(const Places& flat, uint32_t types, bool* found);
  Node OfTypes(const Places& flat, uint32_t types);

  Node StringOf(const Places& flat);
  Node NumberOf(const Places& flat, bool integer);
  Node ContainerOf(const Places& flat, bool object);
  void DefineObject(Rule rule, const Places& flat);
  void DefineList(Rule rule, const Places& flat);

  struct Members;  // of an object
  Status CollectMembers(const Places& flat, Members* members);
  Status ExtraMember(const Places& flat, const Members& members, Node* extra);

  JsonForms& forms_;
  Grammar& grammar_;
  Document document_;
  using Key = std::vector<std::pair<const Json*, bool>>;
  struct Waiting {
    Rule rule = 0;
    Places flat;
    bool object = false;
  };
  std::map<std::pair<Key, bool>, Rule> rules_;
  std::vector<Waiting> waiting_;
  uint32_t values_ = 0;
};

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_SCHEMA_BUILDER_H_
