// Random messages of options: valid ones, that keep the annotations of their schema, and bytes that
// are none.
#ifndef ENGINE_CLI_CONFORMANCE_RANDOM_OPTIONS_H_
#define ENGINE_CLI_CONFORMANCE_RANDOM_OPTIONS_H_

#include <cstdint>
#include <random>
#include <string>

namespace google::protobuf {
class Descriptor;
}

namespace engine::conformance {

class RandomOptions {
 public:
  // `message` may be null: no options, always empty. `file` is an existing file, for options that
  // name one.
  RandomOptions(const google::protobuf::Descriptor* message, uint64_t seed, std::string file);

  // The wire bytes of a message that sets what must be given and nothing else, but for options that
  // name a file to read, when they are wanted too.
  std::string Least(bool with_files = false);
  std::string Valid();
  // A valid message with bytes changed, cut or added, or any bytes at all.
  std::string Broken();
  // The last message as text, for a report.
  const std::string& text() const { return text_; }

 private:
  const google::protobuf::Descriptor* message_;
  std::mt19937_64 random_;
  std::string file_, text_;
};

}  // namespace engine::conformance

#endif  // ENGINE_CLI_CONFORMANCE_RANDOM_OPTIONS_H_
