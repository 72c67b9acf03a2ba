// The C++ face of engine_status: one owning pointer, null for success. Used by the host and by
// plugins alike, so that an error looks the same wherever it was made.
#ifndef ENGINE_STATUS_HPP_
#define ENGINE_STATUS_HPP_

#include <exception>
#include <new>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "engine/abi.h"

namespace engine {

inline engine_str Str(std::string_view s) { return {s.data(), s.size()}; }
inline std::string_view View(engine_str s) {
  return s.data == nullptr ? std::string_view() : std::string_view(s.data, s.size);
}

namespace internal {

// A status with its text in one block; freed by its own destroy, in the library that made it.
struct OwnedStatus {
  engine_status base;
  std::string message, plugin, node;
};

inline void DestroyStatus(engine_status* s) noexcept { delete reinterpret_cast<OwnedStatus*>(s); }

// What NewStatus answers when memory is exhausted: static, so that it cannot fail itself.
inline engine_status* OutOfMemoryStatus() noexcept {
  static engine_status status = {sizeof(engine_status), ENGINE_RESOURCE_EXHAUSTED,
                                 {"out of memory", 13}, {nullptr, 0},
                                 {nullptr, 0},          [](engine_status*) {}};
  return &status;
}

inline engine_status* NewStatus(engine_code code, std::string_view message,
                                std::string_view plugin = {}, std::string_view node = {}) noexcept {
  try {
    auto* s = new OwnedStatus{{}, std::string(message), std::string(plugin), std::string(node)};
    s->base = {sizeof(engine_status), code,         Str(s->message),
               Str(s->plugin),        Str(s->node), &DestroyStatus};
    return &s->base;
  } catch (...) {
    return OutOfMemoryStatus();
  }
}

}  // namespace internal

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(engine_code code, std::string_view message) : rep_(internal::NewStatus(code, message)) {}
  // Takes ownership of what a C function answered.
  explicit Status(engine_status* taken) : rep_(taken) {}
  Status(Status&& other) noexcept : rep_(std::exchange(other.rep_, nullptr)) {}
  Status& operator=(Status&& other) noexcept {
    std::swap(rep_, other.rep_);
    return *this;
  }
  Status(const Status& other)
      : rep_(other.rep_ == nullptr ? nullptr
                                   : internal::NewStatus(other.code(), other.message(),
                                                         other.plugin(), other.node())) {}
  Status& operator=(const Status& other) {
    Status copy(other);
    std::swap(rep_, copy.rep_);
    return *this;
  }
  ~Status() {
    if (rep_ != nullptr) rep_->destroy(rep_);
  }

  bool ok() const { return rep_ == nullptr; }
  engine_code code() const { return ok() ? ENGINE_OK : static_cast<engine_code>(rep_->code); }
  std::string_view message() const { return ok() ? std::string_view() : View(rep_->message); }
  std::string_view plugin() const { return ok() ? std::string_view() : View(rep_->plugin); }
  std::string_view node() const { return ok() ? std::string_view() : View(rep_->node); }
  // Hands the C status over; this object is OK afterwards.
  engine_status* release() { return std::exchange(rep_, nullptr); }

  // The same error, with the plugin and node named where they were still empty.
  Status At(std::string_view plugin_id, std::string_view node_name) const {
    if (ok()) return Status();
    return Status(internal::NewStatus(code(), message(), plugin().empty() ? plugin_id : plugin(),
                                      node().empty() ? node_name : node()));
  }
  // The same error, with words put before its message.
  Status Prefix(std::string_view words) const {
    if (ok()) return Status();
    std::string text(words);
    text += message();
    return Status(internal::NewStatus(code(), text, plugin(), node()));
  }

 private:
  engine_status* rep_ = nullptr;
};

// Error(ENGINE_NOT_FOUND, "file '", path, "' does not exist"): all parts streamed together.
template <typename... Parts>
Status Error(engine_code code, const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return Status(code, out.str());
}

// Runs `body` (which returns Status) and turns whatever it throws into a status. Every function
// that crosses the boundary is wrapped in this.
template <typename Body>
engine_status* Guard(Body&& body) noexcept {
  try {
    Status status = body();
    return status.release();
  } catch (const std::bad_alloc&) {
    return internal::OutOfMemoryStatus();
  } catch (const std::exception& e) {
    return internal::NewStatus(ENGINE_INTERNAL, e.what());
  } catch (...) {
    return internal::NewStatus(ENGINE_INTERNAL, "an exception that is not a std::exception");
  }
}

#define ENGINE_CONCAT_(a, b) a##b
#define ENGINE_CONCAT(a, b) ENGINE_CONCAT_(a, b)

// Returns from the enclosing function when the expression is an error.
#define ENGINE_RETURN_IF_ERROR(expr)                                            \
  do {                                                                          \
    if (::engine::Status engine_s_ = (expr); !engine_s_.ok()) return engine_s_; \
  } while (0)

}  // namespace engine

#endif  // ENGINE_STATUS_HPP_
