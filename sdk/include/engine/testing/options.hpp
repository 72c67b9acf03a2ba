// Options of a kind from text to the bytes that create() gets, by the schema that the plugin
// carries: a test needs no protobuf, and what the pipeline's checker would refuse is refused here.
// Format: https://protobuf.dev/programming-guides/encoding/ and google/protobuf/descriptor.proto
#ifndef ENGINE_TESTING_OPTIONS_HPP_
#define ENGINE_TESTING_OPTIONS_HPP_

#include <bit>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/testing/text.hpp"
#include "engine/wire.hpp"

namespace engine::testing {

// Numbers of google.protobuf.FieldDescriptorProto.Type.
enum class FieldType : uint32_t {
  kDouble = 1,
  kFloat,
  kInt64,
  kUint64,
  kInt32,
  kFixed64,
  kFixed32,
  kBool,
  kString,
  kGroup,
  kMessage,
  kBytes,
  kUint32,
  kEnum,
  kSfixed32,
  kSfixed64,
  kSint32,
  kSint64
};

struct OptionField {
  std::string name;
  uint32_t number = 0;
  FieldType type = FieldType::kString;
  bool repeated = false;
  std::string type_name;           // of a message or an enum: ".acme.Options"
  std::optional<double> min, max;  // annotations.proto
  bool needed = false, byte_size = false, existing_path = false;
};

// A plugin's FileDescriptorSet as far as options need it.
class OptionSchema {
 public:
  static Status Read(std::string_view set, OptionSchema* out) {
    wire::Reader in(set);
    while (const uint32_t field = in.Next()) {
      if (field == 1) {
        ENGINE_RETURN_IF_ERROR(out->File(in.Bytes()));
      } else {
        in.Skip();
      }
    }
    if (!in.failed()) return Status();
    return Error(ENGINE_INVALID_ARGUMENT, "the plugin's schemas are no FileDescriptorSet");
  }

  // Null for a message that is not there. Names as in engine_kind_desc.options.
  const std::vector<OptionField>* Message(std::string_view name) const {
    const auto it = messages_.find(std::string(".").append(name));
    return it == messages_.end() ? nullptr : &it->second;
  }
  const std::map<std::string, int32_t>* Enum(const std::string& type_name) const {
    const auto it = enums_.find(type_name);
    return it == enums_.end() ? nullptr : &it->second;
  }

  // The message `name` with these fields, in wire format.
  Status Encode(std::string_view name, const std::vector<Field>& fields, std::string* out) const {
    return Encode(name, fields, 0, out);
  }

 private:
  Status File(std::string_view bytes) {
    std::string package;
    std::vector<std::string_view> messages, enums;
    wire::Reader in(bytes);
    while (const uint32_t field = in.Next()) {
      if (field == 2) {
        package = std::string(".").append(in.Bytes());
      } else if (field == 4) {
        messages.push_back(in.Bytes());
      } else if (field == 5) {
        enums.push_back(in.Bytes());
      } else {
        in.Skip();
      }
    }
    for (const auto& m : messages) ENGINE_RETURN_IF_ERROR(AddMessage(package, m, 0));
    for (const auto& e : enums) ENGINE_RETURN_IF_ERROR(AddEnum(package, e));
    return CheckRead(in);
  }
  static Status CheckRead(const wire::Reader& in) {
    if (!in.failed()) return Status();
    return Error(ENGINE_INVALID_ARGUMENT, "the plugin's schemas cannot be read");
  }
  Status AddMessage(const std::string& scope, std::string_view bytes, int depth) {
    if (depth > 32) return Error(ENGINE_INVALID_ARGUMENT, "messages of a schema nest too deep");
    std::string name;
    std::vector<OptionField> fields;
    std::vector<std::string_view> nested, enums;
    wire::Reader in(bytes);
    while (const uint32_t field = in.Next()) {
      if (field == 1) {
        name = scope + "." + std::string(in.Bytes());
      } else if (field == 2) {
        ENGINE_RETURN_IF_ERROR(ReadField(in.Bytes(), &fields.emplace_back()));
      } else if (field == 3) {
        nested.push_back(in.Bytes());
      } else if (field == 4) {
        enums.push_back(in.Bytes());
      } else {
        in.Skip();
      }
    }
    for (const auto& m : nested) ENGINE_RETURN_IF_ERROR(AddMessage(name, m, depth + 1));
    for (const auto& e : enums) ENGINE_RETURN_IF_ERROR(AddEnum(name, e));
    messages_[name] = std::move(fields);
    return CheckRead(in);
  }
  Status AddEnum(const std::string& scope, std::string_view bytes) {
    std::string name;
    std::map<std::string, int32_t> values;
    wire::Reader in(bytes);
    while (const uint32_t field = in.Next()) {
      if (field == 1) {
        name = scope + "." + std::string(in.Bytes());
      } else if (field == 2) {
        std::string value;
        int32_t number = 0;
        wire::Reader one(in.Bytes());
        while (const uint32_t part = one.Next()) {
          if (part == 1) {
            value = std::string(one.Bytes());
          } else if (part == 2) {
            number = static_cast<int32_t>(one.I64());
          } else {
            one.Skip();
          }
        }
        values[value] = number;
      } else {
        in.Skip();
      }
    }
    enums_[name] = std::move(values);
    return CheckRead(in);
  }
  static Status ReadField(std::string_view bytes, OptionField* out) {
    wire::Reader in(bytes);
    while (const uint32_t field = in.Next()) {
      if (field == 1) {
        out->name = std::string(in.Bytes());
      } else if (field == 3) {
        out->number = static_cast<uint32_t>(in.U64());
      } else if (field == 4) {
        out->repeated = in.U64() == 3;
      } else if (field == 5) {
        out->type = static_cast<FieldType>(in.U64());
      } else if (field == 6) {
        out->type_name = std::string(in.Bytes());
      } else if (field == 8) {
        ReadAnnotations(in.Bytes(), out);
      } else {
        in.Skip();
      }
    }
    return CheckRead(in);
  }
  static void ReadAnnotations(std::string_view bytes, OptionField* out) {
    wire::Reader in(bytes);
    while (const uint32_t field = in.Next()) {
      if (field == 51001) {
        out->min = in.F64();
      } else if (field == 51002) {
        out->max = in.F64();
      } else if (field == 51004) {
        out->needed = in.Bool();
      } else if (field == 51005) {
        out->byte_size = in.Bool();
      } else if (field == 51006) {
        out->existing_path = in.Bool();
      } else {
        in.Skip();
      }
    }
  }

  static void Varint(uint64_t value, std::string* out) {
    for (; value >= 0x80; value >>= 7) *out += static_cast<char>((value & 0x7f) | 0x80);
    *out += static_cast<char>(value);
  }
  static void Tag(uint32_t number, uint32_t type, std::string* out) {
    Varint((uint64_t{number} << 3) | type, out);
  }
  template <typename T>
  static void Fixed(T value, std::string* out) {
    out->append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static void Sized(uint32_t number, std::string_view bytes, std::string* out) {
    Tag(number, 2, out);
    Varint(bytes.size(), out);
    out->append(bytes);
  }

  Status Encode(std::string_view name, const std::vector<Field>& fields, int depth,
                std::string* out) const {
    const std::vector<OptionField>* known = Message(name);
    if (known == nullptr || depth > 32) {
      return Error(ENGINE_NOT_FOUND, "the plugin's schemas have no message ", name);
    }
    std::set<std::string> given;
    for (const Field& f : fields) {
      const OptionField* option = nullptr;
      std::string names;
      for (const OptionField& o : *known) {
        if (o.name == f.name) option = &o;
        names += (names.empty() ? "" : ", ") + o.name;
      }
      if (option == nullptr) {
        return Error(ENGINE_INVALID_ARGUMENT, "line ", f.line, ": there is no option '", f.name,
                     "'; known options: ", names.empty() ? "none" : names);
      }
      if (!given.insert(f.name).second && !option->repeated) {
        return Error(ENGINE_INVALID_ARGUMENT, "line ", f.line, ": '", f.name, "' is given twice");
      }
      Status status = One(*option, f, depth, out);
      if (!status.ok()) {
        return status.Prefix("line " + std::to_string(f.line) + ": '" + f.name + "' ");
      }
    }
    for (const OptionField& o : *known) {
      if (o.needed && given.count(o.name) == 0) {
        return Error(ENGINE_INVALID_ARGUMENT, "'", o.name, "' must be given");
      }
    }
    return Status();
  }

  template <typename T>
  static Status Integer(const Field& f, T* out) {
    const std::string& v = f.value;
    char* end = nullptr;
    errno = 0;
    const bool negative = !v.empty() && v[0] == '-';
    bool fits = !f.quoted && !v.empty();
    if constexpr (std::is_signed_v<T>) {
      const long long n = std::strtoll(v.c_str(), &end, 0);
      *out = static_cast<T>(n);
      fits = fits && static_cast<long long>(*out) == n;
    } else {
      const unsigned long long n = std::strtoull(v.c_str(), &end, 0);
      *out = static_cast<T>(n);
      fits = fits && !negative && static_cast<unsigned long long>(*out) == n;
    }
    if (fits && errno == 0 && end != nullptr && *end == '\0') return Status();
    return Error(ENGINE_INVALID_ARGUMENT, "is ", f.quoted ? Quoted(v) : v,
                 "; it takes a whole number from ", std::to_string(std::numeric_limits<T>::min()),
                 " to ", std::to_string(std::numeric_limits<T>::max()));
  }
  static Status Real(const Field& f, double* out) {
    char* end = nullptr;
    *out = std::strtod(f.value.c_str(), &end);
    if (!f.quoted && !f.value.empty() && end != nullptr && *end == '\0') return Status();
    return Error(ENGINE_INVALID_ARGUMENT, "is ", f.quoted ? Quoted(f.value) : f.value,
                 "; it takes a number");
  }
  static Status InRange(const OptionField& o, double value) {
    if (o.min && !(value >= *o.min)) {
      return Error(ENGINE_OUT_OF_RANGE, "is ", value, "; the least is ", *o.min);
    }
    if (o.max && !(value <= *o.max)) {
      return Error(ENGINE_OUT_OF_RANGE, "is ", value, "; the most is ", *o.max);
    }
    return Status();
  }
  template <typename T>
  static Status Number(const OptionField& o, const Field& f, T* out) {
    ENGINE_RETURN_IF_ERROR(Integer(f, out));
    return InRange(o, static_cast<double>(*out));
  }

  Status One(const OptionField& o, const Field& f, int depth, std::string* out) const {
    if (f.message != (o.type == FieldType::kMessage)) {
      return Error(ENGINE_INVALID_ARGUMENT,
                   f.message ? "is a block; it takes one value" : "takes a block { ... }");
    }
    switch (o.type) {
      case FieldType::kMessage: {
        std::string inner;
        ENGINE_RETURN_IF_ERROR(
            Encode(std::string_view(o.type_name).substr(1), f.fields, depth + 1, &inner));
        Sized(o.number, inner, out);
        return Status();
      }
      case FieldType::kString:
      case FieldType::kBytes: {
        if (!f.quoted) return Error(ENGINE_INVALID_ARGUMENT, "takes a text in quotes");
        uint64_t ignored = 0;
        if (o.byte_size) ENGINE_RETURN_IF_ERROR(wire::ParseByteSize(f.value, &ignored));
        Sized(o.number, f.value, out);
        return Status();
      }
      case FieldType::kBool: {
        const bool yes = f.value == "true", no = f.value == "false";
        if (f.quoted || (!yes && !no)) {
          return Error(ENGINE_INVALID_ARGUMENT, "is ", f.value, "; it takes true or false");
        }
        Tag(o.number, 0, out);
        Varint(yes, out);
        return Status();
      }
      case FieldType::kEnum: {
        const auto* values = Enum(o.type_name);
        std::string names;
        for (const auto& [name, number] :
             values == nullptr ? std::map<std::string, int32_t>() : *values) {
          names += (names.empty() ? "" : ", ") + name;
        }
        if (values == nullptr || f.quoted || values->count(f.value) == 0) {
          return Error(ENGINE_INVALID_ARGUMENT, "is ", f.value, "; it takes one of ", names);
        }
        Tag(o.number, 0, out);
        Varint(static_cast<uint64_t>(static_cast<int64_t>(values->at(f.value))), out);
        return Status();
      }
      case FieldType::kDouble:
      case FieldType::kFloat: {
        double value = 0;
        ENGINE_RETURN_IF_ERROR(Real(f, &value));
        ENGINE_RETURN_IF_ERROR(InRange(o, value));
        Tag(o.number, o.type == FieldType::kDouble ? 1 : 5, out);
        if (o.type == FieldType::kDouble) {
          Fixed(value, out);
        } else {
          Fixed(static_cast<float>(value), out);
        }
        return Status();
      }
      case FieldType::kInt32:
      case FieldType::kSint32:
      case FieldType::kSfixed32: {
        int32_t v = 0;
        ENGINE_RETURN_IF_ERROR(Number(o, f, &v));
        return Signed(o, v, out);
      }
      case FieldType::kInt64:
      case FieldType::kSint64:
      case FieldType::kSfixed64: {
        int64_t v = 0;
        ENGINE_RETURN_IF_ERROR(Number(o, f, &v));
        return Signed(o, v, out);
      }
      case FieldType::kUint32:
      case FieldType::kFixed32: {
        uint32_t v = 0;
        ENGINE_RETURN_IF_ERROR(Number(o, f, &v));
        Tag(o.number, o.type == FieldType::kFixed32 ? 5 : 0, out);
        if (o.type == FieldType::kFixed32) {
          Fixed(v, out);
        } else {
          Varint(v, out);
        }
        return Status();
      }
      case FieldType::kUint64:
      case FieldType::kFixed64: {
        uint64_t v = 0;
        ENGINE_RETURN_IF_ERROR(Number(o, f, &v));
        Tag(o.number, o.type == FieldType::kFixed64 ? 1 : 0, out);
        if (o.type == FieldType::kFixed64) {
          Fixed(v, out);
        } else {
          Varint(v, out);
        }
        return Status();
      }
      case FieldType::kGroup:
        break;
    }
    return Error(ENGINE_UNIMPLEMENTED, "is of a type that options do not have");
  }
  template <typename T>
  static Status Signed(const OptionField& o, T v, std::string* out) {
    const auto wide = static_cast<int64_t>(v);
    switch (o.type) {
      case FieldType::kSint32:
      case FieldType::kSint64:
        Tag(o.number, 0, out);
        Varint((static_cast<uint64_t>(wide) << 1) ^ static_cast<uint64_t>(wide >> 63), out);
        break;
      case FieldType::kSfixed32:
      case FieldType::kSfixed64:
        Tag(o.number, sizeof(T) == 4 ? 5 : 1, out);
        Fixed(v, out);
        break;
      default:
        Tag(o.number, 0, out);
        Varint(static_cast<uint64_t>(wide), out);
    }
    return Status();
  }

  std::map<std::string, std::vector<OptionField>> messages_;
  std::map<std::string, std::map<std::string, int32_t>> enums_;
};

}  // namespace engine::testing

#endif  // ENGINE_TESTING_OPTIONS_HPP_
