// Folders of plugin files for tests: copies of what testing/CMakeLists.txt builds, in a folder of
// the test's own, and a registry over them that scans with the tests' own child.
#ifndef ENGINE_ABI_TESTING_CASE_FILES_H_
#define ENGINE_ABI_TESTING_CASE_FILES_H_

#include <string>

#include "engine/abi/registry.h"

namespace engine::abi::testing {

class CaseFolder {
 public:
  CaseFolder();
  ~CaseFolder();
  CaseFolder(const CaseFolder&) = delete;
  CaseFolder& operator=(const CaseFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string Path(const std::string& name) const { return path_ + "/" + name; }
  // The built case as NAME.so; its path.
  std::string Copy(const std::string& name) const;
  std::string Write(const std::string& name, const std::string& bytes) const;

 private:
  std::string path_;
};

std::string ReadAll(const std::string& path);
std::string CasePath(const std::string& name);  // where it was built

// Scans with plugin_scan_child; `cache` may be empty.
Scanning TestScanning(const std::string& cache = "");
SchemaCheck NewSchemaCheck();

// Children of this process that were not waited for, and its open descriptors.
bool HasChildren();
size_t OpenDescriptors();

}  // namespace engine::abi::testing

#endif  // ENGINE_ABI_TESTING_CASE_FILES_H_
