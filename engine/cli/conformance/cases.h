// engine plugin test: what a plugin's author says of it in a file of cases, held against it.
//
//   case {
//     name: "capitals"
//     node { upper { times: 2 } }
//     use { slot: "WORDS"  words { path: "list" } }     # a resource of the plugin, or of a shipped
//     one in { TEXT: "a" }   out { TEXT: "A A" }             # in pairs, in order; an `in` may have
//     none run { }            out { TEXT: "x" finish: true }  # of a source: until it is done
//   }
//   case {
//     resource { words { path: "nowhere" } }
//     error: "cannot be read"          # part of the message; of a node, transform or resource
//   }
//   case {
//     transform { lora { rank: 4 } }   model { blocks: 2  hidden: 64 }
//     sites: 4   site: "q_proj"        # how many, and patterns that all of them match
//     same_as_base: 1e-5               # greatest difference of a logit; or differs_from_base: true
//     gradients: true                  # of all trained tensors: finite, and not all zero
//   }
#ifndef ENGINE_CLI_CONFORMANCE_CASES_H_
#define ENGINE_CLI_CONFORMANCE_CASES_H_

#include <string>

#include "engine/cli/conformance/workbench.h"

namespace engine::conformance {

struct CasesResult {
  int run = 0, failed = 0;
  std::string report;  // a line a case, and what failed with FILE:LINE
};

// INVALID_ARGUMENT, with the place, when the text is no file of cases. `only`: those cases whose
// names hold it.
Status RunCases(Workbench* bench, const std::string& text, const std::string& file,
                const std::string& only, CasesResult* out);

}  // namespace engine::conformance

#endif  // ENGINE_CLI_CONFORMANCE_CASES_H_
