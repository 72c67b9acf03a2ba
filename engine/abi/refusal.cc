#include "engine/abi/refusal.h"

#include <algorithm>
#include <map>

namespace engine::abi {
namespace {

std::map<std::string, std::string> Parts(std::string_view fingerprint) {
  std::map<std::string, std::string> parts;
  while (!fingerprint.empty()) {
    const size_t end = std::min(fingerprint.find(';'), fingerprint.size());
    const std::string_view part = fingerprint.substr(0, end);
    const size_t equals = std::min(part.find('='), part.size());
    if (!part.empty()) {
      parts[std::string(part.substr(0, equals))] =
          equals < part.size() ? std::string(part.substr(equals + 1)) : "";
    }
    fingerprint.remove_prefix(std::min(end + 1, fingerprint.size()));
  }
  return parts;
}

}  // namespace

std::string RefusalText(const Refusal& refusal, std::string_view affects) {
  std::string text = "plugin refused: " + refusal.path + "\n";
  const auto line = [&](std::string_view label, std::string_view value) {
    if (value.empty()) return;
    text.append("  ").append(label).append(11 - label.size(), ' ').append(value).append("\n");
  };
  line("id", refusal.id + (refusal.version.empty() ? "" : " " + refusal.version));
  line("because", refusal.reason);
  line("built for", refusal.built_for);
  line("this host", refusal.this_host);
  line("differs", refusal.differs);
  for (const std::string& words : refusal.output) line("output", words);
  line("fix", refusal.fix);
  line("affects", affects);
  return text;
}

std::string DifferingParts(std::string_view built_for, std::string_view this_host) {
  const auto built = Parts(built_for), host = Parts(this_host);
  std::string names;
  const auto add = [&](const std::string& name) { names += (names.empty() ? "" : ", ") + name; };
  for (const auto& [name, value] : built) {
    const auto it = host.find(name);
    if (it == host.end() || it->second != value) add(name);
  }
  for (const auto& [name, value] : host) {
    if (built.count(name) == 0) add(name);
  }
  return names;
}

std::string Printable(std::string_view text) {
  constexpr size_t kMost = 400;
  std::string out(text.substr(0, kMost));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  if (text.size() > kMost) out += " ...";
  return out;
}

}  // namespace engine::abi
