// A plugin's own view of the host: its service tables, found once at open. Each plugin has its own
// copy, since plugins hide their symbols.
#ifndef ENGINE_HOST_HPP_
#define ENGINE_HOST_HPP_

#include <string>

#include "engine/ext/async.h"
#include "engine/ext/autograd.h"
#include "engine/ext/log.h"
#include "engine/ext/metrics.h"
#include "engine/ext/model.h"
#include "engine/ext/nodes.h"
#include "engine/ext/tasks.h"
#include "engine/plugin.h"
#include "engine/status.hpp"

namespace engine {

struct Host {
  const engine_host* host = nullptr;
  const engine_nodes_host* nodes = nullptr;
  const engine_log* log = nullptr;
  const engine_tasks* tasks = nullptr;
  // Drafts: null when this host has none.
  const engine_async* async = nullptr;
  const engine_metrics* metrics = nullptr;
  const engine_autograd* autograd = nullptr;
  const engine_model_host* model = nullptr;

  Status Open(const engine_host* h) {
    host = h;
    Find(ENGINE_EXT_NODES, &nodes);
    Find(ENGINE_EXT_LOG, &log);
    Find(ENGINE_EXT_TASKS, &tasks);
    Find(ENGINE_EXT_ASYNC, &async);
    Find(ENGINE_EXT_METRICS, &metrics);
    Find(ENGINE_EXT_AUTOGRAD, &autograd);
    Find(ENGINE_EXT_MODEL, &model);
    if (nodes == nullptr || log == nullptr) {
      return Error(ENGINE_FAILED_PRECONDITION, "this host offers no ", ENGINE_EXT_NODES, " or no ",
                   ENGINE_EXT_LOG);
    }
    return Status();
  }

 private:
  template <typename Table>
  void Find(const char* id, const Table** table) {
    *table = static_cast<const Table*>(host->extension(host, id));
  }
};

// The tables of the plugin that this header was compiled into.
inline Host& ThisHost() {
  static Host host;
  return host;
}

template <typename... Parts>
void Log(engine_log_level level, std::string_view source, const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  ThisHost().log->write(level, Str(source), Str(out.str()));
}

}  // namespace engine

#endif  // ENGINE_HOST_HPP_
