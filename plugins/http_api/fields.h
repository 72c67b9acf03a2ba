// Reading the fields of a JSON object, each with its type and range; the first that is wrong is
// told in a Refusal that names it. A field that is absent or null leaves what it would set.
#ifndef PLUGINS_HTTP_API_FIELDS_H_
#define PLUGINS_HTTP_API_FIELDS_H_

#include <cmath>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string>

#include "ask.h"
#include "json_read.h"

namespace engine::http_api {

inline const char* TypeName(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "a list";
    case Json::value_t::string:
      return "a text";
    case Json::value_t::boolean:
      return "true or false";
    default:
      return "a number";
  }
}

class Fields {
 public:
  // `prefix` stands before names in refusals: "stream_options.".
  Fields(const Json& object, Refusal* refusal, std::string prefix = "")
      : object_(object), refusal_(refusal), prefix_(std::move(prefix)) {}

  bool ok() const { return !refusal_->set(); }
  // Null where the field is absent or null.
  const Json* Find(const char* name) const {
    const auto it = object_.find(name);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }
  template <typename... Parts>
  void Fail(const std::string& name, const Parts&... parts) {
    if (refusal_->set()) return;
    std::ostringstream out;
    out << "'" << prefix_ << name << "' ";
    (out << ... << parts);
    refusal_->status = 400;
    refusal_->message = out.str();
    refusal_->param = prefix_ + name;
  }
  void Number(const char* name, double least, double most, double* out) {
    const Json* v = Find(name);
    if (v == nullptr) return;
    if (!v->is_number()) return Fail(name, "must be a number, and is ", TypeName(*v));
    const double number = v->get<double>();
    if (!(number >= least && number <= most)) {
      return Fail(name, "must be from ", least, " to ", most, ", and is ", Line(*v));
    }
    *out = number;
  }
  template <typename Int>
  void Whole(const char* name, int64_t least, int64_t most, Int* out, bool* given = nullptr) {
    const Json* v = Find(name);
    if (v == nullptr) return;
    int64_t number = 0;
    if (!ToWhole(*v, &number)) {
      return Fail(name, "must be a whole number, and is ",
                  v->is_number() ? Line(*v) : std::string(TypeName(*v)));
    }
    if (number < least || number > most) {
      return Fail(name, "must be from ", least, " to ", most, ", and is ", Line(*v));
    }
    *out = static_cast<Int>(number);
    if (given != nullptr) *given = true;
  }
  void Flag(const char* name, bool* out) {
    const Json* v = Find(name);
    if (v == nullptr) return;
    if (!v->is_boolean()) return Fail(name, "must be true or false, and is ", TypeName(*v));
    *out = v->get<bool>();
  }
  void Text(const char* name, size_t most, std::string* out) {
    const Json* v = Find(name);
    if (v == nullptr) return;
    if (!v->is_string()) return Fail(name, "must be a text, and is ", TypeName(*v));
    const std::string& text = v->get_ref<const std::string&>();
    if (text.size() > most) {
      return Fail(name, "has ", text.size(), " bytes; at most ", most, " are taken");
    }
    *out = text;
  }

  // A JSON number that is whole and fits: 10 and 10.0 are, 1.5 and 2^64 are not.
  static bool ToWhole(const Json& value, int64_t* out) {
    if (value.is_number_unsigned()) {
      const auto v = value.get<uint64_t>();
      if (v > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return false;
      *out = static_cast<int64_t>(v);
      return true;
    }
    if (value.is_number_integer()) {
      *out = value.get<int64_t>();
      return true;
    }
    if (!value.is_number_float()) return false;
    const auto v = value.get<double>();
    if (!(std::abs(v) < 9e15) || v != std::floor(v)) return false;
    *out = static_cast<int64_t>(v);
    return true;
  }

 private:
  const Json& object_;
  Refusal* refusal_;
  std::string prefix_;
};

}  // namespace engine::http_api

#endif  // PLUGINS_HTTP_API_FIELDS_H_
