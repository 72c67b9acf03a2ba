#include "export_node.h"

#include "adapter_folder.h"

namespace engine::trainer {

Status SaveAdapterNode::Process(Call&) {
  trained_ = true;
  return Status();
}

Status SaveAdapterNode::Close(Call& call) {
  if (!trained_ || !options.has_path) return Status();
  return SaveAdapter(model.Get(call), options.path);
}

Status ExportModel::Write(Call& call, uint32_t flags) {
  if (!options.has_path) return Status();
  engine_export how = Sized<engine_export>();
  how.type = static_cast<uint32_t>(options.type);  // the numbers are those of engine_export
  how.merge_into = static_cast<uint32_t>(options.merge_into);
  how.flags = flags;
  if (options.replace) how.flags |= ENGINE_EXPORT_REPLACE;
  how.path = Str(options.path);
  return Status(ThisHost().model->export_model(model.Get(call), &how));
}

// Hours of training must not end in a path that cannot be written.
Status ExportModel::Open(Call& call) { return Write(call, ENGINE_EXPORT_CHECK); }

Status ExportModel::Process(Call& call) {
  if (in.Get(call) != nullptr) {
    trained_ = true;
    return Status();
  }
  call.Finish();
  return Write(call, 0);
}

Status ExportModel::Close(Call& call) { return trained_ ? Write(call, 0) : Status(); }

}  // namespace engine::trainer
