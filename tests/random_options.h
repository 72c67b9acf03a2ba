// Random options of a kind, from the schema that its plugin carries: most of each is what the
// schema allows, at the borders of its types and annotations, and some of it nobody would send.
// Invariant: by the seed alone, and of bounded size.
#ifndef TESTS_RANDOM_OPTIONS_H_
#define TESTS_RANDOM_OPTIONS_H_

#include <cstdint>
#include <random>
#include <string>

namespace google::protobuf {
class Descriptor;
class FieldDescriptor;
}  // namespace google::protobuf

namespace engine::tests {

class RandomOptions {
 public:
  RandomOptions(const google::protobuf::Descriptor& type, uint64_t seed)
      : type_(type), random_(seed) {}

  struct Text {
    std::string block;   // what stands between the braces, in one or more lines
    bool wrong = false;  // holds something that no schema allows
    bool deep = false;   // deeper than the language allows, which ends the reading
  };
  Text MakeText();
  // The message in protobuf's wire format, or bytes that pretend to be it.
  std::string MakeWire();

 private:
  bool Chance(int percent) { return random_() % 100 < static_cast<uint64_t>(percent); }
  int Count(const google::protobuf::FieldDescriptor& field);
  uint64_t Integer(const google::protobuf::FieldDescriptor& field);
  double Number(const google::protobuf::FieldDescriptor& field);
  std::string String(const google::protobuf::FieldDescriptor& field);

  void AddText(const google::protobuf::Descriptor& type, int depth, Text* out);
  std::string TextValue(const google::protobuf::FieldDescriptor& field);
  std::string WireOf(const google::protobuf::Descriptor& type, int depth);
  void AddWire(const google::protobuf::FieldDescriptor& field, int depth, std::string* out);

  const google::protobuf::Descriptor& type_;
  std::mt19937_64 random_;
};

}  // namespace engine::tests

#endif  // TESTS_RANDOM_OPTIONS_H_
