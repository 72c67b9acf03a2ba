#include "source.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>

#include "nlohmann/json.hpp"

namespace engine::data {
namespace {

constexpr uint64_t kMostExamples = uint64_t{1} << 28;  // 2 GiB of index

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

size_t SkipSpace(std::string_view text, size_t at) {
  while (at < text.size() && IsSpace(text[at])) ++at;
  return at;
}

// A byte-order mark says nothing here and would be no JSON.
size_t AfterMark(std::string_view bytes) { return bytes.starts_with("\xef\xbb\xbf") ? 3 : 0; }

// One past the object or list that begins at `at`; npos when it does not end, or when it is longer
// than `longest`: then *too_long.
size_t EndOfValue(std::string_view bytes, size_t at, size_t longest, bool* too_long) {
  int64_t depth = 0;
  bool quoted = false;
  *too_long = false;
  const size_t begin = at;
  for (; at < bytes.size(); ++at) {
    if (at - begin >= longest) {
      *too_long = true;
      return std::string_view::npos;
    }
    const char c = bytes[at];
    if (quoted) {
      if (c == '\\') ++at;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if ((c == '}' || c == ']') && --depth == 0) {
      return at + 1;
    }
  }
  return std::string_view::npos;
}

// How many lines end in a stretch.
uint64_t Newlines(std::string_view bytes, uint64_t begin, uint64_t end) {
  return static_cast<uint64_t>(std::count(bytes.begin() + static_cast<int64_t>(begin),
                                          bytes.begin() + static_cast<int64_t>(end), '\n'));
}

}  // namespace

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<char*>(bytes_.data()), bytes_.size());
}

Status MappedFile::Open(const std::string& path) {
  // Without blocking: a pipe would wait for a writer.
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) {
    return Error(ENGINE_NOT_FOUND, "file '", path, "' cannot be read: ", std::strerror(errno));
  }
  struct stat info = {};
  const bool regular = fstat(file, &info) == 0 && S_ISREG(info.st_mode);
  const auto size = static_cast<size_t>(info.st_size);
  void* at = MAP_FAILED;
  if (regular && size != 0) at = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
  close(file);
  if (!regular) return Error(ENGINE_INVALID_ARGUMENT, "'", path, "' is no file; a data set is one");
  if (size == 0) {
    return Error(ENGINE_INVALID_ARGUMENT, "file '", path, "' is empty; a data set has an example");
  }
  if (at == MAP_FAILED) return Error(ENGINE_UNAVAILABLE, "file '", path, "' cannot be mapped");
  bytes_ = {static_cast<const char*>(at), size};
  return Status();
}

Status CheckUtf8(const std::string& path, std::string_view bytes) {
  uint64_t line = 1;
  for (size_t at = 0; at < bytes.size(); ++line) {
    const size_t end = std::min(bytes.find('\n', at), bytes.size());
    try {
      // The library checks what it writes.
      (void)nlohmann::json(bytes.substr(at, end - at)).dump();
    } catch (const nlohmann::json::exception&) {
      return Error(ENGINE_INVALID_ARGUMENT, path, ":", line,
                   ": this line is no UTF-8; convert the file, as \"iconv -f LATIN1 -t UTF-8\" "
                   "does");
    }
    at = end + 1;
  }
  return Status();
}

Form FormOf(std::string_view path, std::string_view bytes) {
  std::string name(path);
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const std::string_view end = name;
  if (end.ends_with(".bin")) return Form::kTokens;
  if (end.ends_with(".txt") || end.ends_with(".md")) return Form::kText;
  if (end.ends_with(".jsonl") || end.ends_with(".ndjson")) return Form::kLines;
  const size_t at = SkipSpace(bytes, AfterMark(bytes));
  const char first = at < bytes.size() ? bytes[at] : '\0';
  if (first == '[') return Form::kList;
  return first == '{' || end.ends_with(".json") ? Form::kLines : Form::kText;
}

Status ObjectIndex::Build(const std::string& path, std::string_view bytes, Form form,
                          size_t longest) {
  path_ = path;
  bytes_ = bytes;
  form_ = form;
  longest_ = longest;
  begins_.clear();
  lines_.clear();
  if (form == Form::kList) {
    ENGINE_RETURN_IF_ERROR(BuildList());
  } else {
    for (size_t at = AfterMark(bytes); at < bytes.size();) {
      const size_t newline = std::min(bytes.find('\n', at), bytes.size());
      const size_t begin = SkipSpace(bytes.substr(0, newline), at);
      if (begin < newline) Push(begin);
      at = newline + 1;
      if (begins_.size() > kMostExamples) break;
    }
  }
  if (begins_.size() > kMostExamples) {
    return Error(ENGINE_OUT_OF_RANGE, "file '", path, "' has more than ", kMostExamples,
                 " examples; split it");
  }
  if (!begins_.empty()) return Status();
  return Error(ENGINE_INVALID_ARGUMENT, "file '", path, "' has no example");
}

void ObjectIndex::Push(uint64_t begin) {
  if (begins_.size() % kStride == 0) {
    const uint64_t known = lines_.empty() ? 0 : begins_[begins_.size() - kStride];
    lines_.push_back((lines_.empty() ? 1 : lines_.back()) + Newlines(bytes_, known, begin));
  }
  begins_.push_back(begin);
}

Status ObjectIndex::BuildList() {
  const auto bad = [this](size_t at, const auto&... parts) {
    return Error(ENGINE_INVALID_ARGUMENT, path_, ":", 1 + Newlines(bytes_, 0, at), ": ", parts...);
  };
  size_t at = SkipSpace(bytes_, SkipSpace(bytes_, AfterMark(bytes_)) + 1);
  if (at < bytes_.size() && bytes_[at] == ']') return Status();
  for (;; at = SkipSpace(bytes_, at + 1)) {
    if (at >= bytes_.size()) return bad(bytes_.size(), "the list does not end; a ] is missing");
    if (bytes_[at] != '{') {
      return bad(at,
                 "the list must hold objects, and here is something else; one object a line "
                 "is taken as well, in a file that ends in .jsonl");
    }
    Push(at);
    if (begins_.size() > kMostExamples) return Status();
    bool too_long = false;
    const size_t end = EndOfValue(bytes_, at, SIZE_MAX, &too_long);
    if (end == std::string_view::npos) return bad(at, "this object does not end");
    at = SkipSpace(bytes_, end);
    if (at < bytes_.size() && bytes_[at] == ']') break;
    if (at < bytes_.size() && bytes_[at] != ',') {
      return bad(at, "between two objects of a list stands a comma, and here is something else");
    }
  }
  const size_t rest = SkipSpace(bytes_, at + 1);
  if (rest == bytes_.size()) return Status();
  return bad(rest, "something follows the list; the file must end with it");
}

Status ObjectIndex::At(uint64_t i, std::string_view* out) const {
  const auto begin = static_cast<size_t>(begins_[i]);
  size_t end = 0;
  bool too_long = false;
  if (form_ == Form::kList) {
    end = EndOfValue(bytes_, begin, longest_, &too_long);
  } else {
    // No further than a byte beyond what is allowed, however long the line is.
    const size_t most = std::min(bytes_.size() - begin, longest_ + 1);
    end = begin + std::min(bytes_.substr(begin, most).find('\n'), most);
    too_long = end - begin > longest_;
    while (end > begin && IsSpace(bytes_[end - 1])) --end;
  }
  if (too_long || end == std::string_view::npos) {
    return Error(ENGINE_OUT_OF_RANGE, "the example is longer than ", longest_,
                 " bytes; max_line_bytes can allow more");
  }
  *out = bytes_.substr(begin, end - begin);
  return Status();
}

std::string ObjectIndex::Where(uint64_t i) const {
  const uint64_t known = i / kStride;
  return path_ + ":" +
         std::to_string(lines_[known] + Newlines(bytes_, begins_[known * kStride], begins_[i]));
}

Status TokenFile::Build(const std::string& path, std::string_view bytes, size_t header,
                        size_t width, uint32_t vocab, size_t stretch) {
  if (bytes.size() <= header || (bytes.size() - header) % width != 0) {
    return Error(ENGINE_INVALID_ARGUMENT, "file '", path, "' has ", bytes.size(),
                 " bytes, which are no ids of ", width, " bytes each behind a header of ", header,
                 " bytes; see width and header_bytes");
  }
  path_ = path;
  bytes_ = bytes.substr(header);
  width_ = width;
  stretch_ = stretch;
  vocab_ = vocab;
  count_ = bytes_.size() / width;
  return Status();
}

Status TokenFile::At(uint64_t i, std::vector<int32_t>* out) const {
  const uint64_t begin = i * stretch_, end = std::min(count_, begin + stretch_);
  out->clear();
  out->reserve(end - begin);
  for (uint64_t t = begin; t < end; ++t) {
    // Byte by byte: a header may leave them unaligned, and their order is the file's.
    uint32_t id = 0;
    for (size_t b = 0; b < width_; ++b) {
      id |= uint32_t{static_cast<unsigned char>(bytes_[t * width_ + b])} << (8 * b);
    }
    if (id >= vocab_) {
      return Error(ENGINE_OUT_OF_RANGE, path_, ": token ", t, " is ", id,
                   "; the model has ids 0 to ", vocab_ - 1,
                   "; see width and header_bytes, and which tokenizer made the file");
    }
    out->push_back(static_cast<int32_t>(id));
  }
  return Status();
}

}  // namespace engine::data
