// The other side of torch_ops_test: the same functions through LibTorch's own C++ API, whose
// headers cannot meet the stable ones in one file.
#ifndef ENGINE_MODEL_TORCH_OPS_REFERENCE_H_
#define ENGINE_MODEL_TORCH_OPS_REFERENCE_H_

#include <string>
#include <vector>

#include "engine/ext/autograd.h"

namespace engine::model {

// Result of the named function, then the gradient of the sum of its squares for every input that
// asks for one (null for the others). Handles are new.
std::vector<AtenTensorHandle> Reference(const std::string& function,
                                        const std::vector<AtenTensorHandle>& inputs);

}  // namespace engine::model

#endif  // ENGINE_MODEL_TORCH_OPS_REFERENCE_H_
