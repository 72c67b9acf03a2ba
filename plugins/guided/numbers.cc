// JSON numbers within bounds, as syntax trees.
#include "numbers.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

namespace engine::guided {
namespace {

constexpr int kIntegerDigits = 18, kNumberDigits = 15;
constexpr int kUsualWhole = 9, kUsualFraction = 6;  // digits, where a bound leaves them open

int64_t Power(int exponent) {
  int64_t power = 1;
  for (int i = 0; i < exponent; ++i) power *= 10;
  return power;
}

// The bound times ten to the power of `fraction`, rounded up or down, no further from zero than ten
// to the power of 18.
int64_t Scale(const NumberBound& bound, int fraction, bool up) {
  const int64_t most = Power(kIntegerDigits);
  const int digits = bound.exponent + fraction;  // in front of the point
  int64_t value = 0;
  bool exact = true;
  if (bound.digits.empty()) {
    value = 0;
  } else if (digits > kIntegerDigits) {
    return bound.negative ? -most : most;
  } else {
    for (int i = 0; i < digits; ++i) {
      const auto at = static_cast<size_t>(i);
      value = value * 10 + (at < bound.digits.size() ? bound.digits[at] - '0' : 0);
    }
    exact = digits >= 0 && static_cast<size_t>(digits) >= bound.digits.size();
  }
  if (bound.negative) value = -value;
  if (!exact && up && !bound.negative) ++value;
  if (!exact && !up && bound.negative) --value;
  if (exact && bound.exclusive) value += up ? 1 : -1;
  return value;
}

// The whole numbers from `low` to `high`, both not negative, with the last `fraction` digits behind
// the point, where zeros may be left out.
class Magnitudes {
 public:
  Magnitudes(Grammar* grammar, int fraction, uint32_t multiple)
      : grammar_(*grammar), fraction_(fraction), multiple_(multiple) {}

  Node Between(int64_t low, int64_t high) {
    std::vector<Node> lengths;
    for (int whole = 1; whole + fraction_ <= kIntegerDigits; ++whole) {
      const int64_t least = whole == 1 ? 0 : Power(whole - 1 + fraction_);
      const int64_t from = std::max(low, least);
      const int64_t to = std::min(high, Power(whole + fraction_) - 1);
      if (from <= to) lengths.push_back(OfLength(whole, from, to));
    }
    return grammar_.Either(std::move(lengths));
  }

 private:
  // What was written may still be the beginning of a bound, on either side.
  struct Key {
    int at = 0;
    bool low = true, high = true;
    uint32_t rest = 0;  // of the division by the multiple
    auto operator<=>(const Key&) const = default;
  };

  Node OfLength(int whole, int64_t from, int64_t to) {
    const int size = whole + fraction_;
    std::string low(static_cast<size_t>(size), '0'), high = low;
    for (int i = size; i-- > 0; from /= 10, to /= 10) {
      low[static_cast<size_t>(i)] = static_cast<char>('0' + from % 10);
      high[static_cast<size_t>(i)] = static_cast<char>('0' + to % 10);
    }
    Graph graph;
    std::map<Key, uint32_t> known;
    std::vector<Key> keys;
    const auto state = [&](const Key& key) {
      const auto [it, fresh] = known.try_emplace(key, static_cast<uint32_t>(keys.size()));
      if (fresh) {
        keys.push_back(key);
        // Digits that are left out are zeros.
        const bool zeros =
            low.find_first_not_of('0', static_cast<size_t>(key.at)) == std::string::npos;
        graph.Add(key.at >= whole && (!key.low || zeros) && key.rest == 0);
      }
      return it->second;
    };
    state(Key());
    for (uint32_t i = 0; i < keys.size() && grammar_.ok(); ++i) {
      const Key key = keys[i];
      if (key.at == size) continue;
      const auto at = static_cast<size_t>(key.at);
      const char least = key.low ? low[at] : '0', most = key.high ? high[at] : '9';
      std::map<Key, std::vector<CodeRange>> ways;
      for (char c = least; c <= most; ++c) {
        const auto code = static_cast<uint32_t>(c);
        const Key next = {key.at + 1, key.low && c == low[at], key.high && c == high[at],
                          (key.rest * 10 + code - '0') % multiple_};
        ways[next].push_back({code, code});
      }
      for (auto& [next, codes] : ways) {
        Node label = grammar_.Class(CodeSet(std::move(codes)));
        if (key.at == whole) label = grammar_.Sequence({grammar_.Text("."), label});
        const uint32_t to_state = state(next);
        graph.Join(i, label, to_state);
      }
    }
    return grammar_.Of(std::move(graph));
  }

  Grammar& grammar_;
  const int fraction_;
  const uint32_t multiple_;
};

// Whole numbers from `low` to `high`, the last `fraction` digits of each behind the point.
Node Between(Grammar* grammar, int64_t low, int64_t high, int fraction, uint32_t multiple) {
  Magnitudes magnitudes(grammar, fraction, multiple);
  std::vector<Node> signs;
  if (high >= 0) signs.push_back(magnitudes.Between(std::max<int64_t>(low, 0), high));
  if (low < 0) {
    const Node below = magnitudes.Between(std::max<int64_t>(-high, 1), -low);
    signs.push_back(grammar->Sequence({grammar->Text("-"), below}));
  }
  return grammar->Either(std::move(signs));
}

}  // namespace

bool MakeBound(const nlohmann::ordered_json& number, bool exclusive, NumberBound* bound) {
  *bound = NumberBound();
  bound->exclusive = exclusive;
  if (!number.is_number()) return false;
  std::string text;
  if (number.is_number_float()) {
    const double value = number.get<double>();
    if (!std::isfinite(value)) return false;
    char buffer[64];
    const auto end =
        std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific);
    text.assign(buffer, end.ptr);
  } else {
    text = number.dump();
  }
  size_t at = 0;
  if (text[at] == '-') {
    bound->negative = true;
    ++at;
  }
  bool point = false;
  for (; at < text.size() && text[at] != 'e'; ++at) {
    if (text[at] == '.') {
      point = true;
      continue;
    }
    bound->digits += text[at];
    if (!point) ++bound->exponent;
  }
  if (at < text.size()) {
    int exponent = 0;
    const size_t sign = text[at + 1] == '+' ? 2 : 1;
    std::from_chars(text.data() + at + sign, text.data() + text.size(), exponent);
    bound->exponent += exponent;
  }
  while (!bound->digits.empty() && bound->digits.front() == '0') {
    bound->digits.erase(0, 1);
    --bound->exponent;
  }
  while (!bound->digits.empty() && bound->digits.back() == '0') bound->digits.pop_back();
  if (bound->digits.empty()) bound->exponent = 0;
  return true;
}

Node Integer(Grammar* grammar, const NumberRange& range) {
  const int64_t most = Power(kIntegerDigits) - 1;
  if (range.least.empty() && range.most.empty() && range.multiple == 1) {
    const Node digit = grammar->Class(CodeSet{{'0', '9'}});
    return grammar->Either(
        {grammar->Text("0"), grammar->Sequence({grammar->Optional(grammar->Text("-")),
                                                grammar->Class(CodeSet{{'1', '9'}}),
                                                grammar->Repeat(digit, 0, kIntegerDigits - 1)})});
  }
  int64_t low = -most, high = most;
  for (const NumberBound& bound : range.least) low = std::max(low, Scale(bound, 0, true));
  for (const NumberBound& bound : range.most) high = std::min(high, Scale(bound, 0, false));
  if (range.multiple != 1) {
    // A state for each digit and each rest of the division: open ends are nearer then.
    const int64_t usual = Power(kUsualWhole) - 1;
    if (low == -most && high > -usual) low = -usual;
    if (high == most && low < usual) high = usual;
  }
  if (low > high) return grammar->Nothing();
  return Between(grammar, low, high, 0, range.multiple);
}

Node Number(Grammar* grammar, const NumberRange& range) {
  if (range.least.empty() && range.most.empty()) {
    const Node digit = grammar->Class(CodeSet{{'0', '9'}});
    return grammar->Sequence(
        {grammar->Optional(grammar->Text("-")),
         grammar->Either(
             {grammar->Text("0"), grammar->Sequence({grammar->Class(CodeSet{{'1', '9'}}),
                                                     grammar->Repeat(digit, 0, 19)})}),
         grammar->Optional(grammar->Sequence({grammar->Text("."), grammar->Repeat(digit, 1, 20)})),
         grammar->Optional(
             grammar->Sequence({grammar->Class(CodeSet{{'E', 'E'}, {'e', 'e'}}),
                                grammar->Optional(grammar->Class(CodeSet{{'+', '+'}, {'-', '-'}})),
                                grammar->Repeat(digit, 1, 2)}))});
  }
  // Digits in front of the point and behind it, that the bounds are within.
  int whole = 1, fraction = 0;
  bool has_least = false, has_most = false;
  for (const bool least : {true, false}) {
    for (const NumberBound& bound : least ? range.least : range.most) {
      if (bound.exponent > kNumberDigits && !bound.digits.empty()) {
        if (bound.negative == least) continue;  // so far out that it bounds nothing here
        return grammar->Nothing();
      }
      (least ? has_least : has_most) = true;
      whole = std::max(whole, bound.exponent);
      fraction = std::max(fraction, static_cast<int>(bound.digits.size()) - bound.exponent);
    }
  }
  if (!has_least || !has_most) whole = std::max(whole, kUsualWhole);
  fraction = std::min(std::max(fraction, kUsualFraction), kNumberDigits - whole);
  const int64_t most = Power(whole + fraction) - 1;
  int64_t low = -most, high = most;
  for (const NumberBound& bound : range.least) low = std::max(low, Scale(bound, fraction, true));
  for (const NumberBound& bound : range.most) high = std::min(high, Scale(bound, fraction, false));
  if (low > high) return grammar->Nothing();
  return Between(grammar, low, high, fraction, 1);
}

}  // namespace engine::guided
