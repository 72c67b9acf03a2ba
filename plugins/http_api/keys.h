// API keys: whose request it is. Comparing takes the same time whatever was given.
#ifndef PLUGINS_HTTP_API_KEYS_H_
#define PLUGINS_HTTP_API_KEYS_H_

#include <string>
#include <string_view>
#include <vector>

#include "engine/status.hpp"

namespace engine::http_api {

class Keys {
 public:
  // Of the option and the lines of the file; empty lines and those that begin with '#' are left
  // out.
  Status Read(const std::string& key, const std::string& path);
  bool needed() const { return !keys_.empty(); }
  size_t count() const { return keys_.size(); }
  // The number of the key that the headers bring, from 0; -1: none of them. Without keys: 0.
  int Find(std::string_view authorization, std::string_view api_key) const;

 private:
  int Match(std::string_view given) const;
  std::vector<std::string> keys_;
};

}  // namespace engine::http_api

#endif  // PLUGINS_HTTP_API_KEYS_H_
