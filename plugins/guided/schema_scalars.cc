// Strings and numbers under several schemas at once.
#include <algorithm>
#include <numeric>

#include "automaton.h"
#include "formats.h"
#include "pattern.h"
#include "schema_builder.h"

namespace engine::guided {
namespace {

constexpr uint32_t kLongest = 1'000'000;  // that a string must be
constexpr uint32_t kMostMultiple = 100;

}  // namespace

Node SchemaBuilder::StringOf(const Places& flat) {
  uint32_t min = 0, max = kInfinite;
  std::vector<Node> patterns;
  const Place* with = nullptr;  // the last schema with a pattern
  const char* word = "pattern";
  std::vector<std::string> seen;
  for (const Place& place : flat) {
    uint32_t least = 0, most = kInfinite;
    Status status = CountOf(place, "minLength", &least);
    if (status.ok()) status = CountOf(place, "maxLength", &most);
    if (!status.ok()) return Fail(std::move(status));
    min = std::max(min, least);
    max = std::min(max, most);
    if (min > max) {
      return Nothing(place, place.Has("minLength") ? "minLength" : "maxLength",
                     "the least length exceeds the greatest");
    }
    for (const bool format : {false, true}) {
      const Json* text = place.Find(format ? "format" : "pattern");
      if (text == nullptr) continue;
      std::string regex = text->get<std::string>();
      if (format) regex = FormatRegex(regex);
      if (format && regex.empty()) continue;
      std::string name = (format ? "f" : "p") + regex;
      if (std::find(seen.begin(), seen.end(), name) != seen.end()) continue;
      seen.push_back(std::move(name));
      Node node = 0;
      status = ParseRegex(regex, format ? RegexUse::kWhole : RegexUse::kSearch, &grammar_, &node);
      if (!status.ok()) {
        return Fail(status.code() == ENGINE_INVALID_ARGUMENT
                        ? Refuse(place, "pattern", status.message())
                        : std::move(status));
      }
      if (node == grammar_.Nothing()) return Nothing(place, "pattern", "no text matches");
      patterns.push_back(node);
      with = &place;
      word = format ? "format" : "pattern";
    }
  }
  if (min > kLongest) {
    return Fail(Refuse(flat[0], "minLength", "it can be 1000000 at most"));
  }
  if (patterns.empty()) {
    if (min == 0 && max == kInfinite) return forms_.AnyString();
    return forms_.String(grammar_.Repeat(grammar_.Class(JsonForms::Characters()), min, max));
  }
  if (patterns.size() == 1) {
    const LengthRange lengths = LengthsOf(grammar_, patterns[0]);
    if (lengths.min >= min && lengths.max <= max) return forms_.String(patterns[0]);
  }
  // One automaton for all conditions.
  Graph all, one, both;
  bool fits = ToAutomaton(&grammar_, patterns[0], &all);
  for (size_t i = 1; fits && i < patterns.size(); ++i) {
    fits = ToAutomaton(&grammar_, patterns[i], &one) && Intersect(&grammar_, all, one, &both);
    all = std::move(both);
  }
  if (fits && (min > 0 || max != kInfinite)) {
    fits = Lengths(&grammar_, min, max, &one) && Intersect(&grammar_, all, one, &both);
    all = std::move(both);
  }
  if (!grammar_.ok()) return grammar_.Nothing();
  if (!fits) {
    return Fail(Refuse(*with, word,
                       "together with the lengths or other patterns here it takes too many states; "
                       "put the bound into the pattern, such as ^[a-z]{1,40}$"));
  }
  if (!all.states[0].accepts && all.states[0].edges.empty()) {
    return Nothing(*with, word, "no text has it and the lengths or other patterns here");
  }
  return forms_.String(grammar_.Of(std::move(all)));
}

Node SchemaBuilder::NumberOf(const Places& flat, bool integer) {
  NumberRange range;
  const Place* with = nullptr;
  const char* word = "type";
  for (const Place& place : flat) {
    struct Word {
      const char* word;
      bool least, exclusive;
    };
    for (const Word& each :
         {Word{"minimum", true, false}, Word{"maximum", false, false},
          Word{"exclusiveMinimum", true, true}, Word{"exclusiveMaximum", false, true}}) {
      const Json* value = place.Find(each.word);
      if (value == nullptr) continue;
      NumberBound bound;
      if (!MakeBound(*value, each.exclusive, &bound)) {
        return Fail(Refuse(place, each.word, "it must be a finite number"));
      }
      (each.least ? range.least : range.most).push_back(std::move(bound));
      with = &place;
      word = each.word;
    }
    const Json* multiple = place.Find("multipleOf");
    if (multiple == nullptr) continue;
    const double of = multiple->is_number() ? multiple->get<double>() : 0;
    if (!(of >= 1 && of <= kMostMultiple) || of != static_cast<uint32_t>(of)) {
      return Fail(Refuse(place, "multipleOf",
                         "only whole numbers from 1 to 100 can be kept to; leave it out and round "
                         "afterwards"));
    }
    // Multiples of a whole number are whole.
    integer = true;
    range.multiple = std::lcm(range.multiple, static_cast<uint32_t>(of));
    if (range.multiple > kMostMultiple) {
      return Fail(Refuse(place, "multipleOf", "together with another one it exceeds 100"));
    }
    with = &place;
    word = "multipleOf";
  }
  const Node node = integer ? Integer(&grammar_, range) : Number(&grammar_, range);
  if (node == grammar_.Nothing()) {
    return Nothing(*with, word,
                   integer ? "no integer of at most 18 digits lies within the bounds"
                           : "no decimal of at most 15 digits lies within the bounds");
  }
  return node;
}

}  // namespace engine::guided
