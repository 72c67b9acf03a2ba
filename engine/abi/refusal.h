// Why a file on the search path was not taken, in the words that a user reads: all facts, one fix.
#ifndef ENGINE_ABI_REFUSAL_H_
#define ENGINE_ABI_REFUSAL_H_

#include <string>
#include <string_view>
#include <vector>

namespace engine::abi {

struct Refusal {
  std::string path;
  std::string id, version;                    // when they could be read
  std::vector<std::string> kinds;             // when they could be read, else empty
  std::string reason;                         // one line
  std::string built_for, this_host, differs;  // where two things do not fit
  std::string fix;
  std::vector<std::string> output;  // the last lines that it wrote before it crashed or hung
};

// "plugin refused: PATH" and a line for each fact that is known. `affects` names the place of a
// pipeline that misses one of its kinds.
std::string RefusalText(const Refusal& refusal, std::string_view affects = {});

// The names of the parts ("torch=2.13.0+cpu;cxx11abi=1") in which two fingerprints differ.
std::string DifferingParts(std::string_view built_for, std::string_view this_host);

// One line without control characters, shortened to what a message can hold.
std::string Printable(std::string_view text);

}  // namespace engine::abi

#endif  // ENGINE_ABI_REFUSAL_H_
