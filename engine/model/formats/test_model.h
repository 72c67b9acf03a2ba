// The model that tests read. An absent model fails the test: a check that is skipped checks
// nothing.
#ifndef ENGINE_MODEL_FORMATS_TEST_MODEL_H_
#define ENGINE_MODEL_FORMATS_TEST_MODEL_H_

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace engine::model {

inline std::string TestModelPath() {
  const char* from_environment = std::getenv("ENGINE_TEST_MODEL");
  const std::string path =
      from_environment != nullptr
          ? from_environment
          : std::string(ENGINE_SOURCE_DIR "/models/smollm2-135m-instruct.gguf");
  EXPECT_TRUE(std::ifstream(path).good())
      << "the test model '" << path
      << "' is not there; run `make test` or `make demo`, which fetch it, or set ENGINE_TEST_MODEL";
  return path;
}

// A path in the temporary folder, removed at the end.
class TempPath {
 public:
  explicit TempPath(const std::string& suffix = "")
      : path_(::testing::TempDir() + "engine_formats_" + std::to_string(getpid()) + "_" +
              std::to_string(counter_++) + suffix) {}
  ~TempPath() { unlink(path_.c_str()); }
  const std::string& str() const { return path_; }
  void Write(const std::string& bytes) const {
    std::ofstream(path_, std::ios::binary | std::ios::trunc)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

 private:
  static inline int counter_ = 0;
  std::string path_;
};

}  // namespace engine::model

#define ASSERT_STATUS_OK(expr)                      \
  do {                                              \
    const ::engine::Status status_ = (expr);        \
    ASSERT_TRUE(status_.ok()) << status_.message(); \
  } while (0)

// The expression is an error whose message holds these words.
#define EXPECT_REFUSED(expr, words)                                          \
  do {                                                                       \
    const ::engine::Status status_ = (expr);                                 \
    EXPECT_FALSE(status_.ok()) << "was accepted; expected: " << (words);     \
    EXPECT_NE(std::string(status_.message()).find(words), std::string::npos) \
        << "expected: " << (words) << "\nfound: " << status_.message();      \
  } while (0)

#endif  // ENGINE_MODEL_FORMATS_TEST_MODEL_H_
