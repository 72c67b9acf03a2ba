// Everything the host offers to plugins from the model's side, and the log, metrics, tasks and I/O
// tables: registered once, before the first plugin is opened.
#ifndef ENGINE_MODEL_HOST_SERVICES_H_
#define ENGINE_MODEL_HOST_SERVICES_H_

#include "engine/ext/model.h"

namespace engine::model {

const engine_model_host* ModelHost();
// Adds all services of the host to the registry of tables.
void RegisterServices();

}  // namespace engine::model

#endif  // ENGINE_MODEL_HOST_SERVICES_H_
