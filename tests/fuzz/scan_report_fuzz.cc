// What the scanner's child tells of the files that it loads, and what they print beside it.
#include <cstdlib>

#include "bytes_file.h"
#include "engine/abi/scanner.h"

using namespace engine::abi;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  setenv("ENGINE_SCAN_TIMEOUT_MS", text.substr(0, text.find('\n')).c_str(), 1);
  const auto set = ScanLimit().count();
  unsetenv("ENGINE_SCAN_TIMEOUT_MS");
  if (set < 1 || set > 3600000 || ScanLimit().count() != 10000) __builtin_trap();

  const BytesFile bytes(data, size);
  // A child of its own would cost more than all the rest: this one prints the first line, reports
  // the whole, and may crash then. Descriptor 3 is the report's; $1 names it and $2 the first file.
  ScanOptions options;
  options.command = {"/bin/sh", "-c",
                     R"(read -r l <"$2"; echo "$l"
                        case $l in crash*) cat <"$2" >&3; kill -11 $$;; esac
                        exec cat <"$2" >&3)",
                     "sh"};
  options.limit = std::chrono::milliseconds(5000);
  options.start_limit = std::chrono::milliseconds(5000);
  const std::string file = "/proc/" + std::to_string(getpid()) + bytes.path().substr(10);
  const std::vector<std::string> files(2, file);
  std::string trouble;
  const std::vector<Verdict> verdicts = Scan(options, files, &trouble);
  if (verdicts.size() != files.size()) __builtin_trap();
  for (const Verdict& verdict : verdicts) {
    if (verdict.kind == Verdict::Kind::kUnknown && trouble.empty()) __builtin_trap();
    if (verdict.kind != Verdict::Kind::kRefused) continue;
    if (verdict.refusal.path != file || verdict.refusal.reason.empty()) __builtin_trap();
  }
  return 0;
}
