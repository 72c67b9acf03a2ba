// Where schemas stand within a document: pointers, anchors, and what is asked of one value by
// several schemas at once.
#ifndef PLUGINS_GUIDED_SCHEMA_PLACES_H_
#define PLUGINS_GUIDED_SCHEMA_PLACES_H_

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "schema.h"

namespace engine::guided {

// Types of values; "number" is both of the last two.
enum TypeBit : uint32_t {
  kNull = 1,
  kBoolean = 2,
  kString = 4,
  kObject = 8,
  kList = 16,
  kInteger = 32,
  kFraction = 64,
  kAllTypes = 127,
};

// A schema at its place. Its alternatives count unless they were chosen from already.
struct Place {
  const Json* schema = nullptr;
  std::string at;  // JSON pointer
  bool any_of = true, one_of = true;
  bool flat = false;  // what it refers to and its allOf stand beside it already

  const Json* Find(const char* word) const {
    if (!schema->is_object()) return nullptr;
    const auto it = schema->find(word);
    return it == schema->end() ? nullptr : &*it;
  }
  bool Has(const char* word) const { return Find(word) != nullptr; }
  // The schema below a word, or below a word and a name or number.
  Place Below(const char* word, const Json& schema) const;
  Place Below(const char* word, std::string_view name, const Json& schema) const;
};

// All of them hold of one value.
using Places = std::vector<Place>;

Status Refuse(const Place& place, const char* word, std::string_view why);

class Document {
 public:
  explicit Document(const Json* root, std::string at) : root_(root), at_(std::move(at)) {}
  // What "$ref" of `place` means.
  Status Resolve(const Place& place, Place* target);

 private:
  void FindAnchors();
  const Json* const root_;
  const std::string at_;
  bool anchors_found_ = false;
  std::map<std::string, Place> anchors_;
};

// A keyword that restricts values in a way that cannot be kept to, or a known one with a value that
// it cannot have.
Status CheckWords(const Place& place);
// The types that "type" of the schema allows; all without it.
Status TypesOf(const Place& place, uint32_t* types);
// The types for which the schema says something besides "type".
uint32_t TypesSpokenOf(const Place& place);
uint32_t TypeOfValue(const Json& value);
// Whether a value of an enum is valid under the other keywords of a schema. What cannot be told is
// refused.
// `listed` says that the value comes from this very schema's list.
Status Validates(const Json& value, const Place& place, bool listed, Grammar* grammar, bool* valid);
// A count such as minItems; `count` stays as it is without the word.
Status CountOf(const Place& place, const char* word, uint32_t* count);

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_SCHEMA_PLACES_H_
