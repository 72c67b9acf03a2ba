// trainer and train_log.
#include "engine/plugin.hpp"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <set>

#include "adamw.h"
#include "engine/torch_ops.h"
#include "engine/util.hpp"
#include "nlohmann/json.hpp"
#include "options.engine.hpp"

namespace engine::trainer {
namespace {

struct Trainer : Node {
  ENGINE_NODE(
      "trainer",
      "Trains what is trainable in a model on a text, with AdamW. Gives one packet a step. A "
      "model without trainable parameters, and a parameter that gets no gradient by the "
      "second step, are errors.",
      .executor = "compute")
  ENGINE_OPTIONS(TrainerOptions)
  Out<engine_train_step> out{this, {.name = "STEP", .doc = "Figures of each step."}};
  UseModel model{
      this, ENGINE_TYPE_MODEL, {.name = "MODEL", .doc = "What is trained.", .mutates = true}};

  Status Open(Call& call) override {
    engine_model* m = model.Get(call);
    const engine_model_host* api = ThisHost().model;
    std::string text;
    ENGINE_RETURN_IF_ERROR(Status(api->read_text(Str(options.data), &AppendTo, &text)));
    const engine::Model view(m);
    ENGINE_RETURN_IF_ERROR(view.Encode(text, 0, &tokens_));
    if (tokens_.size() <= options.sequence) {
      return Error(ENGINE_OUT_OF_RANGE, "'", options.data, "' has ", tokens_.size(),
                   " tokens; a sequence takes ", options.sequence, " and more are needed");
    }
    std::vector<ops::Tensor> params;
    const std::vector<engine_param_info> all = view.Params();
    for (uint32_t i = 0; i < all.size(); ++i) {
      if (all[i].trainable == 0) continue;
      AtenTensorHandle handle = nullptr;
      ENGINE_RETURN_IF_ERROR(Status(api->param_tensor(m, i, &handle)));
      params_.push_back({std::string(View(all[i].name)), ops::Tensor(handle)});
      params.push_back(params_.back().tensor);
    }
    if (params_.empty()) {
      return Error(ENGINE_FAILED_PRECONDITION,
                   "the model has nothing to train; put an adapter such as lora before it");
    }
    return optimizer_.Init(
        {options.lr, options.beta1, options.beta2, options.eps, options.weight_decay}, params);
  }

  Status Process(Call& call) override {
    const uint64_t begin = NowNs();
    Status status = Step(call, begin);
    if (!status.ok()) {
      // A run of training has no next packet that would make sense.
      call.FailRun(status);
      return status;
    }
    if (step_ < options.steps && !call.Cancelled()) return Status();
    call.Finish();
    return SaveOnce(call);
  }

  // An interrupted run keeps what it has trained.
  Status Close(Call& call) override { return step_ == 0 ? Status() : SaveOnce(call); }

 private:
  struct Param {
    std::string name;
    ops::Tensor tensor;
    bool moved = false;  // had a gradient other than zero
  };

  Status Step(Call& call, uint64_t begin) {
    engine_model* m = model.Get(call);
    const engine_model_host* api = ThisHost().model;
    const engine_autograd* autograd = ThisHost().autograd;
    const auto batch = static_cast<int64_t>(options.batch);
    const auto length = static_cast<int64_t>(options.sequence);
    const ops::Tensor ids = ops::Empty({batch, length}, ENGINE_I64);
    const ops::Tensor labels = ops::Empty({batch, length}, ENGINE_I64);
    const auto starts = static_cast<int64_t>(tokens_.size()) - length;
    for (int64_t b = 0; b < batch; ++b) {
      const int64_t start = (static_cast<int64_t>(step_) * batch * length + b * length) % starts;
      for (int64_t t = 0; t < length; ++t) {
        const auto at = static_cast<size_t>(start + t);
        ops::Data<int64_t>(ids)[b * length + t] = tokens_[at];
        // Each token is asked for its successor within the sequence.
        ops::Data<int64_t>(labels)[b * length + t] = t + 1 < length ? tokens_[at + 1] : -100;
      }
    }
    for (Param& p : params_) {
      ENGINE_RETURN_IF_ERROR(Status(autograd->clear_grad(p.tensor.get())));
    }
    uint32_t mode = 0;
    ENGINE_RETURN_IF_ERROR(Status(autograd->set_mode(ENGINE_GRAD_TRAIN, &mode)));
    AtenTensorHandle sum = nullptr;
    int64_t count = 0;
    ENGINE_RETURN_IF_ERROR(Status(api->loss(m, ids.get(), labels.get(), &sum, &count)));
    const ops::Tensor total(sum);
    const ops::Tensor loss =
        ops::Div(total, ops::Number(static_cast<double>(count), ops::DtypeOf(total)));
    ENGINE_RETURN_IF_ERROR(Status(autograd->backward(loss.get(), nullptr)));
    ENGINE_RETURN_IF_ERROR(Status(autograd->set_mode(mode, &mode)));
    std::vector<ops::Tensor> grads;
    double squares = 0;
    for (Param& p : params_) {
      AtenTensorHandle handle = nullptr;
      ENGINE_RETURN_IF_ERROR(Status(autograd->grad_of(p.tensor.get(), &handle)));
      if (handle == nullptr) {
        return Error(ENGINE_FAILED_PRECONDITION, "parameter '", p.name,
                     "' got no gradient: nothing that the loss depends on uses it");
      }
      grads.emplace_back(handle);
      const ops::Tensor square =
          ops::To(ops::Sum(ops::Mul(grads.back(), grads.back())), ENGINE_F64);
      const double value = *ops::Data<double>(square);
      if (!std::isfinite(value)) {
        return Error(ENGINE_DATA_LOSS, "the gradient of '", p.name, "' is not finite in step ",
                     step_ + 1, "; a lower learning rate may help");
      }
      p.moved = p.moved || value > 0;
      squares += value;
    }
    if (step_ + 1 == 2) {
      for (const Param& p : params_) {
        if (p.moved) continue;
        return Error(ENGINE_FAILED_PRECONDITION, "parameter '", p.name,
                     "' had no gradient other than zero in two steps: it does not train");
      }
    }
    optimizer_.Step(grads);
    api->params_changed(m);
    ++step_;
    auto payload = std::make_unique<engine_train_step>();
    payload->step = step_;
    payload->loss = *ops::Data<double>(ops::To(ops::Detach(loss), ENGINE_F64));
    payload->tokens = static_cast<uint64_t>(count);
    payload->grad_norm = std::sqrt(squares);
    payload->seconds = static_cast<double>(NowNs() - begin) * 1e-9;
    return out.Emit(call, std::move(payload));
  }

  Status SaveOnce(Call& call) {
    if (!options.has_out || saved_) return Status();
    saved_ = true;
    return Save(model.Get(call));
  }

  // PEFT's adapter folder: adapter_config.json and adapter_model.safetensors.
  Status Save(engine_model* m) const {
    std::vector<std::string> names;
    std::vector<engine_str> views;
    std::vector<AtenTensorHandle> handles;
    std::set<std::string> targets;
    int64_t rank = 0;
    for (const Param& p : params_) {
      names.push_back("base_model.model." + p.name);
      handles.push_back(p.tensor.get());
      const size_t at = p.name.find(".lora_A.");
      if (at == std::string::npos) continue;
      rank = p.tensor.size(0);
      targets.insert(
          p.name.substr(p.name.rfind('.', at - 1) + 1, at - p.name.rfind('.', at - 1) - 1));
    }
    if (rank == 0) {
      return Error(ENGINE_FAILED_PRECONDITION, "out is given, but the model has no LoRA adapter");
    }
    // The branches say what they are scaled by; PEFT keeps alpha.
    double scale = 1;
    const engine::Model view(m);
    for (uint32_t i = 0; i < view.Sites().size(); ++i) {
      const auto* low = view.Extension<engine_low_rank>(i, ENGINE_EXT_LOW_RANK);
      if (low == nullptr) continue;
      scale = low->scale;
      break;
    }
    for (const std::string& name : names) views.push_back(Str(name));
    const std::string file = options.out + "/adapter_model.safetensors";
    const engine_model_host* api = ThisHost().model;
    ENGINE_RETURN_IF_ERROR(Status(api->files_write(Str(file), views.data(), handles.data(),
                                                   static_cast<uint32_t>(handles.size()))));
    nlohmann::ordered_json config;
    config["peft_type"] = "LORA";
    config["task_type"] = "CAUSAL_LM";
    config["r"] = rank;
    config["lora_alpha"] = scale * static_cast<double>(rank);
    config["lora_dropout"] = 0.0;
    config["bias"] = "none";
    config["fan_in_fan_out"] = false;
    config["inference_mode"] = true;
    config["target_modules"] = targets;
    const std::string text = config.dump(2) + "\n";
    const std::string path = options.out + "/adapter_config.json";
    return Status(api->write_text(Str(path), Str(text)));
  }

  std::vector<int32_t> tokens_;
  std::vector<Param> params_;
  AdamW optimizer_;
  uint32_t step_ = 0;
  bool saved_ = false;
};

struct TrainLog : Node {
  ENGINE_NODE("train_log", "Writes one line a step.", .executor = "io")
  ENGINE_OPTIONS(TrainLogOptions)
  In<engine_train_step> in{this, {.name = "STEP", .doc = "Figures of each step."}};

  Status Open(Call&) override {
    if (!options.has_path) return Status();
    file_.open(options.path);
    if (!file_) return Error(ENGINE_INVALID_ARGUMENT, "'", options.path, "' cannot be written");
    return Status();
  }
  Status Process(Call& call) override {
    const engine_train_step& s = *in.Get(call);
    if (!options.has_path) {
      std::fprintf(stderr, "step %u: loss %.6f, gradient norm %.4f, %.1f tokens/s\n", s.step,
                   s.loss, s.grad_norm, static_cast<double>(s.tokens) / s.seconds);
      return Status();
    }
    nlohmann::ordered_json j;
    j["step"] = s.step;
    j["loss"] = s.loss;
    j["tokens"] = s.tokens;
    j["seconds"] = s.seconds;
    j["grad_norm"] = s.grad_norm;
    j["peak_bytes"] = PeakBytes();
    file_ << j.dump() << std::endl;
    if (!file_) return Error(ENGINE_UNAVAILABLE, "'", options.path, "' could not be written");
    return Status();
  }

 private:
  std::ofstream file_;
};

}  // namespace
}  // namespace engine::trainer

ENGINE_PLUGIN((engine::PluginInfo{.id = "engine.trainer",
                                  .version = "0.1.0",
                                  .summary = "Training on a text with AdamW.",
                                  .license = "Apache-2.0",
                                  .schemas = engine::trainer::kSchema,
                                  .schemas_size = sizeof engine::trainer::kSchema}),
              engine::Nodes<engine::trainer::Trainer, engine::trainer::TrainLog>)
