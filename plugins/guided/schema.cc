// What holds of a value: references, conjunctions and alternatives.
#include "schema.h"

#include <algorithm>

#include "schema_builder.h"

namespace engine::guided {
namespace {

constexpr uint32_t kDeepest = 64;         // alternatives and references within one another
constexpr uint32_t kMostValues = 20'000;  // that are described, for alternatives may multiply
constexpr size_t kMostApart = 256;        // alternatives of oneOf

// What is known of values of an alternative.
struct Traits {
  uint32_t types = kAllTypes;
  bool listed = false;  // its values are listed
  std::vector<Json> values;
  // Members that must be there, with the values that they can have.
  std::vector<std::pair<std::string, std::vector<Json>>> tags;
};

std::vector<Json> ListedValues(const Place& place, bool* listed) {
  *listed = true;
  if (const Json* constant = place.Find("const")) return {*constant};
  if (const Json* list = place.Find("enum"); list != nullptr && list->is_array()) {
    return {list->begin(), list->end()};
  }
  *listed = false;
  return {};
}

bool Share(const std::vector<Json>& a, const std::vector<Json>& b) {
  return std::any_of(a.begin(), a.end(), [&](const Json& value) {
    return std::find(b.begin(), b.end(), value) != b.end();
  });
}

bool Apart(const Traits& a, const Traits& b) {
  if ((a.types & b.types) == 0) return true;
  if (a.listed && b.listed && !Share(a.values, b.values)) return true;
  if ((a.types & b.types) != kObject) return false;
  for (const auto& [name, values] : a.tags) {
    for (const auto& [other, others] : b.tags) {
      if (name == other && !Share(values, others)) return true;
    }
  }
  return false;
}

Status TraitsOf(const Places& flat, Traits* traits) {
  std::vector<std::string> required;
  for (const Place& place : flat) {
    uint32_t types = 0;
    ENGINE_RETURN_IF_ERROR(TypesOf(place, &types));
    traits->types &= types;
    bool listed = false;
    std::vector<Json> values = ListedValues(place, &listed);
    if (listed && !traits->listed) {
      uint32_t of_values = 0;
      for (const Json& value : values) of_values |= TypeOfValue(value);
      traits->types &= of_values;
      traits->listed = true;
      traits->values = std::move(values);
    }
    if (const Json* names = place.Find("required")) {
      for (const Json& name : *names) required.push_back(name.get<std::string>());
    }
  }
  std::sort(required.begin(), required.end());
  for (const Place& place : flat) {
    const Json* properties = place.Find("properties");
    if (properties == nullptr) continue;
    for (const auto& [name, schema] : properties->items()) {
      if (!std::binary_search(required.begin(), required.end(), name)) continue;
      bool listed = false;
      std::vector<Json> values = ListedValues(place.Below("properties", name, schema), &listed);
      if (listed && values.size() <= 64) traits->tags.emplace_back(name, std::move(values));
    }
  }
  return Status();
}

Status Circular(const Place& place) {
  return Refuse(place, "$ref",
                "it comes back to itself before anything is written; what refers to itself must do "
                "so inside of an object or a list");
}

}  // namespace

Node SchemaBuilder::Nothing(const Place& place, const char* word, std::string_view why) {
  grammar_.Note(Refuse(place, word, why).message());
  return grammar_.Nothing();
}

Status SchemaBuilder::Flatten(const Place& place, std::vector<const Json*>* way, Places* flat,
                              bool* never) {
  if (place.schema->is_boolean()) {
    if (!place.schema->get<bool>()) {
      *never = true;
      Nothing(place, "false", "nothing is valid here");
    }
    return Status();
  }
  if (!place.schema->is_object()) {
    return Error(ENGINE_INVALID_ARGUMENT, "schema at '", place.at,
                 "': ", place.schema->dump().substr(0, 60),
                 " is no schema; it must be an object or true or "
                 "false");
  }
  if (std::find(way->begin(), way->end(), place.schema) != way->end()) {
    return Circular(place);
  }
  if (way->size() >= kDeepest || flat->size() >= 256 || !grammar_.ok()) {
    return Error(ENGINE_INVALID_ARGUMENT, "schema at '", place.at, "': more than ", kDeepest,
                 " references within one another, or 256 schemas of one "
                 "value; a flatter schema would do");
  }
  for (const Place& known : *flat) {
    if (known.schema != place.schema) continue;
    // An alternative that leads back to the choice it was chosen from.
    if (!known.any_of || !known.one_of) return Circular(place);
    return Status();
  }
  ENGINE_RETURN_IF_ERROR(CheckWords(place));
  flat->push_back(place);
  flat->back().flat = true;
  way->push_back(place.schema);
  if (place.Has("$ref")) {
    Place target;
    ENGINE_RETURN_IF_ERROR(document_.Resolve(place, &target));
    ENGINE_RETURN_IF_ERROR(Flatten(target, way, flat, never));
  }
  if (const Json* all = place.Find("allOf")) {
    size_t i = 0;
    for (const Json& one : *all) {
      ENGINE_RETURN_IF_ERROR(
          Flatten(place.Below("allOf", std::to_string(i++), one), way, flat, never));
    }
  }
  way->pop_back();
  return Status();
}

Status SchemaBuilder::FlattenAll(const Places& places, Places* flat, bool* never) {
  for (const Place& place : places) {
    if (place.flat) flat->push_back(place);
  }
  for (const Place& place : places) {
    if (place.flat) continue;
    std::vector<const Json*> way;
    ENGINE_RETURN_IF_ERROR(Flatten(place, &way, flat, never));
  }
  return Status();
}

Node SchemaBuilder::Value(const Places& places, uint32_t types, uint32_t depth) {
  if (!grammar_.ok()) return grammar_.Nothing();
  if (depth > kDeepest || ++values_ > kMostValues) {
    return Fail(Error(ENGINE_INVALID_ARGUMENT, "schema at '",
                      places.empty() ? std::string("#") : places[0].at,
                      "': alternatives within alternatives come to more than ", kMostValues,
                      " or are deeper than ", kDeepest, "; fewer would do"));
  }
  Places flat;
  bool never = false;
  if (Status status = FlattenAll(places, &flat, &never); !status.ok()) {
    return Fail(std::move(status));
  }
  if (never) return grammar_.Nothing();
  for (size_t i = 0; i < flat.size(); ++i) {
    if (flat[i].one_of && flat[i].Has("oneOf")) return Alternatives(flat, i, true, types, depth);
    if (flat[i].any_of && flat[i].Has("anyOf")) return Alternatives(flat, i, false, types, depth);
  }
  uint32_t spoken = 0;
  bool typed = false;
  for (const Place& place : flat) {
    uint32_t own = 0;
    if (Status status = TypesOf(place, &own); !status.ok()) return Fail(std::move(status));
    types &= own;
    typed = typed || place.Has("type");
    spoken |= TypesSpokenOf(place);
  }
  if (types == 0) {
    return Nothing(flat.empty() ? Place() : flat.back(), "type", "no type is left that is valid");
  }
  bool found = false;
  const Node listed = Enumerated(flat, types, &found);
  if (found) return listed;
  // A schema that says something of objects only means objects.
  if (!typed && (spoken & types) != 0) types &= spoken;
  return OfTypes(flat, types);
}

Node SchemaBuilder::Alternatives(Places flat, size_t with, bool one_of, uint32_t types,
                                 uint32_t depth) {
  const char* word = one_of ? "oneOf" : "anyOf";
  const Place place = flat[with];
  (one_of ? flat[with].one_of : flat[with].any_of) = false;
  if (one_of) {
    if (Status status = CheckApart(place, flat); !status.ok()) return Fail(std::move(status));
  }
  std::vector<Node> nodes;
  size_t i = 0;
  for (const Json& one : *place.Find(word)) {
    if (!grammar_.ok()) break;
    Places alternative = flat;
    alternative.push_back(place.Below(word, std::to_string(i++), one));
    nodes.push_back(Value(alternative, types, depth + 1));
  }
  return grammar_.Either(std::move(nodes));
}

Status SchemaBuilder::CheckApart(const Place& place, const Places& flat) {
  const Json& alternatives = *place.Find("oneOf");
  if (alternatives.size() == 1) return Status();
  if (alternatives.size() > kMostApart) {
    return Refuse(place, "oneOf", "more than 256 alternatives; use anyOf");
  }
  std::vector<Traits> traits;
  for (const Json& one : alternatives) {
    Places places = flat, all;
    places.push_back(place.Below("oneOf", std::to_string(traits.size()), one));
    bool never = false;
    ENGINE_RETURN_IF_ERROR(FlattenAll(places, &all, &never));
    traits.emplace_back();
    if (never) traits.back().types = 0;
    ENGINE_RETURN_IF_ERROR(TraitsOf(all, &traits.back()));
  }
  for (size_t i = 0; i < traits.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (!grammar_.ok()) return grammar_.status();
      if (Apart(traits[i], traits[j])) continue;
      return Refuse(place, "oneOf",
                    "alternatives " + std::to_string(j) + " and " + std::to_string(i) +
                        " may be valid at once; give them different types, or a required property "
                        "with different const values, or use anyOf");
    }
  }
  return Status();
}

Node SchemaBuilder::Enumerated(const Places& flat, uint32_t types, bool* found) {
  for (const Place& place : flat) {
    const std::vector<Json> values = ListedValues(place, found);
    if (!*found) continue;
    std::vector<std::string> texts;
    for (const Json& value : values) {
      bool valid = (TypeOfValue(value) & types) != 0;
      for (const Place& each : flat) {
        if (!valid) break;
        if (!grammar_.ok()) return grammar_.Nothing();
        if (Status status = Validates(value, each, each.schema == place.schema, &grammar_, &valid);
            !status.ok()) {
          return Fail(std::move(status));
        }
      }
      if (valid) texts.push_back(value.dump());
    }
    if (texts.empty()) {
      return Nothing(place, place.Has("const") ? "const" : "enum",
                     "none of the values is valid under the other keywords");
    }
    return grammar_.Texts(std::move(texts));
  }
  return grammar_.Nothing();
}

Node SchemaBuilder::OfTypes(const Places& flat, uint32_t types) {
  uint32_t spoken = 0;
  for (const Place& place : flat) spoken |= TypesSpokenOf(place);
  if (types == kAllTypes && spoken == 0) return forms_.AnyValue();
  std::vector<Node> nodes;
  if ((types & kObject) != 0) nodes.push_back(ContainerOf(flat, true));
  if ((types & kList) != 0) nodes.push_back(ContainerOf(flat, false));
  if ((types & kString) != 0) nodes.push_back(StringOf(flat));
  if ((types & kFraction) != 0) {
    nodes.push_back(NumberOf(flat, false));
  } else if ((types & kInteger) != 0) {
    nodes.push_back(NumberOf(flat, true));
  }
  if ((types & kBoolean) != 0) nodes.push_back(grammar_.Texts({"true", "false"}));
  if ((types & kNull) != 0) nodes.push_back(grammar_.Text("null"));
  return grammar_.Either(std::move(nodes));
}

Node SchemaBuilder::ContainerOf(const Places& flat, bool object) {
  uint32_t spoken = 0;
  Key key;
  for (const Place& place : flat) {
    spoken |= TypesSpokenOf(place);
    key.emplace_back(place.schema, place.any_of);
  }
  if ((spoken & (object ? kObject : kList)) == 0) {
    return object ? forms_.AnyObject() : forms_.AnyList();
  }
  std::sort(key.begin(), key.end());
  key.erase(std::unique(key.begin(), key.end()), key.end());
  const auto [it, fresh] = rules_.try_emplace({std::move(key), object}, 0);
  if (fresh) {
    it->second = grammar_.NewRule(flat[0].at);
    waiting_.push_back({it->second, flat, object});
  }
  return grammar_.Call(it->second);
}

Status SchemaBuilder::Build(const Place& root, uint32_t types, Node* node) {
  *node = Value({root}, types, 0);
  while (!waiting_.empty() && grammar_.ok()) {
    const Waiting next = std::move(waiting_.back());
    waiting_.pop_back();
    next.object ? DefineObject(next.rule, next.flat) : DefineList(next.rule, next.flat);
  }
  ENGINE_RETURN_IF_ERROR(grammar_.status());
  if (*node == grammar_.Nothing()) {
    return Error(ENGINE_INVALID_ARGUMENT, "no value is valid under the schema: ", grammar_.note());
  }
  return Status();
}

Status SchemaNode(const SchemaRequest& request, JsonForms* forms, Node* node) {
  const Json* document = request.document == nullptr ? request.schema : request.document;
  *node = forms->grammar()->Nothing();
  SchemaBuilder builder(document, request.at, forms);
  return builder.Build({request.schema, request.at}, request.object_only ? kObject : kAllTypes,
                       node);
}

}  // namespace engine::guided
