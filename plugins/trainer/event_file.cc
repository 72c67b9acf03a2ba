#include "event_file.h"

#include <array>
#include <cstring>

namespace engine::trainer {
namespace {

// Numbers of fields, and the wire types of protobuf.
enum Event : uint32_t { kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5 };
enum Summary : uint32_t { kValue = 1 };
enum Value : uint32_t { kTag = 1, kSimpleValue = 2 };
enum Wire : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void PutVarint(uint64_t value, std::string* to) {
  for (; value >= 0x80; value >>= 7) *to += static_cast<char>(value | 0x80);
  *to += static_cast<char>(value);
}

template <typename T>
void PutFixed(T value, std::string* to) {
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  to->append(bytes, sizeof bytes);
}

void PutField(uint32_t field, Wire wire, std::string* to) { PutVarint(field << 3 | wire, to); }

void PutBytes(uint32_t field, std::string_view bytes, std::string* to) {
  PutField(field, kBytes, to);
  PutVarint(bytes.size(), to);
  to->append(bytes);
}

constexpr std::array<uint32_t, 256> CrcTable() {
  std::array<uint32_t, 256> table = {};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
    table[i] = crc;
  }
  return table;
}

}  // namespace

uint32_t Crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = CrcTable();
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes) crc = kTable[(crc ^ static_cast<uint8_t>(c)) & 0xff] ^ (crc >> 8);
  return ~crc;
}

uint32_t MaskedCrc32c(std::string_view bytes) {
  const uint32_t crc = Crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

std::string Record(std::string_view bytes) {
  std::string out;
  PutFixed<uint64_t>(bytes.size(), &out);
  PutFixed(MaskedCrc32c(out), &out);
  out.append(bytes);
  PutFixed(MaskedCrc32c(bytes), &out);
  return out;
}

std::string VersionEvent(double wall_time) {
  std::string event;
  PutField(kWallTime, kFixed64, &event);
  PutFixed(wall_time, &event);
  PutBytes(kFileVersion, "brain.Event:2", &event);
  return event;
}

std::string ScalarEvent(double wall_time, int64_t step,
                        const std::vector<std::pair<std::string_view, double>>& scalars) {
  std::string summary;
  for (const auto& [tag, number] : scalars) {
    std::string value;
    PutBytes(kTag, tag, &value);
    PutField(kSimpleValue, kFixed32, &value);
    PutFixed(static_cast<float>(number), &value);
    PutBytes(kValue, value, &summary);
  }
  std::string event;
  PutField(kWallTime, kFixed64, &event);
  PutFixed(wall_time, &event);
  PutField(kStep, kVarint, &event);
  PutVarint(static_cast<uint64_t>(step), &event);
  PutBytes(kSummary, summary, &event);
  return event;
}

}  // namespace engine::trainer
