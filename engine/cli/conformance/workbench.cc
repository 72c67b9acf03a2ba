#include "engine/cli/conformance/workbench.h"

#include <cmath>

#include "engine/abi/host.h"
#include "engine/graph/graph.h"
#include "engine/model/autograd.h"
#include "engine/model/host_services.h"
#include "engine/runtime/resource.h"
#include "engine/torch_ops.h"

namespace engine::conformance {

using testing::TestHost;

Status Workbench::Open(const std::string& path, const std::string& folder,
                       std::unique_ptr<Workbench>* out) {
  // What is registered first stays.
  const engine_host* host = TestHost::Get().c();
  for (const char* id :
       {ENGINE_EXT_NODES, ENGINE_EXT_LOG, ENGINE_EXT_TASKS, ENGINE_EXT_ASYNC, ENGINE_EXT_METRICS}) {
    abi::AddService(id, host->extension(host, id));
  }
  model::RegisterServices();
  model::SetComputeThreads(2);
  std::unique_ptr<Workbench> made(new Workbench(folder));
  model::AddBuiltinKinds(&made->registry_);
  ENGINE_RETURN_IF_ERROR(made->registry_.LoadFile(path));
  const abi::Plugin& plugin = made->registry_.index().plugins.back();
  made->id_ = plugin.id;
  const abi::Loaded* loaded = nullptr;
  for (const std::string& kind : plugin.kinds) {
    if (const abi::KindSource* source = made->registry_.Source(kind)) loaded = source->loaded;
  }
  if (loaded == nullptr) {
    return Error(ENGINE_FAILED_PRECONDITION, "plugin ", plugin.id, " has no kinds");
  }
  made->plugin_ = std::make_unique<testing::TestPlugin>(loaded->plugin, loaded->self);
  ENGINE_RETURN_IF_ERROR(made->plugin_->status());
  // Neighbours of a pipeline; one that is the plugin itself, or has its kinds, is refused.
  made->registry_.LoadFolder(abi::InstallPrefix() + "/lib/engine/plugins");
  ENGINE_RETURN_IF_ERROR(graph::Schema::Build(made->registry_.index(), {}, &made->schema_));
  *out = std::move(made);
  return Status();
}

std::vector<const abi::Kind*> Workbench::Kinds() const {
  std::vector<const abi::Kind*> kinds;
  for (const std::string& name : registry_.index().FindPlugin(id_)->kinds) {
    kinds.push_back(registry_.index().Find(name));
  }
  return kinds;
}

Status Workbench::MakeModel(const std::string& text, const SmallModelSize& size,
                            std::vector<runtime::ResourceSlot>* slots) {
  const std::string path = folder_ + "/model_" + std::to_string(models_++);
  ENGINE_RETURN_IF_ERROR(WriteSmallModel(path, size));
  std::string pipeline = text;
  for (size_t at; (at = pipeline.find("@MODEL@")) != std::string::npos;) {
    pipeline.replace(at, 7, path);
  }
  graph::Plan plan;
  std::vector<graph::Diagnostic> diagnostics;
  if (!graph::LoadPipeline({.path = "case", .text = pipeline, .need_nodes = false},
                           registry_.index(), {}, &plan, &diagnostics)) {
    return Status(ENGINE_INVALID_ARGUMENT, graph::Render(diagnostics));
  }
  model::Maker maker(registry_);
  for (const graph::PlanResource& resource : plan.resources) {
    ENGINE_RETURN_IF_ERROR(runtime::AddResource(registry_, resource, &maker, slots));
  }
  return Status();
}

namespace {

double NormOf(const ops::Tensor& t) {
  const ops::Tensor wide = ops::To(ops::Contiguous(ops::Detach(t)), ENGINE_F64);
  double sum = 0;
  for (int64_t i = 0; i < wide.numel(); ++i) {
    const double x = ops::Data<double>(wide)[i];
    sum += x * x;
  }
  return std::sqrt(sum);
}

Status Gradients(model::Model* model, const ops::Tensor& ids, Probe* out) {
  const auto* autograd = static_cast<const engine_autograd*>(
      abi::HostTable()->extension(abi::HostTable(), ENGINE_EXT_AUTOGRAD));
  uint32_t mode = 0;
  ENGINE_RETURN_IF_ERROR(Status(autograd->set_mode(ENGINE_GRAD_TRAIN, &mode)));
  const int64_t length = ids.numel();
  const ops::Tensor labels = ops::Empty({1, length}, ENGINE_I64);
  for (int64_t i = 0; i < length; ++i) {
    ops::Data<int64_t>(labels)[i] = i + 1 < length ? ops::Data<int64_t>(ids)[i + 1] : -100;
  }
  std::optional<ops::Tensor> sum;
  int64_t count = 0;
  Status status = model->Loss(ids, labels, {}, &sum, &count);
  if (status.ok()) status = Status(autograd->backward(sum->get(), nullptr));
  for (const model::Param& param : model->params()) {
    if (!status.ok() || !param.trainable || !param.tensor) continue;
    AtenTensorHandle handle = nullptr;
    status = Status(autograd->grad_of(param.tensor->get(), &handle));
    Probe::Trained trained{param.name};
    if (handle != nullptr) {
      trained.there = true;
      trained.norm = NormOf(ops::Tensor(handle));
    }
    out->trained.push_back(trained);
  }
  ENGINE_RETURN_IF_ERROR(Status(autograd->set_mode(mode, &mode)));
  return status;
}

}  // namespace

Status ProbeModel(model::Model* model, const std::string& last_transform, bool gradients,
                  Probe* out) {
  return Status(Guard([&]() -> Status {
    for (uint32_t i = 0; i < model->sites().size(); ++i) {
      if (model->impl_entry(i).made_by == last_transform) {
        out->sites.push_back(model->sites()[i].name);
      }
    }
    constexpr int64_t kTokens = 12;
    const ops::Tensor ids = ops::Empty({1, kTokens}, ENGINE_I64);
    for (int64_t i = 0; i < kTokens; ++i) ops::Data<int64_t>(ids)[i] = (i * 37 + 5) % 256;
    std::optional<ops::Tensor> logits;
    {
      const auto* autograd = static_cast<const engine_autograd*>(
          abi::HostTable()->extension(abi::HostTable(), ENGINE_EXT_AUTOGRAD));
      uint32_t mode = 0;
      ENGINE_RETURN_IF_ERROR(Status(autograd->set_mode(ENGINE_GRAD_NO_GRAD, &mode)));
      const Status status = model->Forward(ids, &logits);
      ENGINE_RETURN_IF_ERROR(Status(autograd->set_mode(mode, &mode)));
      ENGINE_RETURN_IF_ERROR(status);
    }
    const ops::Tensor flat = ops::Contiguous(ops::To(*logits, ENGINE_F32));
    out->logits.assign(ops::Data<float>(flat), ops::Data<float>(flat) + flat.numel());
    return gradients ? Gradients(model, ids, out) : Status();
  }));
}

}  // namespace engine::conformance
