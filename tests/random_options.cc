#include "tests/random_options.h"

#include <google/protobuf/descriptor.h>

#include <bit>
#include <cmath>
#include <limits>

#include "engine/graph/schema.h"

namespace engine::tests {
namespace {

namespace pb = google::protobuf;
using Field = pb::FieldDescriptor;

constexpr int kMaxDepth = 6;

// Texts that readers of paths, sizes, patterns, lists, templates and JSON trip over.
const std::string kTexts[] = {
    "",
    "a",
    " ",
    "1GiB",
    "-1GiB",
    "0",
    "1e400",
    "0x10",
    "9223372036854775807TiB",
    "99999999999999999999",
    "nan",
    "inf",
    "*",
    "model.layers.*.mlp.*",
    "model.layers.99999999999999999999.mlp",
    "q_proj=5",
    "=",
    "=5",
    "q_proj=",
    "q_proj=-99999999999999999999",
    "a=1,b=2,,c",
    ",,,,",
    "..",
    ".",
    "/",
    "../../../../no/such",
    "/dev/zero",
    "/dev/null",
    "/dev/full",
    "(a+)+$",
    "(((((((((",
    "[",
    "{",
    "{{",
    "{% for",
    "{{ messages }}",
    "{\"a\":[[[[[[",
    "[0,1,\"x\"]",
    "%s%n%99999999d",
    "\n\r\t",
    std::string("a\0b", 3),
    "\xff\xfe",
    "\xed\xa0\x80",
    "\xf0\x9f\xa6\x8a",
    "\xe2\x80\xae",
    "streams=16 prompt=128 out=64",
    "streams=99999999999 prompt=-1 out=1e9",
    "prompt=1-0",
    "NONE",
    "127.0.0.1:99999999",
};

std::string Escaped(const std::string& text) {
  static const char* kHex = "0123456789abcdef";
  std::string out = "\"";
  for (char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (u >= 32 && u < 127 && c != '"' && c != '\\') {
      out += c;
    } else {
      // Three octal digits: a following digit belongs to nothing.
      out += '\\';
      out += kHex[u >> 6];
      out += kHex[u >> 3 & 7];
      out += kHex[u & 7];
    }
  }
  return out + "\"";
}

void Varint(uint64_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) *out += static_cast<char>(value | 0x80);
  *out += static_cast<char>(value);
}

template <typename T>
void Fixed(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}

bool IsSigned(const Field& field) {
  return field.cpp_type() == Field::CPPTYPE_INT32 || field.cpp_type() == Field::CPPTYPE_INT64;
}

}  // namespace

int RandomOptions::Count(const Field& field) {
  if (field.is_required()) return 1;
  const auto annotations = graph::AnnotationsOf(field);
  if (!annotations.needed && Chance(60)) return 0;
  if (!field.is_repeated()) return 1;
  return static_cast<int>(Chance(2) ? 300 : 1 + random_() % 4);
}

uint64_t RandomOptions::Integer(const Field& field) {
  static constexpr int64_t kBorders[] = {0,          1,
                                         -1,         2,
                                         3,          127,
                                         128,        255,
                                         256,        65535,
                                         65536,      INT32_MAX,
                                         INT32_MIN,  int64_t{INT32_MAX} + 1,
                                         UINT32_MAX, int64_t{1} << 40,
                                         INT64_MAX,  INT64_MIN};
  const auto annotations = graph::AnnotationsOf(field);
  const auto shift = static_cast<int64_t>(random_() % 3) - 1;
  if (annotations.min && Chance(30)) {
    return static_cast<uint64_t>(static_cast<int64_t>(*annotations.min) + shift);
  }
  if (annotations.max && Chance(30) && *annotations.max < 9e18) {
    return static_cast<uint64_t>(static_cast<int64_t>(*annotations.max) + shift);
  }
  if (Chance(30)) return random_() % 100;
  return static_cast<uint64_t>(kBorders[random_() % std::size(kBorders)]);
}

double RandomOptions::Number(const Field& field) {
  using Limits = std::numeric_limits<double>;
  static constexpr double kBorders[] = {0,
                                        -0.0,
                                        0.5,
                                        1,
                                        -1,
                                        1e-3,
                                        1e-30,
                                        Limits::denorm_min(),
                                        1e30,
                                        1e308,
                                        -1e308,
                                        Limits::infinity(),
                                        -Limits::infinity(),
                                        Limits::quiet_NaN()};
  const auto annotations = graph::AnnotationsOf(field);
  if (annotations.min && Chance(30)) return std::nextafter(*annotations.min, Chance(50) ? -9 : 9e9);
  if (annotations.max && Chance(30)) return std::nextafter(*annotations.max, Chance(50) ? -9 : 9e9);
  return kBorders[random_() % std::size(kBorders)];
}

std::string RandomOptions::String(const Field& field) {
  if (random_() % 2000 == 0) return std::string(1 << 20, Chance(50) ? 'x' : '(');
  if (Chance(3)) return std::string(random_() % 5000, '*');
  if (Chance(5)) {
    std::string bytes(random_() % 40, '\0');
    for (char& c : bytes) c = static_cast<char>(random_());
    return bytes;
  }
  if (Chance(5)) return field.name();
  return kTexts[random_() % std::size(kTexts)];
}

std::string RandomOptions::TextValue(const Field& field) {
  switch (field.cpp_type()) {
    case Field::CPPTYPE_BOOL:
      return Chance(50) ? "true" : "false";
    case Field::CPPTYPE_ENUM: {
      const pb::EnumDescriptor& type = *field.enum_type();
      return type.value(static_cast<int>(random_() % static_cast<uint64_t>(type.value_count())))
          ->name();
    }
    case Field::CPPTYPE_FLOAT:
    case Field::CPPTYPE_DOUBLE: {
      char text[40];
      std::snprintf(text, sizeof text, "%.17g", Number(field));
      return text;
    }
    case Field::CPPTYPE_STRING:
      return Escaped(String(field));
    default: {
      const uint64_t value = Integer(field);
      return IsSigned(field) || Chance(10) ? std::to_string(static_cast<int64_t>(value))
                                           : std::to_string(value);
    }
  }
}

void RandomOptions::AddText(const pb::Descriptor& type, int depth, Text* out) {
  for (int i = 0; i < type.field_count(); ++i) {
    const Field& field = *type.field(i);
    int count = Count(field);
    if (count == 1 && !field.is_repeated() && Chance(1)) {
      count = 2;
      out->wrong = true;
    }
    for (int k = 0; k < count; ++k) {
      out->block += " " + field.name();
      const bool message = field.cpp_type() == Field::CPPTYPE_MESSAGE;
      if (Chance(2)) {  // of another type
        out->wrong = true;
        out->block += message ? ": 5" : Chance(50) ? ": { }" : " { deep { deeper: 1 } }";
      } else if (message) {
        out->block += " {";
        if (depth < kMaxDepth) AddText(*field.message_type(), depth + 1, out);
        out->block += " }";
      } else {
        out->block += ": " + TextValue(field);
      }
      if (Chance(10)) out->block += '\n';
    }
  }
  if (Chance(2)) {
    out->wrong = true;
    out->block += " no_such_option: 1";
  }
}

RandomOptions::Text RandomOptions::MakeText() {
  Text out;
  AddText(type_, 0, &out);
  if (random_() % 5000 == 0) {
    out.wrong = out.deep = true;
    for (int i = 0; i < 300; ++i) out.block += " deep {";
    out.block += std::string(300, '}');
  }
  return out;
}

void RandomOptions::AddWire(const Field& field, int depth, std::string* out) {
  static constexpr uint32_t kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;
  uint32_t type = kVarint;
  std::string value;
  switch (field.type()) {
    case Field::TYPE_DOUBLE:
      type = kFixed64;
      Fixed(Number(field), &value);
      break;
    case Field::TYPE_FLOAT:
      type = kFixed32;
      Fixed(static_cast<float>(Number(field)), &value);
      break;
    case Field::TYPE_FIXED64:
    case Field::TYPE_SFIXED64:
      type = kFixed64;
      Fixed(Integer(field), &value);
      break;
    case Field::TYPE_FIXED32:
    case Field::TYPE_SFIXED32:
      type = kFixed32;
      Fixed(static_cast<uint32_t>(Integer(field)), &value);
      break;
    case Field::TYPE_STRING:
    case Field::TYPE_BYTES:
    case Field::TYPE_MESSAGE: {
      type = kBytes;
      std::string inner;
      if (field.cpp_type() == Field::CPPTYPE_STRING) {
        inner = String(field);
      } else if (depth < kMaxDepth) {
        inner = WireOf(*field.message_type(), depth + 1);
      }
      Varint(Chance(1) ? inner.size() + 1 + random_() % 1000 : inner.size(), &value);
      value += inner;
      break;
    }
    case Field::TYPE_ENUM:
      Varint(Chance(90) ? random_() % 6 : random_(), &value);
      break;
    default:
      Varint(Integer(field), &value);
  }
  const auto number = static_cast<uint64_t>(field.number());
  Varint(number << 3 | (Chance(2) ? random_() % 8 : type), out);
  *out += value;
}

std::string RandomOptions::WireOf(const pb::Descriptor& type, int depth) {
  std::string out;
  for (int i = 0; i < type.field_count(); ++i) {
    const Field& field = *type.field(i);
    int count = Count(field);
    if (count == 1 && Chance(2)) count = 2;  // the last one counts
    for (int k = 0; k < count; ++k) AddWire(field, depth, &out);
  }
  if (Chance(5)) {  // a field that nobody knows, of any wire type
    static constexpr uint64_t kNumbers[] = {0, 15, 16, 9999, 19000, (1u << 29) - 1, 1ull << 40};
    Varint(kNumbers[random_() % std::size(kNumbers)] << 3 | random_() % 8, &out);
    out.append(random_() % 20, static_cast<char>(random_()));
  }
  return out;
}

std::string RandomOptions::MakeWire() {
  std::string out = WireOf(type_, 0);
  if (Chance(3)) out.resize(random_() % (out.size() + 1));
  if (Chance(3) && !out.empty()) out[random_() % out.size()] = static_cast<char>(random_());
  if (Chance(1)) out.append(12, '\xff');  // a number without an end
  if (random_() % 500 == 0) {             // deep: the first field in itself
    for (int i = 0; i < 3000; ++i) {
      std::string outer = "\x0a";
      Varint(out.size(), &outer);
      out = outer + out;
    }
  }
  return out;
}

}  // namespace engine::tests
