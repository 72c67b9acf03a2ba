// What a plugin's create() gave is looked at before anything of it is called.
#ifndef ENGINE_ABI_INSTANCE_H_
#define ENGINE_ABI_INSTANCE_H_

#include <string>

#include "engine/growth.hpp"

namespace engine::abi {

// Refuses a table of functions that is too short or lacks one of `needed`. `what` is whose it is,
// "a node of kind 'upper'"; `names` are the needed functions in words.
template <typename Table, typename... Functions>
Status CheckInstance(const Table* table, const std::string& what, const char* names,
                     Functions Table::*... needed) {
  ENGINE_RETURN_IF_ERROR(CheckComplete(table, "the table of " + what));
  if (((table->*needed == nullptr) || ...)) {
    return Error(ENGINE_INTERNAL, what, " lacks ", names);
  }
  return Status();
}

}  // namespace engine::abi

#endif  // ENGINE_ABI_INSTANCE_H_
