// TensorBoard's event files: TFRecord frames around tensorflow.Event messages, which hold scalars.
// Formats: TensorFlow's record_writer.h (length, masked CRC-32C of the length, data, masked CRC-32C
// of the data), event.proto and summary.proto.
#ifndef PLUGINS_TRAINER_EVENT_FILE_H_
#define PLUGINS_TRAINER_EVENT_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace engine::trainer {

// CRC-32C (Castagnoli), reflected, polynomial 0x1EDC6F41: RFC 3720, B.4.
uint32_t Crc32c(std::string_view bytes);
// As TFRecord stores it: rotated right by 15 bits, plus a constant.
uint32_t MaskedCrc32c(std::string_view bytes);

// The bytes as one record of a TFRecord file.
std::string Record(std::string_view bytes);

// The event that begins a file.
std::string VersionEvent(double wall_time);
// Scalars of one step by their tags; seconds since 1970.
std::string ScalarEvent(double wall_time, int64_t step,
                        const std::vector<std::pair<std::string_view, double>>& scalars);

}  // namespace engine::trainer

#endif  // PLUGINS_TRAINER_EVENT_FILE_H_
