// engine.model/1 as the host offers it: each entry checks what it was given and turns it into a
// call of Model.
#include <cmath>
#include <limits>

#include "engine/kernels/kernels.h"
#include "engine/kernels/parallel.h"
#include "engine/model/choose.h"
#include "engine/model/export_model.h"
#include "engine/model/formats/chat_template.h"
#include "engine/model/host_services.h"
#include "engine/model/model.h"
#include "engine/model/model_files.h"
#include "engine/torch_ops.h"
#include "engine/util.hpp"

namespace engine::model {
namespace {

void Info(const engine_model* m, engine_model_info* out) {
  const Model& model = *FromC(m);
  const ModelConfig& c = model.config();
  Give(engine_model_info{sizeof(engine_model_info),
                         model.dtype(),
                         Str(c.name),
                         Str(c.architecture),
                         c.hidden,
                         c.blocks,
                         c.heads,
                         c.kv_heads,
                         c.head_dim,
                         c.mlp,
                         c.vocab,
                         model.context(),
                         c.rope_theta,
                         c.norm_eps,
                         c.tied_embedding,
                         {},
                         static_cast<uint32_t>(model.adapters().size()),
                         0,
                         model.fingerprint()},
       out);
}

engine_status* SiteInfo(const engine_model* m, uint32_t i, engine_site_info* out) {
  const Model& model = *FromC(m);
  if (i >= model.sites().size()) {
    return engine::internal::NewStatus(ENGINE_OUT_OF_RANGE,
                                       "no site has the number " + std::to_string(i));
  }
  const Site& s = model.sites()[i];
  Give(engine_site_info{sizeof(engine_site_info), s.kind, Str(s.name), Str(s.weight), s.in, s.out,
                        s.block, 0},
       out);
  return nullptr;
}

Status ParamAt(const engine_model* m, uint32_t i, const Param** out) {
  const auto& params = FromC(m)->params();
  if (i >= params.size()) {
    return Error(ENGINE_OUT_OF_RANGE, "no parameter has the number ", i);
  }
  *out = &params[i];
  return Status();
}

engine_status* ParamInfo(const engine_model* m, uint32_t i, engine_param_info* out) {
  return Guard([&] {
    const Param* p = nullptr;
    ENGINE_RETURN_IF_ERROR(ParamAt(m, i, &p));
    engine_param_info info = Sized<engine_param_info>();
    info.rank = static_cast<uint32_t>(p->shape.size());
    info.name = Str(p->name);
    for (size_t d = 0; d < p->shape.size() && d < 4; ++d) info.shape[d] = p->shape[d];
    info.dtype = p->dtype;
    info.codec = p->codec;
    info.trainable = p->trainable;
    info.tie_group = Str(p->tie_group);
    info.init_key = Str(p->init_key);
    info.optimizer_group = Str(p->optimizer_group);
    Give(info, out);
    return Status();
  });
}

engine_status* ParamFind(const engine_model* m, engine_str name, uint32_t* out) {
  const auto& params = FromC(m)->params();
  for (uint32_t i = 0; i < params.size(); ++i) {
    if (params[i].name != View(name)) continue;
    *out = i;
    return nullptr;
  }
  return engine::internal::NewStatus(ENGINE_NOT_FOUND,
                                     "no parameter is named '" + std::string(View(name)) + "'");
}

engine_status* ParamTensor(engine_model* m, uint32_t i, AtenTensorHandle* out) {
  return Guard([&] {
    const Param* p = nullptr;
    ENGINE_RETURN_IF_ERROR(ParamAt(m, i, &p));
    std::optional<Tensor> tensor;
    ENGINE_RETURN_IF_ERROR(FromC(m)->DenseTensor(*p, &tensor));
    *out = ops::Release(*tensor);
    return Status();
  });
}

engine_status* ParamCopy(engine_model* m, uint32_t i, AtenTensorHandle* out) {
  return Guard([&]() -> Status {
    const Param* p = nullptr;
    ENGINE_RETURN_IF_ERROR(ParamAt(m, i, &p));
    // By rows, so that the base does not come to hold a dense tensor as well.
    const uint32_t dtype = FromC(m)->dtype();
    const bool wide = dtype == ENGINE_F64;
    const Tensor copy = ops::Empty(p->shape, wide ? ENGINE_F64 : ENGINE_F32);
    ENGINE_RETURN_IF_ERROR(wide ? FromC(m)->ReadRows(*p, 0, p->rows(), ops::Data<double>(copy))
                                : FromC(m)->ReadRows(*p, 0, p->rows(), ops::Data<float>(copy)));
    *out = ops::Release(ops::To(copy, dtype));
    return Status();
  });
}

engine_status* Encode(const engine_model* m, engine_str text, uint32_t flags, int32_t* ids,
                      uint64_t capacity, uint64_t* count) {
  return Guard([&] {
    std::vector<int32_t> all;
    ENGINE_RETURN_IF_ERROR(FromC(m)->base().tokenizer->Encode(
        View(text), (flags & ENGINE_ENCODE_SPECIAL) != 0, (flags & ENGINE_ENCODE_BOS) != 0, &all));
    *count = all.size();
    std::copy_n(all.begin(), std::min<uint64_t>(capacity, all.size()), ids);
    return Status();
  });
}

engine_status* TokenBytes(const engine_model* m, int32_t id, engine_str* out) {
  const Tokenizer& tokenizer = *FromC(m)->base().tokenizer;
  if (id < 0 || id >= tokenizer.vocab_size()) {
    return engine::internal::NewStatus(ENGINE_OUT_OF_RANGE,
                                       "no token has the id " + std::to_string(id));
  }
  *out = tokenizer.IsSpecial(id) ? engine_str{} : Str(tokenizer.TokenBytes(id));
  return nullptr;
}

uint8_t TokenStops(const engine_model* m, int32_t id) {
  for (int64_t stop : FromC(m)->config().stop_ids) {
    if (stop == id) return 1;
  }
  return 0;
}

// Compiled once, for as long as the process lives: a process has few templates.
Status CompiledTemplate(const std::string& text, std::shared_ptr<const ChatTemplate>* out) {
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<const ChatTemplate>> known;  // guarded by mutex
  std::lock_guard lock(mutex);
  std::shared_ptr<const ChatTemplate>& compiled = known[text];
  if (compiled == nullptr) {
    std::unique_ptr<ChatTemplate> made;
    ENGINE_RETURN_IF_ERROR(ChatTemplate::Compile(text, &made));
    compiled = std::move(made);
  }
  *out = compiled;
  return Status();
}

Status RenderChat(const ModelConfig& c, const nlohmann::ordered_json& messages,
                  const nlohmann::ordered_json& tools, bool generate, std::string* text) {
  ChatTemplateOptions options;
  options.add_generation_prompt = generate;
  options.bos_token = c.bos_token;
  options.eos_token = c.eos_token;
  options.tools = tools;
  std::shared_ptr<const ChatTemplate> compiled;
  ENGINE_RETURN_IF_ERROR(CompiledTemplate(c.chat_template, &compiled));
  return compiled->Render(messages, options, text);
}

// What follows an answer in the model's chat format. Found by difference: the template of a
// conversation with a further turn is that of the turns before, the answer, and what we look for.
Status ContinueChat(const ModelConfig& c, std::string_view user, std::string* out) {
  static constexpr std::string_view kAnswer = "\x01answer\x01";
  const auto turn = [](const char* role, std::string_view text) {
    nlohmann::ordered_json t;
    t["role"] = role;
    t["content"] = std::string(text);
    return t;
  };
  std::string text;
  ENGINE_RETURN_IF_ERROR(
      RenderChat(c,
                 nlohmann::ordered_json::array(
                     {turn("user", "-"), turn("assistant", kAnswer), turn("user", user)}),
                 nullptr, /*generate=*/true, &text));
  const size_t at = text.find(kAnswer);
  if (at == std::string::npos) {
    return Error(ENGINE_FAILED_PRECONDITION, "the chat format of model '", c.name,
                 "' changes answers, so that a conversation cannot be continued turn by turn");
  }
  *out = text.substr(at + kAnswer.size());
  return Status();
}

engine_status* Chat(const engine_model* m, engine_str user, uint32_t flags, engine_put put,
                    void* arg) {
  return Guard([&]() -> Status {
    const ModelConfig& c = FromC(m)->config();
    if (c.chat_template.empty()) {
      return Error(ENGINE_FAILED_PRECONDITION, "model '", c.name,
                   "' has no chat format; give the prompt as it is (chat=false)");
    }
    std::string text;
    if ((flags & ENGINE_CHAT_CONTINUE) != 0) {
      ENGINE_RETURN_IF_ERROR(ContinueChat(c, View(user), &text));
      return Status(put(arg, Str(text)));
    }
    nlohmann::ordered_json turn;
    turn["role"] = "user";
    turn["content"] = std::string(View(user));
    ENGINE_RETURN_IF_ERROR(
        RenderChat(c, nlohmann::ordered_json::array({turn}), nullptr, /*generate=*/true, &text));
    return Status(put(arg, Str(text)));
  });
}

engine_status* ChatRender(const engine_model* m, engine_str messages, engine_str tools,
                          uint32_t flags, engine_put put, void* arg) {
  return Guard([&]() -> Status {
    const ModelConfig& c = FromC(m)->config();
    if (c.chat_template.empty()) {
      return Error(ENGINE_FAILED_PRECONDITION, "model '", c.name, "' has no chat format");
    }
    const auto list = nlohmann::ordered_json::parse(View(messages), nullptr, false);
    if (!list.is_array()) return Error(ENGINE_INVALID_ARGUMENT, "messages are no JSON list");
    nlohmann::ordered_json tool_list;
    if (tools.size != 0) {
      tool_list = nlohmann::ordered_json::parse(View(tools), nullptr, false);
      if (!tool_list.is_array()) {
        return Error(ENGINE_INVALID_ARGUMENT, "tools are no JSON list");
      }
    }
    std::string text;
    ENGINE_RETURN_IF_ERROR(
        RenderChat(c, list, tool_list, (flags & ENGINE_CHAT_GENERATE) != 0, &text));
    return Status(put(arg, Str(text)));
  });
}

engine_status* StepC(engine_model* m, const engine_step* step, float* logits) {
  return Guard([&]() -> Status {
    ENGINE_RETURN_IF_ERROR(CheckComplete(step, "the step"));
    return FromC(m)->Step(*step, logits);
  });
}

engine_status* ChooseC(engine_model* m, const engine_logits* logits,
                       const engine_sampling* fallback, const engine_choices* out) {
  return Guard([&]() -> Status {
    ENGINE_RETURN_IF_ERROR(CheckComplete(logits, "what holds the logits"));
    ENGINE_RETURN_IF_ERROR(CheckComplete(fallback, "the sampling of rows without their own"));
    ENGINE_RETURN_IF_ERROR(CheckComplete(out, "what takes the choices"));
    static const std::vector<int64_t> kNone;
    const uint64_t begin_ns = NowNs();
    Status status = Choose(*logits, Known(*fallback),
                           m != nullptr ? FromC(m)->config().stop_ids : kNone, Known(*out));
    if (m != nullptr) FromC(m)->AddKernelTime(NowNs() - begin_ns);
    return status;
  });
}

engine_status* SampleC(engine_model* m, const engine_logits* logits,
                       const engine_sampling* fallback, int32_t* ids, float* margins) {
  engine_choices out = Sized<engine_choices>();
  out.ids = ids;
  out.margins = margins;
  return ChooseC(m, logits, fallback, &out);
}

void StepTimes(const engine_model* m, uint64_t* steps, uint64_t* step_ns, uint64_t* kernel_ns) {
  const Model::Times& times = FromC(m)->times();
  *steps = times.steps.load(std::memory_order_relaxed);
  *step_ns = times.step_ns.load(std::memory_order_relaxed);
  *kernel_ns = times.kernel_ns.load(std::memory_order_relaxed);
}

engine_status* AdapterFind(const engine_model* m, engine_str name, uint32_t* number) {
  return Guard([&]() -> Status {
    *number = FromC(m)->AdapterNumber(View(name));
    if (*number != 0 || name.size == 0) return Status();
    std::string known;
    for (const std::string& a : FromC(m)->adapters()) known += (known.empty() ? "" : ", ") + a;
    return Error(ENGINE_NOT_FOUND, "the model has no adapter named '", View(name), "'; ",
                 known.empty() ? "it has no named adapter at all" : "there are: " + known);
  });
}

engine_status* ForwardC(engine_model* m, AtenTensorHandle ids, AtenTensorHandle* logits) {
  return Guard([&] {
    std::optional<Tensor> out;
    ENGINE_RETURN_IF_ERROR(FromC(m)->Forward(ops::Borrow(ids), &out));
    *logits = ops::Release(*out);
    return Status();
  });
}

engine_status* LossC(engine_model* m, AtenTensorHandle ids, AtenTensorHandle labels,
                     const engine_loss_how* c, AtenTensorHandle* sum, int64_t* count) {
  return Guard([&]() -> Status {
    std::optional<Tensor> out, example;
    LossHow how;
    if (c != nullptr) {
      ENGINE_RETURN_IF_ERROR(CheckComplete(c, "how the loss is computed"));
      if (c->example != nullptr) example = ops::Borrow(c->example);
      if (!(c->label_smoothing >= 0 && c->label_smoothing < 1)) {
        return Error(ENGINE_INVALID_ARGUMENT, "label_smoothing is ", c->label_smoothing,
                     "; it must be at least 0 and below 1");
      }
      how = {example ? &*example : nullptr, (c->flags & ENGINE_LOSS_DROPOUT) != 0, c->step,
             c->microbatch, c->label_smoothing};
    }
    ENGINE_RETURN_IF_ERROR(FromC(m)->Loss(ops::Borrow(ids), ops::Borrow(labels), how, &out, count));
    *sum = ops::Release(*out);
    return Status();
  });
}

engine_status* DropoutC(const engine_forward* pass, double p, uint64_t seed, uint64_t stream,
                        AtenTensorHandle x, AtenTensorHandle* y) {
  return Guard([&]() -> Status {
    if (!(p >= 0 && p < 1)) {
      return Error(ENGINE_INVALID_ARGUMENT, "a dropout of ", p,
                   "; it must be at least 0 and below 1");
    }
    const Dropout how = DropoutOf(*pass, p, seed, stream);
    *y = ops::Release(how.p == 0 ? ops::Borrow(x) : FusedDropout(ops::Borrow(x), how));
    return Status();
  });
}

engine_status* PackedCreate(int64_t out, int64_t in, int64_t group, engine_packed** matrix) {
  return Guard([&] {
    auto made = std::make_unique<engine_packed>();
    kernels::IntScheme scheme;
    scheme.group = group;
    ENGINE_RETURN_IF_ERROR(kernels::PackedMatrix::MakeInt(scheme, out, in, &made->matrix));
    *matrix = made.release();
    return Status();
  });
}

engine_status* PackedSetRow(engine_packed* matrix, int64_t row, const int8_t* q,
                            const float* scales) {
  if (row < 0 || row >= matrix->matrix->out()) {
    return engine::internal::NewStatus(
        ENGINE_OUT_OF_RANGE,
        "row " + std::to_string(row) + " of " + std::to_string(matrix->matrix->out()));
  }
  for (int64_t g = 0; g < matrix->matrix->groups(); ++g) {
    const bool whole = matrix->matrix->scheme().group == 0;
    if (std::isfinite(scales[g]) && (whole || HalfToFloat(FloatToHalf(scales[g])) == scales[g])) {
      continue;
    }
    return engine::internal::NewStatus(
        ENGINE_INVALID_ARGUMENT, "scale " + std::to_string(g) + " of row " + std::to_string(row) +
                                     " is " + std::to_string(scales[g]) +
                                     ", which half precision does not hold");
  }
  matrix->matrix->SetRowInt8(row, q, scales);
  return nullptr;
}

engine_status* PackedSetInputScales(engine_packed* matrix, const float* scales) {
  return Guard([&]() -> Status {
    const std::span all(scales, static_cast<size_t>(matrix->matrix->in()));
    for (const float& s : all) {
      if (std::isfinite(s) && s > 0) continue;
      return Error(ENGINE_INVALID_ARGUMENT, "the scale of input ", &s - scales, " is ", s,
                   "; it must be finite and above zero");
    }
    matrix->matrix->SetInputScales(all);
    return Status();
  });
}

engine_status* InputPeaks(engine_model* m, const int32_t* ids, uint64_t count, engine_peaks put,
                          void* arg) {
  return Guard([&]() -> Status {
    std::vector<std::vector<float>> peaks;
    ENGINE_RETURN_IF_ERROR(FromC(m)->InputPeaks({ids, static_cast<size_t>(count)}, &peaks));
    for (uint32_t site = 0; site < peaks.size(); ++site) {
      if (peaks[site].empty()) continue;
      ENGINE_RETURN_IF_ERROR(
          Status(put(arg, site, peaks[site].data(), static_cast<int64_t>(peaks[site].size()))));
    }
    return Status();
  });
}

engine_status* PackedForward(engine_packed* packed, AtenTensorHandle handle, AtenTensorHandle* y) {
  return Guard([&]() -> Status {
    const kernels::PackedMatrix& matrix = *packed->matrix;
    const Tensor x = ops::Borrow(handle);
    ops::Ints sizes = ops::Sizes(x);
    if (sizes.empty() || sizes.back() != matrix.in()) {
      return Error(ENGINE_INVALID_ARGUMENT, "the input's last dimension is ",
                   sizes.empty() ? 0 : sizes.back(), "; the matrix takes ", matrix.in());
    }
    const Tensor f32 = ops::Contiguous(ops::To(x, ENGINE_F32));
    int64_t rows = 1;
    for (size_t d = 0; d + 1 < sizes.size(); ++d) rows *= sizes[d];
    sizes.back() = matrix.out();
    const Tensor out = ops::Empty(sizes, ENGINE_F32);
    kernels::Scratch scratch;
    const kernels::Product product{&matrix, ops::Data<float>(out), matrix.out()};
    kernels::Multiply({ops::Data<float>(f32), matrix.in(), rows}, {&product, 1}, &scratch);
    *y = ops::Release(ops::To(out, ops::DtypeOf(x)));
    return Status();
  });
}

engine_status* PackedDense(engine_packed* packed, uint32_t dtype, AtenTensorHandle* out) {
  return Guard([&] {
    const kernels::PackedMatrix& matrix = *packed->matrix;
    const Tensor dense = ops::Empty({matrix.out(), matrix.in()}, ENGINE_F32);
    float* to = ops::Data<float>(dense);
    kernels::ParallelFor(matrix.out(), 64, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) matrix.GetRow(r, to + r * matrix.in());
    });
    *out = ops::Release(ops::To(dense, dtype));
    return Status();
  });
}

const engine_model_host kModelHost = {
    sizeof(engine_model_host),
    &Info,
    [](const engine_model* m) { return static_cast<uint32_t>(FromC(m)->sites().size()); },
    &SiteInfo,
    [](const engine_model* m, uint32_t i) { return &FromC(m)->impl(i); },
    [](const engine_model* m) { return static_cast<uint32_t>(FromC(m)->params().size()); },
    &ParamInfo,
    &ParamFind,
    [](const engine_model* m, uint32_t i, int64_t begin, int64_t end, float* to) -> engine_status* {
      return Guard([&] {
        const Param* p = nullptr;
        ENGINE_RETURN_IF_ERROR(ParamAt(m, i, &p));
        return FromC(m)->ReadRows(*p, begin, end, to);
      });
    },
    &ParamTensor,
    [](engine_model* m, const engine_param_info* info, AtenTensorHandle t) -> engine_status* {
      const Tensor tensor(t);
      return Guard([&]() -> Status {
        ENGINE_RETURN_IF_ERROR(CheckComplete(info, "the parameter's description"));
        return FromC(m)->AddParam(*info, tensor);
      });
    },
    [](engine_model* m, const engine_param_info* info, AtenTensorHandle t) -> engine_status* {
      const Tensor tensor(t);
      return Guard([&]() -> Status {
        ENGINE_RETURN_IF_ERROR(CheckComplete(info, "the parameter's description"));
        return FromC(m)->ReplaceParam(*info, tensor);
      });
    },
    &ParamCopy,
    [](engine_model* m, engine_str name, uint32_t codec, engine_packed* p) -> engine_status* {
      return Guard([&] { return FromC(m)->EncodeParam(View(name), codec, p); });
    },
    &AdapterFind,
    &Encode,
    &TokenBytes,
    &TokenStops,
    &Chat,
    &ChatRender,
    [](engine_model* m) -> engine_status* { return Guard([&] { return FromC(m)->Prepare(); }); },
    &StepC,
    &SampleC,
    &StepTimes,
    &ForwardC,
    &LossC,
    &InputPeaks,
    [](engine_model* m, int64_t batch, int64_t tokens,
       engine_train_estimate* out) -> engine_status* {
      return Guard([&] {
        engine_train_estimate estimate = Sized<engine_train_estimate>();
        ENGINE_RETURN_IF_ERROR(FromC(m)->Estimate(batch, tokens, &estimate));
        Give(estimate, out);
        return Status();
      });
    },
    [](engine_model* m) { FromC(m)->ParamsChanged(); },
    [](engine_forward* pass) { pass->references.fetch_add(1); },
    [](engine_forward* pass) {
      if (pass->references.fetch_sub(1) == 1) delete pass;
    },
    [](const engine_forward* pass) { return ToC(pass->model.get()); },
    [](const engine_forward* pass, int64_t* batch, int64_t* tokens) {
      *batch = pass->batch;
      *tokens = pass->tokens;
    },
    [](engine_forward* pass, uint32_t site) { OnlySite(*pass, site); },
    [](const engine_forward* pass, uint32_t site, engine_site_cost* out) -> engine_status* {
      return Guard([&] {
        engine_site_cost cost = Sized<engine_site_cost>();
        ENGINE_RETURN_IF_ERROR(SiteCost(*pass, site, &cost));
        Give(cost, out);
        return Status();
      });
    },
    &DropoutC,
    &PackedCreate,
    &PackedSetRow,
    &PackedSetInputScales,
    [](engine_packed* p) { p->references.fetch_add(1); },
    [](engine_packed* p) {
      if (p->references.fetch_sub(1) == 1) delete p;
    },
    [](const engine_packed* p) { return p->matrix->bytes(); },
    &PackedForward,
    &PackedDense,
    &FilesOpen,
    &FilesClose,
    &ReadText,
    &FilesCount,
    &FilesName,
    &FilesTensor,
    &FilesWrite,
    &WriteText,
    &ExportModelC,
    &ProvenanceC,
    &ChooseC,
    [](const engine_model* m, uint32_t number, engine_str* out) -> engine_status* {
      const std::vector<std::string>& names = FromC(m)->adapters();
      if (number == 0 || number > names.size()) {
        return engine::internal::NewStatus(ENGINE_OUT_OF_RANGE,
                                           "no adapter has the number " + std::to_string(number));
      }
      *out = Str(names[number - 1]);
      return nullptr;
    },
};

}  // namespace

const engine_model_host* ModelHost() { return &kModelHost; }

}  // namespace engine::model
