// The int8 transform: linears hold int8 weights, found by lowering through engine.packed_linear.
#include "engine/plugin.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "engine/torch_ops.h"
#include "engine/util.hpp"
#include "options.engine.hpp"

namespace engine::int8 {
namespace {

// y = dequantize(q)·x over int8 activations. Its gradient is that of the dequantized weight: the
// rounding of activations is passed straight through (Bengio et al. 2013, arXiv:1308.3432). The
// weight itself is frozen.
class Int8Linear : public SiteImpl {
 public:
  explicit Int8Linear(engine_packed* packed) {
    table_.struct_size = sizeof table_;
    table_.packed = packed;
  }
  ~Int8Linear() override { ThisHost().model->packed_release(table_.packed); }

  Status Forward(engine_forward*, const AtenTensorHandle* in, uint32_t n_in, AtenTensorHandle* out,
                 uint32_t n_out) override {
    if (n_in != 1 || n_out != 1) {
      return Error(ENGINE_INVALID_ARGUMENT, "a linear takes one tensor and gives one");
    }
    ThisHost().model->packed_retain(table_.packed);
    return Status(ThisHost().autograd->apply(
        &Compute, &Gradient, table_.packed,
        [](void* packed) { ThisHost().model->packed_release(static_cast<engine_packed*>(packed)); },
        in, 1, out, 1));
  }
  const void* Extension(std::string_view id) override {
    return id == ENGINE_EXT_PACKED_LINEAR ? &table_ : nullptr;
  }

 private:
  static engine_status* Compute(void* packed, const AtenTensorHandle* in, uint32_t,
                                AtenTensorHandle* out, uint32_t) {
    return ThisHost().model->packed_forward(static_cast<engine_packed*>(packed), in[0], out);
  }
  // in: x, dy. The dense weight exists for this call only.
  static engine_status* Gradient(void* packed, const AtenTensorHandle* in, uint32_t,
                                 AtenTensorHandle* out, uint32_t) {
    return Guard([&] {
      const ops::Tensor dy = ops::Borrow(in[1]);
      AtenTensorHandle dense = nullptr;
      ENGINE_RETURN_IF_ERROR(Status(ThisHost().model->packed_dense(
          static_cast<engine_packed*>(packed), ops::DtypeOf(dy), &dense)));
      const ops::Tensor weight(dense);
      out[0] = ops::Release(ops::Matmul(dy, weight));
      return Status();
    });
  }

  engine_packed_linear table_ = {};
};

// Packs rows of `columns` floats; the scale is absmax / 127, rounding is to nearest even.
void QuantizeRow(const float* row, int64_t columns, int8_t* q, float* scale) {
  float top = 0;
  for (int64_t k = 0; k < columns; ++k) top = std::max(top, std::fabs(row[k]));
  *scale = top / 127.0f;
  const float inverse = top > 0 ? 127.0f / top : 0.0f;
  for (int64_t k = 0; k < columns; ++k) {
    q[k] = static_cast<int8_t>(std::nearbyint(row[k] * inverse));
  }
}

struct Int8 : Transform {
  ENGINE_TRANSFORM("int8",
                   "Holds linear weights as int8 and computes with int8 activations. Replaces "
                   "Linear and Head sites: a quarter of the memory of F32, half that of BF16.",
                   ENGINE_PHASE_CODEC)
  ENGINE_OPTIONS(Int8Options)

  bool Wanted(const engine_site_info& site) const {
    if (site.kind != ENGINE_SITE_LINEAR && site.kind != ENGINE_SITE_HEAD) return false;
    if (options.targets.empty()) return true;
    for (const std::string& pattern : options.targets) {
      if (MatchesSite(pattern, View(site.name))) return true;
    }
    return false;
  }

  Status Plan(const Model& model, Diff& diff) override {
    const std::vector<engine_site_info> sites = model.Sites();
    const int64_t bytes = DtypeBytes(model.Info().dtype);
    for (uint32_t i = 0; i < sites.size(); ++i) {
      if (!Wanted(sites[i])) continue;
      const int64_t elements = sites[i].in * sites[i].out;
      ENGINE_RETURN_IF_ERROR(diff.Replace(i, "int8 per channel, activations int8 per row",
                                          elements * bytes, elements + 8 * sites[i].out));
    }
    return Status();
  }

  Status Rewrite(const Model& model, uint32_t index, std::unique_ptr<SiteImpl>* out) override {
    const engine_model_host* api = Model::Api();
    engine_site_info site = {};
    site.struct_size = sizeof site;
    ENGINE_RETURN_IF_ERROR(Status(api->site(model.get(), index, &site)));
    uint32_t param = 0;
    ENGINE_RETURN_IF_ERROR(Status(api->param_find(model.get(), site.weight, &param)));
    engine_packed* packed = nullptr;
    ENGINE_RETURN_IF_ERROR(Status(api->packed_create(site.out, site.in, &packed)));
    auto impl = std::make_unique<Int8Linear>(packed);

    // Rows are read, quantized and forgotten a few at a time: the dense weight never exists.
    struct Work {
      const engine_model_host* api;
      engine_model* model;
      engine_packed* packed;
      uint32_t param;
      int64_t columns;
      std::atomic<engine_status*> failure{nullptr};
    } work{api, model.get(), packed, param, site.in, {}};
    ThisHost().tasks->parallel_for(
        site.out, 64,
        [](void* arg, int64_t begin, int64_t end) {
          Work& w = *static_cast<Work*>(arg);
          engine_status* status = Guard([&]() -> Status {
            std::vector<float> rows(static_cast<size_t>(64 * w.columns));
            std::vector<int8_t> q(static_cast<size_t>(w.columns));
            for (int64_t r = begin; r < end; r += 64) {
              const int64_t stop = std::min(end, r + 64);
              ENGINE_RETURN_IF_ERROR(
                  Status(w.api->param_rows(w.model, w.param, r, stop, rows.data())));
              for (int64_t i = r; i < stop; ++i) {
                float scale = 0;
                QuantizeRow(rows.data() + (i - r) * w.columns, w.columns, q.data(), &scale);
                ENGINE_RETURN_IF_ERROR(Status(w.api->packed_set_row(w.packed, i, q.data(), scale)));
              }
            }
            return Status();
          });
          if (status == nullptr) return;
          Status lost(w.failure.exchange(status));
        },
        &work);
    ENGINE_RETURN_IF_ERROR(Status(work.failure.load()));
    ENGINE_RETURN_IF_ERROR(
        Status(api->param_encode(model.get(), site.weight, ENGINE_CODEC_INT8_PER_CHANNEL, packed)));
    *out = std::move(impl);
    return Status();
  }
};

}  // namespace
}  // namespace engine::int8

ENGINE_PLUGIN((engine::PluginInfo{.id = "engine.int8",
                                  .version = "0.1.0",
                                  .summary = "Int8 weights and activations, exact sums.",
                                  .license = "Apache-2.0",
                                  .schemas = engine::int8::kSchema,
                                  .schemas_size = sizeof engine::int8::kSchema}),
              engine::Nodes<>, engine::Transforms<engine::int8::Int8>)
