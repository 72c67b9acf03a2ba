// What a scan found of one file, and its form as JSON, in which it goes from the child to the host
// and into the cache.
#ifndef ENGINE_ABI_VERDICT_H_
#define ENGINE_ABI_VERDICT_H_

#include <nlohmann/json_fwd.hpp>

#include "engine/abi/refusal.h"

namespace engine::abi {

struct Verdict {
  enum class Kind {
    kUnknown,   // the scanner itself did not come to an answer
    kHarmless,  // it may be loaded here
    kRefused,
  };
  Kind kind = Kind::kUnknown;
  Refusal refusal;  // kRefused
};

nlohmann::json RefusalToJson(const Refusal& refusal);
// False when it has not the form; `refusal` is then untouched. The path is not part of it.
bool RefusalFromJson(const nlohmann::json& json, Refusal* refusal);

// One line, with bytes that are no UTF-8 replaced.
std::string JsonLine(const nlohmann::json& json);

}  // namespace engine::abi

#endif  // ENGINE_ABI_VERDICT_H_
