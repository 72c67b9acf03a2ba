// Shared libraries as the scanner reads them before it loads any: exports, needs, manifest.
#include "bytes_file.h"
#include "engine/abi/elf.h"

using namespace engine::abi;

namespace {

// What the reader may keep of one file, whatever the file says.
constexpr size_t kMostListed = 4096;

bool Same(const ElfFacts& a, const ElfFacts& b) {
  return a.exports == b.exports && a.needed == b.needed && a.search == b.search &&
         a.has_manifest == b.has_manifest && a.manifest.has_value() == b.manifest.has_value();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ElfFacts facts;
  ElfProblem problem;
  const bool good =
      ParseElf(std::string_view(reinterpret_cast<const char*>(data), size), &facts, &problem);
  // A refusal says what is wrong and what to do.
  if (good != problem.because.empty() || good != problem.fix.empty()) __builtin_trap();
  if (facts.exports.size() > kMostListed || facts.needed.size() > kMostListed ||
      facts.search.size() > kMostListed) {
    __builtin_trap();
  }
  // A file is read as its bytes are.
  const BytesFile file(data, size);
  ElfFacts read;
  ElfProblem of_file;
  if (ReadElf(file.path(), &read, &of_file) != good || of_file.because != problem.because ||
      !Same(read, facts)) {
    __builtin_trap();
  }
  return 0;
}
