// A model written as a file or folder of its own, every adapter merged into the weight beside it.
// Invariant: what is written computes the model's function but for rounding, and the model itself
// is not changed.
#ifndef ENGINE_MODEL_EXPORT_MODEL_H_
#define ENGINE_MODEL_EXPORT_MODEL_H_

#include <string>

#include "engine/ext/model.h"
#include "engine/model/formats/export.h"
#include "engine/model/model.h"

namespace engine::model {

struct MergeRequest {
  std::string path;
  ExportFormat format;
  bool replace = false;
  engine_merge_into merge_into = ENGINE_MERGE_REFUSE;
};

// See engine_model_host.export_model.
Status ExportModel(const Model& model, const MergeRequest& request);
// The refusals of ExportModel that need no weight to be read.
Status CheckExportModel(const Model& model, const MergeRequest& request);

// See engine_model_host.provenance.
Status Provenance(const Model& model, std::string* json);

// The entries of engine_model_host.
engine_status* ExportModelC(engine_model* model, const engine_export* how);
engine_status* ProvenanceC(const engine_model* model, engine_put put, void* arg);

}  // namespace engine::model

#endif  // ENGINE_MODEL_EXPORT_MODEL_H_
