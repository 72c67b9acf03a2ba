#include "engine/cli/conformance/random_options.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/dynamic_message.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "engine/graph/schema.h"
#include "engine/graph/suggest.h"

namespace engine::conformance {
namespace {

namespace pb = google::protobuf;
using Field = pb::FieldDescriptor;
using Random = std::mt19937_64;

uint64_t Below(Random& random, uint64_t n) { return random() % n; }

// A whole number within the annotated range and that of its type; edges come often.
template <typename T>
T Whole(const graph::Annotations& a, Random& random) {
  using Limits = std::numeric_limits<T>;
  T least = Limits::min(), most = Limits::max();
  if (a.min && *a.min > static_cast<double>(least)) least = static_cast<T>(std::ceil(*a.min));
  if (a.max && *a.max < static_cast<double>(most)) most = static_cast<T>(std::floor(*a.max));
  if (least >= most) return least;
  switch (Below(random, 4)) {
    case 0:
      return least;
    case 1:
      return most;
    case 2: {
      // Small ones, which mean something most often.
      const auto small = static_cast<T>(Below(random, 17));
      return std::clamp(small, least, most);
    }
    default: {
      const auto span = static_cast<uint64_t>(most) - static_cast<uint64_t>(least);
      const uint64_t offset = span == UINT64_MAX ? random() : random() % (span + 1);
      return static_cast<T>(static_cast<uint64_t>(least) + offset);
    }
  }
}

double Real(const graph::Annotations& a, Random& random, double widest) {
  const double least = a.min.value_or(-widest), most = a.max.value_or(widest);
  switch (Below(random, 4)) {
    case 0:
      return least;
    case 1:
      return most;
    case 2:
      return std::clamp(static_cast<double>(Below(random, 1001)) / 500 - 1, least, most);
    default:
      return least + (most - least) * (static_cast<double>(random() >> 11) * 0x1p-53);
  }
}

std::string Text(const graph::Annotations& a, const std::string& file, Random& random) {
  static constexpr const char* kSizes[] = {"0", "1", "64KiB", "1MiB", "1.5GB", "4096", "16 GiB"};
  static constexpr const char* kTexts[] = {"",
                                           "a",
                                           "q_proj",
                                           "v_proj",
                                           "*",
                                           "mlp",
                                           "model.layers.*",
                                           "x.txt",
                                           "Gr\xc3\xb6\xc3\x9f"
                                           "e",
                                           " ",
                                           "\n",
                                           "0"};
  if (a.byte_size) return kSizes[Below(random, std::size(kSizes))];
  if (a.existing_path) return file;
  if (Below(random, 20) == 0) return std::string(Below(random, 5000), 'x');
  return kTexts[Below(random, std::size(kTexts))];
}

enum class Wanted { kLeast, kFilesToo, kAny };
void Fill(pb::Message* m, Wanted wanted, int depth, const std::string& file, Random& random);

void Add(pb::Message* m, const Field& f, Wanted wanted, int depth, const std::string& file,
         Random& random) {
  const pb::Reflection& to = *m->GetReflection();
  const graph::Annotations a = graph::AnnotationsOf(f);
  const bool many = f.is_repeated();
#define ENGINE_PUT(Type, value) \
  if (many) {                   \
    to.Add##Type(m, &f, value); \
  } else {                      \
    to.Set##Type(m, &f, value); \
  }                             \
  break
  switch (f.cpp_type()) {
    case Field::CPPTYPE_INT32:
      ENGINE_PUT(Int32, Whole<int32_t>(a, random));
    case Field::CPPTYPE_INT64:
      ENGINE_PUT(Int64, Whole<int64_t>(a, random));
    case Field::CPPTYPE_UINT32:
      ENGINE_PUT(UInt32, Whole<uint32_t>(a, random));
    case Field::CPPTYPE_UINT64:
      ENGINE_PUT(UInt64, Whole<uint64_t>(a, random));
    case Field::CPPTYPE_DOUBLE:
      ENGINE_PUT(Double, Real(a, random, 1e300));
    case Field::CPPTYPE_FLOAT:
      ENGINE_PUT(Float, static_cast<float>(Real(a, random, 1e38)));
    case Field::CPPTYPE_BOOL:
      ENGINE_PUT(Bool, Below(random, 2) == 0);
    case Field::CPPTYPE_STRING:
      ENGINE_PUT(String, Text(a, file, random));
    case Field::CPPTYPE_ENUM: {
      const auto count = static_cast<uint64_t>(f.enum_type()->value_count());
      ENGINE_PUT(Enum, f.enum_type()->value(static_cast<int>(Below(random, count))));
    }
    case Field::CPPTYPE_MESSAGE:
      Fill(many ? to.AddMessage(m, &f) : to.MutableMessage(m, &f), wanted, depth + 1, file, random);
      break;
  }
#undef ENGINE_PUT
}

void Fill(pb::Message* m, Wanted wanted, int depth, const std::string& file, Random& random) {
  const pb::Descriptor& type = *m->GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const Field& f = *type.field(i);
    const graph::Annotations a = graph::AnnotationsOf(f);
    const bool needed =
        a.needed || f.is_required() || (wanted == Wanted::kFilesToo && a.existing_path);
    const bool least = wanted != Wanted::kAny;
    if (!needed && (least || depth > 4 || Below(random, 2) == 0)) continue;
    const uint64_t times = f.is_repeated() && !least ? 1 + Below(random, 3) : 1;
    for (uint64_t t = 0; t < times; ++t) Add(m, f, wanted, depth, file, random);
  }
}

}  // namespace

RandomOptions::RandomOptions(const pb::Descriptor* message, uint64_t seed, std::string file)
    : message_(message), random_(seed), file_(std::move(file)) {}

std::string RandomOptions::Least(bool with_files) {
  text_.clear();
  if (message_ == nullptr) return "";
  pb::DynamicMessageFactory factory;
  const std::unique_ptr<pb::Message> m(factory.GetPrototype(message_)->New());
  Fill(m.get(), with_files ? Wanted::kFilesToo : Wanted::kLeast, 0, file_, random_);
  text_ = m->ShortDebugString();
  return m->SerializeAsString();
}

std::string RandomOptions::Valid() {
  text_.clear();
  if (message_ == nullptr) return "";
  pb::DynamicMessageFactory factory;
  const std::unique_ptr<pb::Message> m(factory.GetPrototype(message_)->New());
  Fill(m.get(), Wanted::kAny, 0, file_, random_);
  text_ = m->ShortDebugString();
  if (text_.size() > 300) text_ = text_.substr(0, 300) + "...";
  return m->SerializeAsString();
}

std::string RandomOptions::Broken() {
  std::string bytes = Valid();
  const auto any = [&] { return static_cast<char>(Below(random_, 256)); };
  if (bytes.empty() || Below(random_, 4) == 0) {
    bytes.assign(Below(random_, 65), '\0');
    for (char& c : bytes) c = any();
  } else {
    for (uint64_t i = 1 + Below(random_, 4); i > 0; --i)
      bytes[Below(random_, bytes.size())] = any();
    if (Below(random_, 3) == 0) bytes.resize(Below(random_, bytes.size() + 1));
    if (Below(random_, 3) == 0) bytes.push_back(any());
  }
  text_ = "bytes";
  for (size_t i = 0; i < bytes.size() && i < 40; ++i) {
    char hex[4];
    std::snprintf(hex, sizeof hex, " %02x",
                  static_cast<unsigned>(static_cast<unsigned char>(bytes[i])));
    text_ += hex;
  }
  return bytes;
}

}  // namespace engine::conformance
