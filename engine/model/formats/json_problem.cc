#include "engine/model/formats/json_problem.h"

#include "nlohmann/json.hpp"

namespace engine::model {
namespace {

using nlohmann::json;

// Keeps nothing but the place of the error.
class ErrorPlace : public nlohmann::json_sax<json> {
 public:
  size_t at = 0;  // from 1; 0: there was none

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return true; }
  bool start_array(size_t) override { return true; }
  bool end_object() override { return true; }
  bool end_array() override { return true; }
  bool key(string_t&) override { return true; }
  bool parse_error(size_t position, const std::string&, const json::exception&) override {
    at = position;
    return false;
  }
};

}  // namespace

std::string JsonProblem(std::string_view text) {
  std::string out = "it is not a JSON object";
  if (text.empty()) return out + ": it is empty";
  ErrorPlace place;
  json::sax_parse(text.begin(), text.end(), &place);
  if (place.at == 0) return out + " but another value";
  if (place.at > text.size()) return out + ": it ends too early";
  return out + ": byte " + std::to_string(place.at - 1) + " does not fit";
}

}  // namespace engine::model
