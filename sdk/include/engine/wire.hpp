// Reads protobuf wire format, for the readers that the options generator writes. The host has
// checked the bytes against the schema; this still checks every length, since it costs nothing.
// Format: https://protobuf.dev/programming-guides/encoding/
#ifndef ENGINE_WIRE_HPP_
#define ENGINE_WIRE_HPP_

#include <bit>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "engine/status.hpp"

namespace engine::wire {

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  // The next field's number, or 0 at the end or after an error.
  uint32_t Next() {
    if (failed_ || at_ == bytes_.size()) return 0;
    const uint64_t tag = Varint();
    type_ = static_cast<uint32_t>(tag & 7);
    return failed_ ? 0 : static_cast<uint32_t>(tag >> 3);
  }
  bool failed() const { return failed_; }

  uint64_t U64() { return Scalar(); }
  int64_t I64() { return static_cast<int64_t>(Scalar()); }
  int64_t S64() {
    const uint64_t v = Scalar();
    return static_cast<int64_t>(v >> 1) ^ -static_cast<int64_t>(v & 1);
  }
  bool Bool() { return Scalar() != 0; }
  double F64() { return std::bit_cast<double>(Fixed(8)); }
  float F32() { return std::bit_cast<float>(static_cast<uint32_t>(Fixed(4))); }
  uint64_t Fixed64() { return Fixed(8); }
  uint32_t Fixed32() { return static_cast<uint32_t>(Fixed(4)); }
  std::string_view Bytes() {
    if (type_ != 2) return Fail();
    const uint64_t size = Varint();
    if (failed_ || size > bytes_.size() - at_) return Fail();
    const std::string_view out = bytes_.substr(at_, size);
    at_ += size;
    return out;
  }
  void Skip() {
    switch (type_) {
      case 0:
        Varint();
        return;
      case 1:
        Fixed(8);
        return;
      case 2:
        Bytes();
        return;
      case 5:
        Fixed(4);
        return;
      default:
        failed_ = true;
    }
  }

 private:
  std::string_view Fail() {
    failed_ = true;
    return {};
  }
  uint64_t Scalar() {
    if (type_ != 0) failed_ = true;
    return failed_ ? 0 : Varint();
  }
  uint64_t Varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && at_ < bytes_.size(); shift += 7) {
      const auto byte = static_cast<uint8_t>(bytes_[at_++]);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return value;
    }
    failed_ = true;
    return 0;
  }
  uint64_t Fixed(size_t size) {
    uint64_t value = 0;
    if ((size == 8 && type_ != 1) || (size == 4 && type_ != 5) || size > bytes_.size() - at_) {
      failed_ = true;
      return 0;
    }
    std::memcpy(&value, bytes_.data() + at_, size);
    at_ += size;
    return value;
  }

  std::string_view bytes_;
  size_t at_ = 0;
  uint32_t type_ = 0;
  bool failed_ = false;
};

// "1GiB", "512 MiB", "1.5GB", "4096": a size in bytes; binary and decimal units.
inline Status ParseByteSize(std::string_view text, uint64_t* out) {
  const auto wrong = [&] {
    return Error(ENGINE_INVALID_ARGUMENT, "size '", text,
                 "' is not a number of bytes; write \"512MiB\" or \"1GiB\"");
  };
  double number = 0;
  const auto [end, problem] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (problem != std::errc() || !(number >= 0)) return wrong();
  std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  while (!unit.empty() && unit[0] == ' ') unit.remove_prefix(1);
  struct Unit {
    const char* name;
    double factor;
  };
  static constexpr Unit kUnits[] = {{"", 1},
                                    {"B", 1},
                                    {"kB", 1e3},
                                    {"KB", 1e3},
                                    {"MB", 1e6},
                                    {"GB", 1e9},
                                    {"TB", 1e12},
                                    {"KiB", 1024.0},
                                    {"MiB", 1048576.0},
                                    {"GiB", 1073741824.0},
                                    {"TiB", 1099511627776.0}};
  for (const Unit& u : kUnits) {
    if (unit != u.name) continue;
    const double bytes = number * u.factor;
    if (bytes > 9e18) break;
    *out = static_cast<uint64_t>(bytes);
    return Status();
  }
  return wrong();
}

}  // namespace engine::wire

#endif  // ENGINE_WIRE_HPP_
