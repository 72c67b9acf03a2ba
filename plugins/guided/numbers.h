// JSON numbers within bounds, as syntax trees.
//
// Bounded numbers are decimals without exponent. Integers have up to 18 digits; other numbers up to
// 15 digits in all, so that any two of them are different doubles and a validator that compares
// doubles comes to the same result as one that compares decimals.
#ifndef PLUGINS_GUIDED_NUMBERS_H_
#define PLUGINS_GUIDED_NUMBERS_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ast.h"

namespace engine::guided {

struct NumberBound {
  // The value is 0.DIGITS times ten to the power of `exponent`, exactly what the JSON text says as
  // far as a double tells it; no digits are zero.
  std::string digits;
  int exponent = 0;
  bool negative = false;
  bool exclusive = false;
};

// False for what is not a finite number.
bool MakeBound(const nlohmann::ordered_json& number, bool exclusive, NumberBound* bound);

struct NumberRange {
  std::vector<NumberBound> least, most;  // all of them hold
  uint32_t multiple = 1;                 // of integers
};

// Without bounds: 18 digits, or what IEEE doubles hold. Nothing() when no number of the forms above
// lies within the bounds.
Node Integer(Grammar* grammar, const NumberRange& range);
Node Number(Grammar* grammar, const NumberRange& range);

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_NUMBERS_H_
