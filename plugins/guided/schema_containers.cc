// Objects and lists under several schemas at once.
#include <algorithm>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "automaton.h"
#include "pattern.h"
#include "schema_builder.h"

namespace engine::guided {

struct SchemaBuilder::Members {
  struct Member {
    std::string name;
    Places value;
    bool required = false;
  };
  std::vector<Member> list;
  std::optional<Place> patterns;  // the schema with patternProperties
  Node pattern = 0;               // of its keys
  Graph automaton;                // the same
  uint32_t min = 0, max = kInfinite;
};

// Names in the order in which they are first mentioned, each with all that is asked of its value.
Status SchemaBuilder::CollectMembers(const Places& flat, Members* members) {
  std::unordered_map<std::string, size_t> number;
  std::vector<std::unordered_set<std::string>> declared(flat.size());
  const auto mention = [&](const std::string& name) {
    const auto [it, fresh] = number.try_emplace(name, members->list.size());
    if (fresh) members->list.push_back({name, {}, false});
    return it->second;
  };
  for (const Place& place : flat) {
    uint32_t least = 0, most = kInfinite;
    ENGINE_RETURN_IF_ERROR(CountOf(place, "minProperties", &least));
    ENGINE_RETURN_IF_ERROR(CountOf(place, "maxProperties", &most));
    members->min = std::max(members->min, least);
    members->max = std::min(members->max, most);
    if (const Json* map = place.Find("patternProperties"); map != nullptr && !map->empty()) {
      if (map->size() > 1 || members->patterns) {
        return Refuse(place, "patternProperties",
                      "one pattern for an object can be kept to; join them with |");
      }
      members->patterns = place;
      const std::string& regex = map->begin().key();
      Status status = ParseRegex(regex, RegexUse::kSearch, &grammar_, &members->pattern);
      if (!status.ok()) return Refuse(place, "patternProperties", status.message());
      if (!ToAutomaton(&grammar_, members->pattern, &members->automaton)) {
        return Refuse(place, "patternProperties", "the pattern takes too many states");
      }
    }
  }
  for (size_t i = 0; i < flat.size(); ++i) {
    const Json* properties = flat[i].Find("properties");
    if (properties == nullptr) continue;
    for (const auto& [name, schema] : properties->items()) {
      if (!grammar_.ok()) return grammar_.status();
      Members::Member& member = members->list[mention(name)];
      member.value.push_back(flat[i].Below("properties", name, schema));
      declared[i].insert(name);
    }
  }
  for (const Place& place : flat) {
    const Json* required = place.Find("required");
    if (required == nullptr) continue;
    for (const Json& name : *required) {
      members->list[mention(name.get<std::string>())].required = true;
    }
  }
  // A schema that does not declare a name speaks of it by its pattern or as of any other.
  for (size_t i = 0; i < flat.size(); ++i) {
    const Json* others = flat[i].Find("additionalProperties");
    const bool patterns = members->patterns && members->patterns->schema == flat[i].schema;
    if (others == nullptr && !patterns) continue;
    for (Members::Member& member : members->list) {
      if (!grammar_.ok()) return grammar_.status();
      const bool matches = patterns && Holds(grammar_, members->automaton, member.name);
      if (matches) {
        const auto entry = flat[i].Find("patternProperties")->begin();
        member.value.push_back(flat[i].Below("patternProperties", entry.key(), entry.value()));
      } else if (others != nullptr && !declared[i].contains(member.name)) {
        member.value.push_back(flat[i].Below("additionalProperties", *others));
      }
    }
  }
  return Status();
}

// A member that is not declared; Nothing() where there can be none.
Status SchemaBuilder::ExtraMember(const Places& flat, const Members& members, Node* extra) {
  *extra = grammar_.Nothing();
  Places value;
  bool open = true;  // where nothing is declared, anything may come
  for (const Place& place : flat) open = open && !place.Has("properties");
  for (const Place& place : flat) {
    const Json* others = place.Find("additionalProperties");
    if (others == nullptr) continue;
    // With a pattern only what matches it is generated, which only other schemas call additional.
    if (members.patterns && members.patterns->schema == place.schema) continue;
    if (others->is_boolean() && !others->get<bool>()) return Status();
    open = true;
    value.push_back(place.Below("additionalProperties", *others));
  }
  if (!open && !members.patterns) return Status();
  std::vector<std::string> names;
  for (const Members::Member& member : members.list) names.push_back(member.name);
  Graph others;
  if (!AllBut(&grammar_, JsonForms::Characters(), std::move(names), &others)) {
    ENGINE_RETURN_IF_ERROR(grammar_.status());
    return Refuse(flat[0], "properties",
                  "the names take too many states to tell further names from them; set "
                  "additionalProperties to false");
  }
  Node key;
  if (members.patterns) {
    const auto entry = members.patterns->Find("patternProperties")->begin();
    value.push_back(members.patterns->Below("patternProperties", entry.key(), entry.value()));
    Graph both;
    if (!Intersect(&grammar_, members.automaton, others, &both)) {
      ENGINE_RETURN_IF_ERROR(grammar_.status());
      return Refuse(*members.patterns, "patternProperties",
                    "the pattern and the names in properties take too many states");
    }
    key = grammar_.Of(std::move(both));
  } else {
    key = grammar_.Of(std::move(others));
  }
  const Node inside = Value(value, kAllTypes, 0);
  *extra = grammar_.Sequence({forms_.String(key), forms_.Colon(), inside});
  return grammar_.status();
}

void SchemaBuilder::DefineObject(Rule rule, const Places& flat) {
  Members members;
  Node extra = 0;
  Status status = CollectMembers(flat, &members);
  if (status.ok()) status = ExtraMember(flat, members, &extra);
  if (!status.ok()) {
    Fail(std::move(status));
    return;
  }
  const size_t size = members.list.size();
  const auto required = static_cast<uint32_t>(std::count_if(
      members.list.begin(), members.list.end(), [](const auto& m) { return m.required; }));
  // Further members may have one name twice, so that only the first counts for the least number.
  const bool count_least = members.min > required;
  const bool count_most = members.max < size || (members.max != kInfinite && extra != 0);
  if (members.min > members.max || members.min > size + (extra != 0 ? 1 : 0)) {
    if (extra != 0 && members.min <= members.max) {
      Fail(Refuse(flat[0], "minProperties",
                  "names of further members may repeat, so that at most one more than properties "
                  "names can be asked for"));
    } else {
      Nothing(flat[0], "minProperties", "there are fewer members than that");
    }
    return;
  }
  const uint32_t cap = count_most ? members.max : count_least ? members.min : 1;
  if (uint64_t{cap} * (size + 2) > grammar_.limits().automaton) {
    Fail(Refuse(flat[0], count_most ? "maxProperties" : "minProperties",
                "together with this many properties it takes too many states"));
    return;
  }

  // States: how many members were looked at, and how many of them were written, up to `cap`; the
  // first member of all is the one without a comma. What a member says is written once for each.
  Graph graph;
  const uint32_t begin = graph.Add(), end = graph.Add(true);
  const uint32_t width = cap + 1;
  std::vector<uint32_t> at;  // [looked][written]
  for (size_t i = 0; i <= size; ++i) {
    for (uint32_t n = 0; n < width; ++n) at.push_back(graph.Add());
  }
  graph.Join(begin, grammar_.Sequence({grammar_.Text("{"), forms_.Break()}), at[0]);
  const auto next_count = [&](uint32_t n) { return std::min(n + 1, cap); };
  const auto may_write = [&](uint32_t n) { return !count_most || n < members.max; };
  for (size_t i = 0; i < size && grammar_.ok(); ++i) {
    const Members::Member& member = members.list[i];
    const Node value = Value(member.value, kAllTypes, 0);
    const Node node = grammar_.Sequence({forms_.Key(member.name), value});
    if (node == grammar_.Nothing() && member.required) {
      // A reason for which the value is impossible has been noted, if one is known already.
      Nothing(flat[0], "required", "'" + member.name + "' cannot have a value");
    }
    // Where counts are not kept, both ways to write it meet in one state.
    const bool shared = cap == 1;
    const uint32_t inside = shared ? graph.Add() : 0;
    if (shared && may_write(0)) graph.Join(inside, node, at[(i + 1) * width + 1]);
    for (uint32_t n = 0; n < width; ++n) {
      const uint32_t here = at[i * width + n];
      if (!member.required) graph.Join(here, grammar_.Empty(), at[(i + 1) * width + n]);
      if (!may_write(n)) continue;
      const Node comma = n == 0 ? grammar_.Empty() : forms_.Comma();
      if (shared) {
        graph.Join(here, comma, inside);
      } else {
        graph.Join(here, grammar_.Sequence({comma, node}), at[(i + 1) * width + next_count(n)]);
      }
    }
  }
  const Node shut = grammar_.Text("}");
  const uint32_t further = graph.Add();  // where counts are not kept
  for (uint32_t n = 0; n < width; ++n) {
    const uint32_t here = at[size * width + n];
    const Node comma = n == 0 ? grammar_.Empty() : forms_.Comma();
    // Names of further members may repeat: they count once towards the least number.
    if (extra != 0 && may_write(n) && (!count_least || n + 1 >= members.min)) {
      if (cap == 1 && !count_most) {
        graph.Join(here, comma, further);
      } else {
        const uint32_t to = at[size * width + next_count(n)];
        graph.Join(here, grammar_.Sequence({comma, extra}), to);
      }
    }
    const bool enough = !count_least || n >= members.min;
    if (!enough) continue;
    const Node close = n == 0 ? shut : grammar_.Sequence({forms_.Break(), shut});
    graph.Join(here, close, end);
  }
  if (cap == 1 && !count_most && extra != 0) {
    graph.Join(further, extra, at[size * width + 1]);
  }
  grammar_.Define(rule, grammar_.Of(std::move(graph)));
}

void SchemaBuilder::DefineList(Rule rule, const Places& flat) {
  uint32_t min = 0, max = kInfinite;
  size_t prefix = 0;
  const Place* with = &flat[0];
  for (const Place& place : flat) {
    uint32_t least = 0, most = kInfinite;
    Status status = CountOf(place, "minItems", &least);
    if (status.ok()) status = CountOf(place, "maxItems", &most);
    if (!status.ok()) {
      Fail(std::move(status));
      return;
    }
    if (least > min) with = &place;
    min = std::max(min, least);
    max = std::min(max, most);
    for (const char* word : {"prefixItems", "items"}) {
      const Json* list = place.Find(word);
      if (list != nullptr && list->is_array()) prefix = std::max(prefix, list->size());
    }
  }
  if (min > max) {
    Nothing(*with, "minItems", "the least number exceeds the greatest");
    return;
  }
  // What is asked of the element at `i`; of those behind all lists for `i` == prefix.
  bool said = false;  // something is said of elements behind the lists
  const auto element = [&](size_t i) {
    Places places;
    for (const Place& place : flat) {
      const Json* items = place.Find("items");
      const char* list_word = items != nullptr && items->is_array() ? "items" : "prefixItems";
      const char* rest_word = items != nullptr && items->is_array() ? "additionalItems" : "items";
      const Json* list = place.Find(list_word);
      const Json* rest = place.Find(rest_word);
      if (list != nullptr && i < list->size()) {
        places.push_back(place.Below(list_word, std::to_string(i), (*list)[i]));
      } else if (rest != nullptr) {
        places.push_back(place.Below(rest_word, *rest));
        said = true;
      }
    }
    return Value(places, kAllTypes, 0);
  };
  Graph graph;
  const uint32_t begin = graph.Add(), end = graph.Add(true);
  const Node shut = grammar_.Text("]");
  const Node close = grammar_.Sequence({forms_.Break(), shut});
  uint32_t here = graph.Add();  // behind the elements so far
  graph.Join(begin, grammar_.Sequence({grammar_.Text("["), forms_.Break()}), here);
  size_t count = 0;
  for (; count < prefix && count < max && grammar_.ok(); ++count) {
    if (count >= min) graph.Join(here, count == 0 ? shut : close, end);
    const uint32_t next = graph.Add();
    graph.Join(here,
               grammar_.Sequence({count == 0 ? grammar_.Empty() : forms_.Comma(), element(count)}),
               next);
    here = next;
  }
  if (count >= min) graph.Join(here, count == 0 ? shut : close, end);
  if (count < max) {
    const Node item = element(prefix);
    // A list of things by their place ends there, unless more is asked for.
    if (prefix > 0 && !said) max = std::max(min, static_cast<uint32_t>(prefix));
    const uint32_t least = min > count ? min - static_cast<uint32_t>(count) : 0;
    const uint32_t most = max == kInfinite ? kInfinite : max - static_cast<uint32_t>(count);
    if (most > 0 && most == kInfinite && least <= 1) {
      const uint32_t next = graph.Add(), after = graph.Add();
      graph.Join(here, count == 0 ? grammar_.Empty() : forms_.Comma(), next);
      graph.Join(next, item, after);
      graph.Join(after, forms_.Comma(), next);
      graph.Join(after, close, end);
    } else if (most > 0) {
      const Node more = grammar_.Sequence({forms_.Comma(), item});
      const uint32_t after = graph.Add();
      const uint32_t up_to = most == kInfinite ? kInfinite : most - 1;
      graph.Join(here,
                 grammar_.Sequence({count == 0 ? item : more,
                                    grammar_.Repeat(more, least > 0 ? least - 1 : 0, up_to)}),
                 after);
      graph.Join(after, close, end);
    }
  }
  grammar_.Define(rule, grammar_.Of(std::move(graph)));
}

}  // namespace engine::guided
