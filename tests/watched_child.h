// Work that may crash, hang or eat memory, in a child process: it goes on behind the case that
// ended it, and each such case is a failure of the test that names it.
#ifndef TESTS_WATCHED_CHILD_H_
#define TESTS_WATCHED_CHILD_H_

#include <cstdint>
#include <functional>
#include <string>

namespace engine::tests {

// What parent and child share.
struct ChildNotes {
  volatile uint64_t at;                   // the case under way
  volatile uint64_t counts[8];            // for the body's own figures
  volatile uint64_t rss_begin, rss_peak;  // bytes, of the last child
  char failure[4000];                     // of the body, for example by Fail
};

class ChildBody {
 public:
  virtual ~ChildBody() = default;
  // In the child, once: what all cases need.
  virtual void Prepare() = 0;
  virtual void Case(uint64_t i, ChildNotes* notes) = 0;
  // In the parent or the child; names a case in a failure.
  virtual std::string Name(uint64_t i) = 0;
};

// Cases 0 to count - 1, each at most `seconds`; gives up after five that ended badly. Answers the
// notes of the last child.
ChildNotes RunWatched(ChildBody* body, uint64_t count, int seconds);

// ENGINE_TEST_SCALE: a factor on how many random cases there are; 1 when it is not set.
double TestScale();

}  // namespace engine::tests

#endif  // TESTS_WATCHED_CHILD_H_
