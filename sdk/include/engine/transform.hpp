// Writing a transform: plan() names the sites it will replace, Rewrite() makes what stands there.
// What it makes derives from SiteImpl.
#ifndef ENGINE_TRANSFORM_HPP_
#define ENGINE_TRANSFORM_HPP_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/ext/transforms.h"
#include "engine/host.hpp"
#include "engine/node.hpp"

namespace engine {

// A model as a transform sees it: what stands at this point of the chain.
class Model {
 public:
  explicit Model(const engine_model* model) : model_(const_cast<engine_model*>(model)) {}
  engine_model* get() const { return model_; }
  static const engine_model_host* Api() { return ThisHost().model; }

  engine_model_info Info() const {
    engine_model_info info = {};
    info.struct_size = sizeof info;
    Api()->info(model_, &info);
    return info;
  }
  std::vector<engine_site_info> Sites() const {
    std::vector<engine_site_info> sites(Api()->site_count(model_));
    for (uint32_t i = 0; i < sites.size(); ++i) {
      sites[i].struct_size = sizeof(engine_site_info);
      Status ignored(Api()->site(model_, i, &sites[i]));
    }
    return sites;
  }
  const engine_site_impl* Impl(uint32_t site) const { return Api()->site_impl(model_, site); }
  // The table `id` of what stands at the site, or of what it computes the same function as; null:
  // there is none.
  template <typename Table>
  const Table* Extension(uint32_t site, const char* id) const {
    const engine_site_impl* at = Impl(site);
    for (;;) {
      if (const void* table = at->extension(at->self, id)) return static_cast<const Table*>(table);
      const void* same = at->extension(at->self, ENGINE_EXT_SAME_FUNCTION);
      if (same == nullptr) return nullptr;
      at = static_cast<const engine_same_function*>(same)->base;
    }
  }
  std::vector<engine_param_info> Params() const {
    std::vector<engine_param_info> params(Api()->param_count(model_));
    for (uint32_t i = 0; i < params.size(); ++i) {
      params[i].struct_size = sizeof(engine_param_info);
      Status ignored(Api()->param(model_, i, &params[i]));
    }
    return params;
  }
  // The text as token ids; `flags` of engine_encode_flags.
  Status Encode(std::string_view text, uint32_t flags, std::vector<int32_t>* ids) const {
    ids->resize(text.size() + 16);
    for (;;) {
      uint64_t count = 0;
      ENGINE_RETURN_IF_ERROR(
          Status(Api()->encode(model_, Str(text), flags, ids->data(), ids->size(), &count)));
      const bool all = count <= ids->size();
      ids->resize(count);
      if (all) return Status();
    }
  }

 private:
  engine_model* model_;
};

// What stands at a site. Forward borrows its inputs and hands its outputs over.
class SiteImpl {
 public:
  virtual ~SiteImpl() = default;
  virtual Status Forward(engine_forward* pass, const AtenTensorHandle* in, uint32_t n_in,
                         AtenTensorHandle* out, uint32_t n_out) = 0;
  virtual const void* Extension(std::string_view) { return nullptr; }

  // Hands `impl` over as the C struct that the host keeps.
  static engine_site_impl Wrap(std::unique_ptr<SiteImpl> impl) {
    engine_site_impl c = {};
    c.struct_size = sizeof c;
    c.self = impl.release();
    c.forward = [](void* self, engine_forward* pass, const AtenTensorHandle* in, uint32_t n_in,
                   AtenTensorHandle* out, uint32_t n_out) -> engine_status* {
      return Guard(
          [&] { return static_cast<SiteImpl*>(self)->Forward(pass, in, n_in, out, n_out); });
    };
    c.extension = [](void* self, const char* id) -> const void* {
      return static_cast<SiteImpl*>(self)->Extension(id);
    };
    c.destroy = [](void* self) { delete static_cast<SiteImpl*>(self); };
    return c;
  }
};

class Diff {
 public:
  explicit Diff(const engine_diff* diff) : diff_(diff) {}
  Status Replace(uint32_t site, std::string_view note, int64_t bytes_before, int64_t bytes_after) {
    return Status(diff_->replace(diff_->self, site, Str(note), bytes_before, bytes_after));
  }

 private:
  const engine_diff* diff_;
};

struct TransformInfo {
  std::string_view name = {}, doc = {};
  engine_phase phase;
  std::string_view accepts = ENGINE_TYPE_MODEL, provides = ENGINE_TYPE_MODEL;
};

class Transform {
 public:
  virtual ~Transform() = default;
  virtual const TransformInfo& Info() const = 0;
  virtual bool ReadOptions(std::string_view) { return true; }
  virtual std::string_view OptionsMessage() const { return {}; }
  // Checks the options against each other; sets what later calls need.
  virtual Status Prepare() { return Status(); }
  virtual Status Plan(const Model& model, Diff& diff) = 0;
  virtual Status Rewrite(const Model& model, uint32_t site, std::unique_ptr<SiteImpl>* out) = 0;
  virtual Status Finish(const Model&) { return Status(); }
  const std::string& name() const { return name_; }
  void set_name(std::string_view name) { name_ = name; }

 private:
  std::string name_;
};

#define ENGINE_TRANSFORM(kind, text, phase_)                                               \
  const ::engine::TransformInfo& Info() const override {                                   \
    static const ::engine::TransformInfo info{.name = kind, .doc = text, .phase = phase_}; \
    return info;                                                                           \
  }

// True when `name` matches `pattern`, where '*' stands for any text without '.' and "**" for any
// text; a pattern without '.' is matched against the last part of the name, as PEFT does.
inline bool MatchesSite(std::string_view pattern, std::string_view name) {
  if (pattern.find('.') == std::string_view::npos) {
    const size_t dot = name.rfind('.');
    if (dot != std::string_view::npos) name.remove_prefix(dot + 1);
  }
  // Matches pattern[p..] against name[n..]; patterns are short, so plain recursion is enough.
  struct Matcher {
    std::string_view p, n;
    bool At(size_t i, size_t j) const {
      if (i == p.size()) return j == n.size();
      if (p[i] != '*') return j < n.size() && p[i] == n[j] && At(i + 1, j + 1);
      const bool deep = i + 1 < p.size() && p[i + 1] == '*';
      const size_t next = i + (deep ? 2 : 1);
      for (size_t k = j;; ++k) {
        if (At(next, k)) return true;
        if (k == n.size() || (!deep && n[k] == '.')) return false;
      }
    }
  };
  return Matcher{pattern, name}.At(0, 0);
}

}  // namespace engine

#endif  // ENGINE_TRANSFORM_HPP_
