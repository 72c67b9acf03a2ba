// trainer: gradients of some batches, one step of the optimizer, and what is kept of a run.
#include <cmath>
#include <map>
#include <utility>

#include "adapter_folder.h"
#include "engine/named_number.hpp"
#include "engine/util.hpp"
#include "nodes.h"
#include "sgd.h"

namespace engine::trainer {
namespace {

ops::Tensor ToI64(const int32_t* from, int64_t rows, int64_t length) {
  ops::Tensor to = ops::Empty({rows, length}, ENGINE_I64);
  std::copy(from, from + rows * length, ops::Data<int64_t>(to));
  return to;
}

}  // namespace

BatchTensors::BatchTensors(const engine_train_batch& batch)
    : ids(ToI64(batch.ids, batch.rows, batch.length)),
      labels(ToI64(batch.labels, batch.rows, batch.length)) {
  if (batch.example != nullptr) example = ToI64(batch.example, batch.rows, batch.length);
}

Status BatchTensors::Loss(engine_model* model, const Place* train, double* sum,
                          int64_t* count) const {
  const engine_autograd* autograd = ThisHost().autograd;
  uint32_t mode = 0;
  ENGINE_RETURN_IF_ERROR(Status(
      autograd->set_mode(train != nullptr ? ENGINE_GRAD_TRAIN : ENGINE_GRAD_NO_GRAD, &mode)));
  AtenTensorHandle handle = nullptr;
  engine_loss_how how = Sized<engine_loss_how>();
  if (train != nullptr) {
    how.flags = ENGINE_LOSS_DROPOUT;
    how.step = train->step;
    how.microbatch = train->microbatch;
    how.label_smoothing = train->label_smoothing;
  }
  how.example = example ? example->get() : nullptr;
  Status status(ThisHost().model->loss(model, ids.get(), labels.get(), &how, &handle, count));
  if (status.ok()) {
    const ops::Tensor loss(handle);
    // Of the sum, not the mean: each label weighs the same whichever batch it came with.
    if (train != nullptr) status = Status(autograd->backward(loss.get(), nullptr));
    *sum = *ops::Data<double>(ops::To(ops::Detach(loss), ENGINE_F64));
  }
  ENGINE_RETURN_IF_ERROR(Status(autograd->set_mode(mode, &mode)));
  return status;
}

Status Trainer::Open(Call& call) {
  engine_model* m = model.Get(call);
  const engine::Model view(m);
  const std::vector<engine_param_info> all = view.Params();
  for (uint32_t i = 0; i < all.size(); ++i) {
    if (all[i].trainable == 0) continue;
    AtenTensorHandle handle = nullptr;
    ENGINE_RETURN_IF_ERROR(Status(ThisHost().model->param_tensor(m, i, &handle)));
    params_.push_back({std::string(View(all[i].name)), std::string(View(all[i].optimizer_group)),
                       ops::Tensor(handle)});
    // Nothing of an earlier run counts.
    ENGINE_RETURN_IF_ERROR(Status(ThisHost().autograd->clear_grad(params_.back().tensor.get())));
  }
  if (params_.empty()) {
    return Error(ENGINE_FAILED_PRECONDITION,
                 "the model has nothing to train; put an adapter such as lora before it");
  }
  if (options.has_out) {
    AdapterFolder trial;  // what could not be kept is told before it is trained
    ENGINE_RETURN_IF_ERROR(GatherAdapter(m, &trial));
  }
  if (options.label_smoothing >= 1) {
    return Error(ENGINE_INVALID_ARGUMENT, "label_smoothing is ", options.label_smoothing,
                 "; it must be below 1");
  }
  if (options.has_momentum && options.optimizer != TrainerOptions::Optimizer::SGD) {
    return Error(ENGINE_INVALID_ARGUMENT, "momentum is SGD's, and the optimizer is AdamW");
  }
  schedule_ = {static_cast<Decay>(options.schedule), options.lr, options.min_lr_ratio,
               options.warmup_ratio, options.steps};
  std::vector<Optimizer::Param> params;
  ENGINE_RETURN_IF_ERROR(Rated(&params));
  if (options.optimizer == TrainerOptions::Optimizer::SGD) {
    optimizer_ = std::make_unique<Sgd>(options.momentum, options.weight_decay);
  } else {
    optimizer_ = std::make_unique<AdamW>(
        AdamWSettings{options.beta1, options.beta2, options.eps, options.weight_decay});
  }
  ENGINE_RETURN_IF_ERROR(optimizer_->Init(std::move(params)));
  if (!options.has_checkpoints) return Status();
  RunState state = State();
  bool found = false;
  ENGINE_RETURN_IF_ERROR(LoadState(options.checkpoints, &state, &found));
  if (!found) return Status();
  step_ = first_step_ = state.step;
  next_ = state.next;
  optimizer_->set_steps(step_);
  ThisHost().model->params_changed(m);
  Log(ENGINE_LOG_INFO, "trainer", "goes on after step ", step_, " of ", options.checkpoints);
  return Status();
}

Status Trainer::Rated(std::vector<Optimizer::Param>* out) const {
  std::map<std::string, double> ratios;
  for (const Param& p : params_) ratios[p.group] = 1;
  constexpr double kMost = 1e6;
  for (const std::string& text : options.group_lr) {
    std::pair<std::string, double> named;
    ENGINE_RETURN_IF_ERROR(ParseNamedNumber(text, "adapter.b=16", kMost, false, &named));
    const auto it = ratios.find(named.first);
    if (it == ratios.end()) {
      std::string known;
      for (const auto& [group, ratio] : ratios) known += (known.empty() ? "" : ", ") + group;
      return Error(ENGINE_NOT_FOUND, "group_lr names '", named.first,
                   "', which is no group of this model's parameters; there are: ", known);
    }
    it->second = named.second;
  }
  for (const Param& p : params_) out->push_back({p.tensor, ratios[p.group]});
  return Status();
}

Status Trainer::Process(Call& call) {
  const engine_train_batch& batch = *in.Get(call);
  if (step_ >= options.steps) {
    call.Finish();  // also of a run that was done when it began
    return SaveOnce(call);
  }
  if (std::exchange(save_due_, false)) {
    const Status status = SaveCheckpoint();
    if (!status.ok()) {
      call.FailRun(status);
      return status;
    }
  }
  if (batches_ == 0 && step_ == first_step_ && first_step_ > 0 && batch.start != next_) {
    const Status status = Error(ENGINE_FAILED_PRECONDITION, "the checkpoint goes on at position ",
                                next_, " of the data, but the first batch is of position ",
                                batch.start, "; give the dataset the same folder as resume");
    call.FailRun(status);
    return status;
  }
  if (taken_++ == 0) {
    uint64_t bytes = 0;
    for (const Param& p : params_) {
      bytes += static_cast<uint64_t>(p.tensor.numel() * DtypeBytes(ops::DtypeOf(p.tensor)));
    }
    estimate_.Begin(model.Get(call), batch.rows, batch.length, bytes,
                    uint64_t{options.steps - step_} * options.accumulate);
  }
  Status status = Accumulate(model.Get(call), batch);
  if (status.ok() && ++batches_ == options.accumulate) status = Step(call);
  if (!status.ok()) {
    // A run of training has no next packet that would make sense.
    call.FailRun(status);
    return status;
  }
  if (step_ < options.steps) return Status();
  call.Finish();
  return SaveOnce(call);
}

// An interrupted run keeps what it has trained; a step under way is done again by the next one.
Status Trainer::Close(Call& call) { return step_ == first_step_ ? Status() : SaveOnce(call); }

Status Trainer::Accumulate(engine_model* m, const engine_train_batch& batch) {
  if (batches_ == 0) begin_ns_ = NowNs();
  batches_end_ = batch.next;
  if (batch.valid == 0) return Status();
  double sum = 0;
  int64_t count = 0;
  const BatchTensors::Place place{step_, batches_, options.label_smoothing};
  ENGINE_RETURN_IF_ERROR(BatchTensors(batch).Loss(m, &place, &sum, &count));
  if (!std::isfinite(sum)) {
    return Error(ENGINE_DATA_LOSS, "the loss is not finite in step ", step_ + 1, ", at position ",
                 batch.start, " of the data; a lower learning rate may help");
  }
  sum_ += sum;
  count_ += count;
  return Status();
}

Status Trainer::Gradients(std::vector<ops::Tensor>* grads, double* norm) {
  double squares = 0;
  for (Param& p : params_) {
    AtenTensorHandle handle = nullptr;
    ENGINE_RETURN_IF_ERROR(Status(ThisHost().autograd->grad_of(p.tensor.get(), &handle)));
    if (handle == nullptr) {
      return Error(ENGINE_FAILED_PRECONDITION, "parameter '", p.name,
                   "' got no gradient: nothing that the loss depends on uses it");
    }
    grads->emplace_back(handle);
    const ops::Tensor square =
        ops::To(ops::Sum(ops::Mul(grads->back(), grads->back())), ENGINE_F64);
    const double value = *ops::Data<double>(square);
    if (!std::isfinite(value)) {
      return Error(ENGINE_DATA_LOSS, "the gradient of '", p.name, "' is not finite in step ",
                   step_ + 1, "; a lower learning rate may help");
    }
    p.moved = p.moved || value > 0;
    squares += value;
  }
  // A branch whose second half begins as zeros gives its first half a gradient after one step.
  if (unproved_ && updated_) {
    unproved_ = false;
    for (const Param& p : params_) {
      if (p.moved) continue;
      return Error(ENGINE_FAILED_PRECONDITION, "parameter '", p.name,
                   "' had no gradient other than zero by step ", step_ + 1, ": it does not train");
    }
  }
  *norm = std::sqrt(squares) / static_cast<double>(count_);
  return Status();
}

Status Trainer::Step(Call& call) {
  engine_model* m = model.Get(call);
  auto payload = std::make_unique<engine_train_step>();
  payload->struct_size = sizeof *payload;
  payload->lr = schedule_.At(step_);
  payload->steps = options.steps;
  if (count_ != 0) {
    std::vector<ops::Tensor> grads;
    ENGINE_RETURN_IF_ERROR(Gradients(&grads, &payload->grad_norm));
    double factor = 1 / static_cast<double>(count_);
    if (options.max_grad_norm > 0 && payload->grad_norm > options.max_grad_norm) {
      factor *= options.max_grad_norm / payload->grad_norm;
    }
    optimizer_->Step(grads, factor, payload->lr);
    updated_ = updated_ || payload->lr > 0;
    payload->loss = sum_ / static_cast<double>(count_);
  } else {
    optimizer_->set_steps(step_ + 1);  // nothing in these batches counts
  }
  for (const Param& p : params_) {
    ENGINE_RETURN_IF_ERROR(Status(ThisHost().autograd->clear_grad(p.tensor.get())));
  }
  ThisHost().model->params_changed(m);
  payload->step = ++step_;
  payload->tokens = static_cast<uint64_t>(count_);
  payload->seconds = static_cast<double>(NowNs() - begin_ns_) * 1e-9;
  next_ = batches_end_;
  batches_ = 0;
  sum_ = 0;
  count_ = 0;
  save_due_ = options.save_every != 0 && step_ % options.save_every == 0 && step_ < options.steps;
  return out.Emit(call, std::move(payload));
}

RunState Trainer::State() const {
  RunState state;
  state.step = step_;
  state.next = next_;
  for (size_t i = 0; i < params_.size(); ++i) {
    state.tensors.push_back({"param." + params_[i].name, params_[i].tensor});
    for (const auto& [name, tensor] : optimizer_->States(i)) {
      state.tensors.push_back({name + "." + params_[i].name, tensor});
    }
  }
  return state;
}

Status Trainer::SaveCheckpoint() {
  return options.has_checkpoints ? SaveState(options.checkpoints, State(), options.keep) : Status();
}

Status Trainer::SaveOnce(Call& call) {
  if (saved_) return Status();
  saved_ = true;
  estimate_.End(taken_);
  if (step_ != first_step_) ENGINE_RETURN_IF_ERROR(SaveCheckpoint());
  return options.has_out ? SaveAdapter(model.Get(call), options.out) : Status();
}

}  // namespace engine::trainer
