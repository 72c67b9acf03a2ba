// Why a text is not the JSON object that was expected, in words for a message.
#ifndef ENGINE_MODEL_FORMATS_JSON_PROBLEM_H_
#define ENGINE_MODEL_FORMATS_JSON_PROBLEM_H_

#include <string>
#include <string_view>

namespace engine::model {

// REQUIRES: `text` did not parse as a JSON object. "it is not a JSON object: byte 17 does not fit".
std::string JsonProblem(std::string_view text);

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_JSON_PROBLEM_H_
