// The host's engine.autograd/1 and what else needs LibTorch's own C++ headers. Few files include
// them (autograd.cc, loss.cc and those that begin with train_): they cost half a minute a file.
#ifndef ENGINE_MODEL_AUTOGRAD_H_
#define ENGINE_MODEL_AUTOGRAD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "engine/ext/autograd.h"
#include "engine/runtime/thread_state.h"
#include "engine/status.hpp"

namespace engine::model {

const engine_autograd* AutogradHost();

// True while a checkpointed stretch runs again on this thread.
bool Replaying();
// Products on this thread run in bf16 while it lives, or in the dtype of their inputs.
class NarrowGuard {
 public:
  explicit NarrowGuard(bool on);
  ~NarrowGuard();
  NarrowGuard(const NarrowGuard&) = delete;
  NarrowGuard& operator=(const NarrowGuard&) = delete;

 private:
  const bool enabled_;
  const int dtype_;
};
bool NarrowProducts();

// LibTorch's thread-local state of the calling thread, to be carried onto others.
std::unique_ptr<runtime::ThreadState> CaptureThreadState();
// Threads that LibTorch and the kernels compute with; also sets the kernels' pool.
void SetComputeThreads(int threads);
int ComputeThreads();
// Threads of LibTorch's own operators alone. Its team spins for a while after each of them and
// takes the cores from the kernels' pool, so where the kernels do the work it is one thread.
void SetTorchThreads(int threads);
// TORCH_ABI_VERSION of the LibTorch that runs, and its readable fingerprint.
uint64_t TorchAbiVersion();
std::string TorchFingerprint();

}  // namespace engine::model

#endif  // ENGINE_MODEL_AUTOGRAD_H_
