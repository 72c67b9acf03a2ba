// The scanner's child: loads files one after the other and tells, on a descriptor of its own, where
// it is and what it found. That a file may crash it, end it or hang it is its purpose.
//
// A line of JSON for each event:
//   {"ready":true}                        before the first file
//   {"file":0,"step":2}                   file 0 is at this Step
//   {"file":0,"harmless":true}            or {"file":0,"refused":{...}}
//   {"file":0,"kinds":["a"]}              kinds of a file that was refused for its version
//   {"file":0,"done":true}
#ifndef ENGINE_ABI_SCAN_CHILD_H_
#define ENGINE_ABI_SCAN_CHILD_H_

#include <functional>
#include <string>
#include <vector>

#include "engine/abi/load.h"

namespace engine::abi {

// REQUIRES: the host's services are registered. `new_check` gives a fresh check for each file; it
// may be empty. Does not return: the process ends without running what the files left behind for
// its exit.
[[noreturn]] void RunScanChild(int fd, const std::vector<std::string>& files,
                               const std::function<SchemaCheck()>& new_check);

}  // namespace engine::abi

#endif  // ENGINE_ABI_SCAN_CHILD_H_
