// A data set as one list of examples: its file, what form and shape it has, and the encoder that
// makes tokens and labels of an example. All nodes that read such files read them through this, so
// that what one says of a file holds for the others.
#ifndef PLUGINS_DATA_READER_H_
#define PLUGINS_DATA_READER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/ext/model.h"
#include "engine/status.hpp"
#include "examples.h"
#include "options.engine.hpp"
#include "source.h"
#include "spans.h"

namespace engine::data {

class Reader {
 public:
  Reader() = default;
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // Finds the examples; `options` must outlive this. With `any_shape` broken lines at the beginning
  // do not keep the shape from being found.
  Status Open(engine_model* model, const DatasetOptions& options, bool any_shape);
  // The host may swap the model between two calls of a node: each gives the one it has.
  void Use(engine_model* model) { model_ = model; }

  uint64_t size() const { return examples_; }
  // As Feed::Make. The error begins with the example's place.
  Status Make(uint64_t i, Tokens* tokens, Fate* fate, bool* fatal);
  // "path:line", or "path: token n" where there are no lines.
  std::string Where(uint64_t i) const;
  // Names of the options' Shape, and what the file is in words.
  std::string_view shape() const;
  std::string_view form() const;
  const Encoder& encoder() const { return *encoder_; }

 private:
  Status ChooseForm();
  Status ChooseShape(bool any_shape);
  Status Index(bool any_shape);
  Status ReadText();
  void MakeEncoder();

  const DatasetOptions* options_ = nullptr;
  engine_model* model_ = nullptr;
  uint32_t vocab_ = 0;
  Columns columns_;
  MappedFile file_;
  Form form_ = Form::kLines;
  Shape shape_ = Shape::kText;
  ObjectIndex objects_;          // kLines, kList
  TokenFile ids_;                // kTokens
  std::vector<int32_t> stream_;  // kText
  std::optional<Encoder> encoder_;
  uint64_t examples_ = 0;
};

}  // namespace engine::data

#endif  // PLUGINS_DATA_READER_H_
