// A read-only memory map of one file. Owns the descriptor, which lives as long as the object, and
// the mapping, which lives as long as the object or whoever keeps it. Invariant: data()[0, size())
// is mapped and size() > 0. A file that shrinks nevertheless takes its last pages along: see
// CheckUnchanged, and mapped_guard.h for who looks at them without asking.
#ifndef ENGINE_MODEL_FORMATS_MAPPED_FILE_H_
#define ENGINE_MODEL_FORMATS_MAPPED_FILE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "engine/status.hpp"

namespace engine::model {

class MappedFile {
 public:
  // Refuses what is not a regular file and what is empty.
  static Status Open(const std::string& path, std::unique_ptr<MappedFile>* out);
  // A map of memory that no path names: `size` bytes, at least 1, as `fill` leaves them.
  static Status Make(const std::string& name, uint64_t size, std::unique_ptr<MappedFile>* out,
                     const std::function<void(void* bytes)>& fill);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const { return data_; }
  // Keeps the bytes mapped beyond the object's life.
  std::shared_ptr<const void> mapping() const { return mapping_; }
  uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }

  // An error when the file has become shorter since Open: touching its lost pages would raise
  // SIGBUS. A file replaced by rename is safe, the mapping keeps the old one. Cheap (one fstat).
  Status CheckUnchanged() const;

  // Gives the pages that lie wholly inside [offset, offset + length) back; they stop counting in
  // the process's resident size and are read again from the file if touched.
  void DropPages(uint64_t offset, uint64_t length) const;

 private:
  MappedFile() = default;
  // Takes a mapping of size_ bytes over.
  void Hold(void* map);

  std::string path_;
  int fd_ = -1;
  std::shared_ptr<const void> mapping_;  // unmaps
  uint8_t* data_ = nullptr;              // its bytes
  uint64_t size_ = 0;
};

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_MAPPED_FILE_H_
