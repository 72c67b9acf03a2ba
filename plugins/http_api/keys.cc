#include "keys.h"

#include <openssl/evp.h>

#include <algorithm>
#include <fstream>

namespace engine::http_api {
namespace {

constexpr size_t kMostKeys = 4096, kLeastBytes = 8, kMostBytes = 512;

bool SameIgnoringCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           return (x | 0x20) == (y | 0x20);
         });
}

}  // namespace

Status Keys::Read(const std::string& key, const std::string& path) {
  const auto add = [&](const std::string& text, const std::string& where) -> Status {
    if (text.size() < kLeastBytes || text.size() > kMostBytes) {
      return Error(ENGINE_INVALID_ARGUMENT, where, " has ", text.size(),
                   " characters; it must have ", kLeastBytes, " to ", kMostBytes);
    }
    for (const char c : text) {
      if (c <= ' ' || c > '~') {
        return Error(ENGINE_INVALID_ARGUMENT, where,
                     " holds a character that no header can carry; letters, digits and "
                     "punctuation can be");
      }
    }
    if (std::find(keys_.begin(), keys_.end(), text) != keys_.end()) {
      return Error(ENGINE_INVALID_ARGUMENT, where, " is there twice");
    }
    keys_.push_back(text);
    return Status();
  };
  if (!key.empty()) ENGINE_RETURN_IF_ERROR(add(key, "api_key"));
  if (path.empty()) return Status();
  std::ifstream file(path);
  if (!file) return Error(ENGINE_NOT_FOUND, "api_key_file '", path, "' cannot be read");
  size_t number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || line[0] == '#') continue;
    if (keys_.size() == kMostKeys) {
      return Error(ENGINE_OUT_OF_RANGE, "api_key_file '", path, "' holds more than ", kMostKeys,
                   " keys");
    }
    ENGINE_RETURN_IF_ERROR(
        add(line, "the key in line " + std::to_string(number) + " of '" + path + "'"));
  }
  if (!keys_.empty()) return Status();
  return Error(ENGINE_INVALID_ARGUMENT, "api_key_file '", path,
               "' holds no key: nobody could be served; leave the option out to serve everybody");
}

int Keys::Match(std::string_view given) const {
  int found = -1;
  for (size_t k = 0; k < keys_.size(); ++k) {
    const std::string& key = keys_[k];
    // Each byte of each key is looked at, whatever was given.
    size_t different = given.size() ^ key.size();
    for (size_t i = 0; i < key.size(); ++i) {
      const char c = i < given.size() ? given[i] : '\0';
      different |= static_cast<unsigned char>(c) ^ static_cast<unsigned char>(key[i]);
    }
    if (different == 0) found = static_cast<int>(k);
  }
  return found;
}

int Keys::Find(std::string_view authorization, std::string_view api_key) const {
  if (keys_.empty()) return 0;
  if (!api_key.empty()) return Match(api_key);
  const size_t space = authorization.find(' ');
  if (space == std::string_view::npos) return -1;
  const std::string_view scheme = authorization.substr(0, space);
  std::string_view value = authorization.substr(space + 1);
  if (SameIgnoringCase(scheme, "bearer")) return Match(value);
  if (!SameIgnoringCase(scheme, "basic") || value.size() > 2 * kMostBytes) return -1;
  // As browsers send it: the key is the password, whatever the name.
  std::string plain(value.size(), '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(plain.data()),
                                   reinterpret_cast<const unsigned char*>(value.data()),
                                   static_cast<int>(value.size()));
  if (size < 0) return -1;
  // What fills the last block up decodes to zero bytes.
  plain.resize(static_cast<size_t>(size));
  for (; !plain.empty() && value.back() == '='; value.remove_suffix(1)) plain.pop_back();
  const size_t colon = plain.find(':');
  return colon == std::string::npos ? -1 : Match(std::string_view(plain).substr(colon + 1));
}

}  // namespace engine::http_api
