#include "engine/abi/testing/case_files.h"

#include <sys/wait.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>

#include "engine/graph/schema_guard.h"

namespace engine::abi::testing {

namespace fs = std::filesystem;

CaseFolder::CaseFolder() {
  std::string made = (fs::temp_directory_path() / "engine-abi-XXXXXX").string();
  if (mkdtemp(made.data()) == nullptr) throw std::runtime_error("no temporary folder");
  path_ = made;
}

CaseFolder::~CaseFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string CasePath(const std::string& name) { return ABI_CASES "/" + name + ".so"; }

std::string CaseFolder::Copy(const std::string& name) const {
  const std::string to = Path(name + ".so");
  fs::copy_file(CasePath(name), to);
  return to;
}

std::string CaseFolder::Write(const std::string& name, const std::string& bytes) const {
  std::ofstream(Path(name), std::ios::binary) << bytes;
  return Path(name);
}

std::string ReadAll(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

Scanning TestScanning(const std::string& cache) {
  Scanning scanning;
  scanning.options.command = {ABI_SCAN_CHILD};
  scanning.cache = cache;
  return scanning;
}

SchemaCheck NewSchemaCheck() {
  auto guard = std::make_shared<graph::SchemaGuard>();
  return [guard](const Plugin& plugin, const std::vector<Kind>& kinds) {
    return guard->Add(plugin, kinds);
  };
}

bool HasChildren() { return waitpid(-1, nullptr, WNOHANG) != -1 || errno != ECHILD; }

size_t OpenDescriptors() {
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) count += entry.exists();
  return count;
}

}  // namespace engine::abi::testing
