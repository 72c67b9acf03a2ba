// Random JSON schemas, always the same for a seed, and a validator that shares nothing with the
// code under test.
#ifndef PLUGINS_GUIDED_TEST_SCHEMAS_H_
#define PLUGINS_GUIDED_TEST_SCHEMAS_H_

#include <nlohmann/json.hpp>
#include <random>
#include <string>

namespace engine::guided {

nlohmann::ordered_json RandomSchema(std::mt19937* random);

// For the keywords that RandomSchema writes, formats aside.
bool IsValid(const nlohmann::ordered_json& value, const nlohmann::ordered_json& schema,
             const nlohmann::ordered_json& document);

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_TEST_SCHEMAS_H_
