// The entries of engine_model_host for safetensors and text files: plugins read and write them by
// the host, so that every reader of a foreign file is the one that is tested with hostile ones.
#ifndef ENGINE_MODEL_MODEL_FILES_H_
#define ENGINE_MODEL_MODEL_FILES_H_

#include "engine/ext/model.h"

namespace engine::model {

engine_status* FilesOpen(engine_str path, engine_files** out);
void FilesClose(engine_files* files);
uint32_t FilesCount(const engine_files* files);
engine_status* FilesName(const engine_files* files, uint32_t i, engine_str* name);
engine_status* FilesTensor(const engine_files* files, engine_str name, uint32_t dtype,
                           AtenTensorHandle* out);
engine_status* FilesWrite(engine_str path, const engine_str* names, const AtenTensorHandle* tensors,
                          uint32_t count);
engine_status* ReadText(engine_str path, engine_put put, void* arg);
engine_status* WriteText(engine_str path, engine_str text);

}  // namespace engine::model

#endif  // ENGINE_MODEL_MODEL_FILES_H_
