// The plain road: one float at a time, for machines without the vectors of the others and as the
// reference that tests compare with.
#include <cmath>
#include <cstdint>
#include <iterator>
#include <type_traits>

#include "engine/kernels/packed.h"
#include "engine/kernels/road.h"
#include "engine/util.hpp"

namespace engine::kernels {
namespace {

// Each uses what the one before defines.
// clang-format off
#include "engine/kernels/vector_plain_inl.h"
#include "engine/kernels/road_inl.h"
// clang-format on

constexpr IntKernel kIntKernels[] = {IntKernelOf<PlainTiling>("plain")};
}  // namespace

const Road& PlainRoad() {
  static constexpr Road road = RoadWith(kIntKernels, std::size(kIntKernels));
  return road;
}

}  // namespace engine::kernels
