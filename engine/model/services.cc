// Registers the host's tables; the only place that knows them all.
#include "engine/runtime/services.h"

#include "engine/abi/host.h"
#include "engine/ext/async.h"
#include "engine/ext/autograd.h"
#include "engine/ext/log.h"
#include "engine/ext/metrics.h"
#include "engine/ext/tasks.h"
#include "engine/kernels/parallel.h"
#include "engine/model/autograd.h"
#include "engine/model/host_services.h"
#include "engine/model/machine.h"
#include "engine/runtime/call.h"

namespace engine::model {

void RegisterServices() {
  static const engine_tasks tasks = {
      sizeof(engine_tasks), 0, [] { return static_cast<uint32_t>(ComputeThreads()); },
      [](int64_t count, int64_t grain, void (*body)(void*, int64_t, int64_t), void* arg) {
        if (count > 0) kernels::ParallelRun(count, grain < 1 ? 1 : grain, body, arg);
      }};
  abi::AddService(ENGINE_EXT_NODES, runtime::NodesHost());
  abi::AddService(ENGINE_EXT_LOG, runtime::LogHost());
  abi::AddService(ENGINE_EXT_METRICS, runtime::MetricsHost());
  abi::AddService(ENGINE_EXT_ASYNC, runtime::AsyncHost());
  abi::AddService(ENGINE_EXT_TASKS, &tasks);
  abi::AddService(ENGINE_EXT_AUTOGRAD, AutogradHost());
  abi::AddService(ENGINE_EXT_MODEL, ModelHost());
  abi::SetTorchVersion(TorchAbiVersion(), TorchFingerprint());
  SetComputeThreads(CgroupCores());
}

}  // namespace engine::model
