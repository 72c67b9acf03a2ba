// Stand-in plugins for tests: the kinds of the design's example, and small ones that bring out each
// check. Descriptions only; nothing runs.
#ifndef ENGINE_GRAPH_TESTING_FAKE_KINDS_H_
#define ENGINE_GRAPH_TESTING_FAKE_KINDS_H_

#include <string>
#include <string_view>

#include "engine/abi/kind.h"

namespace engine::graph::testing {

// A serialized FileDescriptorSet, with source info, of one file "options.proto".
std::string CompileSchema(std::string_view proto);

const abi::KindIndex& FakeKinds();

// The example of the design, section 5, to the letter.
std::string DesignExample();

}  // namespace engine::graph::testing

#endif  // ENGINE_GRAPH_TESTING_FAKE_KINDS_H_
