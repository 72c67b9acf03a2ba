// Versions (semver.org) and ranges of them, as a pipeline's `require` writes them.
#ifndef ENGINE_GRAPH_SEMVER_H_
#define ENGINE_GRAPH_SEMVER_H_

#include <string>
#include <string_view>

namespace engine::graph {

// "1.2.3", "1.2", "1", "1.2.3-rc.1+build". False when it is none.
bool IsVersion(std::string_view text);

// Less than 0, 0, or greater, by the precedence of semver. REQUIRES: both are versions.
int CompareVersions(std::string_view a, std::string_view b);

// Whether `version` is in `range`: comparators apart by spaces that must all hold (>= > <= < =,
// ^ up to the next change that may break, ~ up to the next minor version). An empty range, or "*",
// holds for all. On a malformed range `error` says which part, and the answer is false.
bool InRange(std::string_view version, std::string_view range, std::string* error);

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_SEMVER_H_
