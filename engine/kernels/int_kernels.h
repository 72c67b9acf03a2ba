// Which of a road's kernels computes an integer matrix at a number of rows. All of them give the
// same bits, so the choice is one of speed: measured on this machine, and kept in a file for the
// next start. Invariant: a kernel other than the road's first serves only after it gave the first
// one's bits in this process.
#ifndef ENGINE_KERNELS_INT_KERNELS_H_
#define ENGINE_KERNELS_INT_KERNELS_H_

#include <span>
#include <string>

#include "engine/kernels/packed.h"
#include "engine/kernels/road.h"

namespace engine::kernels {

using PanelsFn = void (*)(const PanelArgs&, int64_t begin, int64_t end);

inline PanelsFn PanelsOf(const IntKernel& kernel, const IntScheme& scheme) {
  if (scheme.bits == 8) return kernel.panels_int8;
  return scheme.minimum ? kernel.panels_int4_minimum : kernel.panels_int4;
}

// Of the active road; its first kernel until a choice was made. Any thread.
const IntKernel& IntKernelFor(const IntScheme& scheme, int64_t rows);

// Chooses for the schemes of a model, before it serves: by `file` where it holds this machine's
// choices, else by measurements of a few milliseconds each, which `file` then keeps. An empty path,
// or one that cannot be written, keeps nothing; a file that says nonsense counts as none.
void ChooseIntKernels(std::span<const IntScheme> schemes, const std::string& file);

// What was chosen for the active road, for a report: "s8/32: 1 NAME, 2 NAME, ...; ...".
std::string IntKernelReport();

// True when `kernel` gives the bits of `truth` for the scheme, extremes of codes included.
bool SameBits(const IntKernel& kernel, const IntKernel& truth, const IntScheme& scheme,
              int64_t rows);

// The name of a file of choices for this machine and these kernels.
std::string IntKernelFileName();

}  // namespace engine::kernels

#endif  // ENGINE_KERNELS_INT_KERNELS_H_
