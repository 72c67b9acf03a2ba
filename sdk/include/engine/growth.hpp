// Reading, copying and filling structs that grow: rule 5 of abi.h, for C++.
#ifndef ENGINE_GROWTH_HPP_
#define ENGINE_GROWTH_HPP_

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "engine/abi.h"
#include "engine/sizes.hpp"
#include "engine/status.hpp"

namespace engine {

// Element `i` of an array of structs that another side may know larger or smaller.
template <typename T>
const T& At(const T* array, size_t i) {
  return *ENGINE_AT(array, i);
}

// Refuses a struct that lacks what the first release of its kind had; `what` names it.
template <typename T>
Status CheckComplete(const T* p, std::string_view what) {
  if (Complete(p)) return Status();
  if (p == nullptr) return Error(ENGINE_INVALID_ARGUMENT, what, " is a null pointer");
  return Error(ENGINE_INVALID_ARGUMENT, what, " has a struct_size of ", p->struct_size,
               "; the least is ", kFirstSize<T>);
}

// An empty struct with its size set.
template <typename T>
T Sized() {
  T made = {};
  made.struct_size = sizeof(T);
  return made;
}

// What both sides know of `from`, and zeros for the rest.
template <typename T>
T Known(const T& from) {
  static_assert(std::is_trivially_copyable_v<T>);
  T to = {};
  std::memcpy(static_cast<void*>(&to), &from, std::min<size_t>(from.struct_size, sizeof(T)));
  to.struct_size = sizeof(T);
  return to;
}

// Fills a struct that the other side allocated: no more of it than it has, and zeros for what this
// side does not know.
template <typename T>
void Give(const T& value, T* out) {
  static_assert(std::is_trivially_copyable_v<T>);
  const uint32_t room = out->struct_size;
  std::memcpy(static_cast<void*>(out), &value, std::min<size_t>(room, sizeof(T)));
  if (room > sizeof(T)) {
    std::memset(reinterpret_cast<char*>(out) + sizeof(T), 0, room - sizeof(T));
  }
  if (room >= sizeof room) out->struct_size = room;
}

}  // namespace engine

#endif  // ENGINE_GROWTH_HPP_
