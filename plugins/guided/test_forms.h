// What the tests of this folder share: a small vocabulary, whole texts held against a form, and
// outputs that pick among what is allowed.
#ifndef PLUGINS_GUIDED_TEST_FORMS_H_
#define PLUGINS_GUIDED_TEST_FORMS_H_

#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "guide.h"

namespace engine::guided {

constexpr int32_t kEndToken = 256, kSpecialToken = 257;

// All single bytes (token 65 is 'A'), an end token, a special one, and some of several bytes, parts
// of UTF-8 sequences among them.
std::shared_ptr<const Vocabulary> TestVocabulary();

// The usual ones, with time enough for sanitizers.
Limits TestLimits();

// Whether the text is complete in the form. A form that does not compile fails the test.
bool Fits(Kind kind, std::string_view form, std::string_view text);
// Whether something may follow it, or it is complete.
bool Begins(Kind kind, std::string_view form, std::string_view text);
// The message of the refusal; empty when the form compiles.
std::string RefusalOf(Kind kind, std::string_view form, const Limits& limits = TestLimits());
engine_code CodeOf(Kind kind, std::string_view form, const Limits& limits = TestLimits());

// Tokens picked at random among those allowed, until an end token; later on the shortest way out is
// preferred. False when a mask is empty or missing, an error comes, or it does not end.
bool RandomOutput(Guide* guide, const Vocabulary& vocabulary, uint64_t stream, std::mt19937* random,
                  std::string* text, std::string* problem);

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_TEST_FORMS_H_
