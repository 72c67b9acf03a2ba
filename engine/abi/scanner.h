// Loads files in a child process first, so that a crash, an exit or a hang becomes a reason that is
// written down. One child takes many files; after a file that ended it, another goes on behind.
// Invariant: when a call returns, no child and no descriptor of it is left.
#ifndef ENGINE_ABI_SCANNER_H_
#define ENGINE_ABI_SCANNER_H_

#include <chrono>
#include <string>
#include <vector>

#include "engine/abi/verdict.h"

namespace engine::abi {

struct ScanOptions {
  // The program and its first words; "3", the descriptor to report on, and the files follow. It
  // calls RunScanChild.
  std::vector<std::string> command;
  std::chrono::milliseconds limit{10000};         // for each file
  std::chrono::milliseconds start_limit{120000};  // until the child is ready
};

// ENGINE_SCAN_TIMEOUT_MS, or 10 s when it is not set to a number from 1 to 3600000.
std::chrono::milliseconds ScanLimit();

// A verdict for each file, in order. Where the scanner itself failed the verdict is kUnknown, and
// `trouble` says why.
std::vector<Verdict> Scan(const ScanOptions& options, const std::vector<std::string>& files,
                          std::string* trouble);

}  // namespace engine::abi

#endif  // ENGINE_ABI_SCANNER_H_
