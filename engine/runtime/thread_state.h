// A seam: what must follow a call onto whichever thread runs it. LibTorch's grad mode, inference
// mode and autocast are thread-local; the part that links LibTorch implements this.
#ifndef ENGINE_RUNTIME_THREAD_STATE_H_
#define ENGINE_RUNTIME_THREAD_STATE_H_

#include <functional>

namespace engine::runtime {

class ThreadState {
 public:
  virtual ~ThreadState() = default;
  // Runs `body` under the state that was captured when this object was made.
  virtual void Around(const std::function<void()>& body) const = 0;
};

}  // namespace engine::runtime

#endif  // ENGINE_RUNTIME_THREAD_STATE_H_
