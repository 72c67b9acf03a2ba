// The int8 transform: linears hold int8 weights, found by lowering through engine.packed_linear.
#include "engine/plugin.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "calibrate.h"
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

// Codes of one group; the scale is absmax / 127, in half precision when `half`, and rounding to
// nearest even.
void QuantizeGroup(const float* x, int64_t count, bool half, int8_t* q, float* scale) {
  float top = 0;
  for (int64_t k = 0; k < count; ++k) top = std::max(top, std::fabs(x[k]));
  *scale = top / 127.0f;
  if (half) *scale = HalfToFloat(FloatToHalf(*scale));
  const float inverse = *scale > 0 ? 1.0f / *scale : 0.0f;
  for (int64_t k = 0; k < count; ++k) {
    q[k] = static_cast<int8_t>(std::clamp(std::nearbyint(x[k] * inverse), -127.0f, 127.0f));
  }
}

struct Int8 : Transform {
  ENGINE_TRANSFORM("int8",
                   "Holds linear weights as int8 and computes with int8 activations. Replaces "
                   "Linear and Head sites: a quarter of the memory of F32, half that of BF16.",
                   ENGINE_PHASE_CODEC)
  ENGINE_OPTIONS(Int8Options)

  Status Prepare() override {
    if (options.group % 32 != 0) {
      return Error(ENGINE_INVALID_ARGUMENT, "group is ", options.group,
                   "; it must be a multiple of 32: 32, 64, 96 or 128");
    }
    if (options.has_calibrate_tokens && !options.has_calibrate) {
      return Error(ENGINE_INVALID_ARGUMENT,
                   "calibrate_tokens is given, but no text: name one with calibrate");
    }
    if (options.has_group && options.scheme != Int8Options::Scheme::GROUPS) {
      return Error(ENGINE_INVALID_ARGUMENT,
                   "group is given, but the scheme is PER_CHANNEL; "
                   "leave one of them out");
    }
    return Status();
  }
  // 0: whole rows.
  int64_t Group() const {
    return options.scheme == Int8Options::Scheme::GROUPS ? int64_t{options.group} : 0;
  }

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
    const std::string how = options.has_calibrate ? ", inputs evened out" : "";
    for (uint32_t i = 0; i < sites.size(); ++i) {
      if (!Wanted(sites[i])) continue;
      const int64_t elements = sites[i].in * sites[i].out, group = Group();
      if (group == 0) {
        ENGINE_RETURN_IF_ERROR(diff.Replace(i, "int8 per channel, activations int8 per row" + how,
                                            elements * bytes, elements + 4 * sites[i].out));
        continue;
      }
      const int64_t scales = (sites[i].in + group - 1) / group * sites[i].out;
      ENGINE_RETURN_IF_ERROR(diff.Replace(
          i, "int8 by groups of " + std::to_string(group) + ", activations int8 by the same" + how,
          elements * bytes, elements + 2 * scales));
    }
    return Status();
  }

  Status Rewrite(const Model& model, uint32_t index, std::unique_ptr<SiteImpl>* out) override {
    const engine_model_host* api = Model::Api();
    engine_site_info site = Sized<engine_site_info>();
    ENGINE_RETURN_IF_ERROR(Status(api->site(model.get(), index, &site)));
    uint32_t param = 0;
    ENGINE_RETURN_IF_ERROR(Status(api->param_find(model.get(), site.weight, &param)));
    const std::vector<float>* input_scales = nullptr;
    if (options.has_calibrate) ENGINE_RETURN_IF_ERROR(Calibrate(model, index, &input_scales));
    engine_packed* packed = nullptr;
    ENGINE_RETURN_IF_ERROR(Status(api->packed_create(site.out, site.in, Group(), &packed)));
    auto impl = std::make_unique<Int8Linear>(packed);
    if (input_scales != nullptr) {
      ENGINE_RETURN_IF_ERROR(Status(api->packed_set_input_scales(packed, input_scales->data())));
    }

    // Rows are read, quantized and forgotten a few at a time: the dense weight never exists.
    struct Work {
      const engine_model_host* api;
      engine_model* model;
      engine_packed* packed;
      uint32_t param;
      int64_t columns, group;
      const std::vector<float>* input_scales;
      std::atomic<engine_status*> failure{nullptr};
    } work{api, model.get(), packed, param, site.in, Group(), input_scales, {}};
    ThisHost().tasks->parallel_for(
        site.out, 64,
        [](void* arg, int64_t begin, int64_t end) {
          Work& w = *static_cast<Work*>(arg);
          engine_status* status = Guard([&]() -> Status {
            std::vector<float> rows(static_cast<size_t>(64 * w.columns));
            std::vector<int8_t> q(static_cast<size_t>(w.columns));
            const int64_t group = w.group == 0 ? w.columns : w.group;
            std::vector<float> scales(static_cast<size_t>((w.columns + group - 1) / group));
            for (int64_t r = begin; r < end; r += 64) {
              const int64_t stop = std::min(end, r + 64);
              ENGINE_RETURN_IF_ERROR(
                  Status(w.api->param_rows(w.model, w.param, r, stop, rows.data())));
              for (int64_t i = r; i < stop; ++i) {
                float* row = rows.data() + (i - r) * w.columns;
                for (int64_t k = 0; w.input_scales != nullptr && k < w.columns; ++k) {
                  row[k] /= (*w.input_scales)[static_cast<size_t>(k)];
                }
                for (int64_t k = 0; k < w.columns; k += group) {
                  QuantizeGroup(row + k, std::min(group, w.columns - k), w.group != 0, q.data() + k,
                                &scales[static_cast<size_t>(k / group)]);
                }
                ENGINE_RETURN_IF_ERROR(
                    Status(w.api->packed_set_row(w.packed, i, q.data(), scales.data())));
              }
            }
            return Status();
          });
          if (status == nullptr) return;
          Status lost(w.failure.exchange(status));
        },
        &work);
    ENGINE_RETURN_IF_ERROR(Status(work.failure.load()));
    ENGINE_RETURN_IF_ERROR(Status(api->param_encode(
        model.get(), site.weight,
        Group() == 0 ? ENGINE_CODEC_INT8_PER_CHANNEL : ENGINE_CODEC_INT8_GROUPS, packed)));
    *out = std::move(impl);
    return Status();
  }
  Status Finish(const Model&) override {
    calibration_.reset();
    quantized_.clear();
    return Status();
  }

 private:
  // At the first site, while the model is still what it was.
  Status Calibrate(const Model& model, uint32_t index, const std::vector<float>** scales) {
    if (calibration_ == nullptr) {
      calibration_ = std::make_unique<Calibration>();
      ENGINE_RETURN_IF_ERROR(
          calibration_->Measure(model, options.calibrate, options.calibrate_tokens));
      for (const engine_site_info& site : model.Sites()) quantized_.push_back(Wanted(site));
    }
    return calibration_->ScalesOf(model, index, quantized_, scales);
  }

  std::unique_ptr<Calibration> calibration_;
  std::vector<bool> quantized_;
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
