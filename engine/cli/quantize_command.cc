// engine quantize: a model written again with 8-bit weights, with what that saves and costs.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>

#include "engine/cli/commands.h"
#include "engine/model/autograd.h"
#include "engine/model/formats/export.h"
#include "engine/model/machine.h"
#include "engine/model/maker.h"
#include "engine/model/perplexity.h"
#include "engine/util.hpp"

namespace engine::cli {
namespace {

namespace fs = std::filesystem;

// A row of the table.
struct Measured {
  std::string name;
  uint64_t disk = 0;
  int64_t memory = 0;
  int64_t elements = 0;
  model::Perplexity perplexity;
};

Status ChooseFormat(const QuantizeArgs& args, model::ExportFormat* format) {
  const bool gguf = args.out.ends_with(".gguf");
  const std::string wanted = !args.format.empty() ? args.format : gguf ? "Q8_0" : "INT8";
  ENGINE_RETURN_IF_ERROR(model::ParseExportFormat(args.out, wanted, format));
  if (format->matrices == (gguf ? model::Encoding::kQ8_0 : model::Encoding::kI8)) return Status();
  return Error(ENGINE_INVALID_ARGUMENT, "format ", wanted,
               " has no 8-bit weights; `engine convert` writes it");
}

uint64_t BytesOnDisk(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return fs::file_size(path, ignored);
  uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(path, ignored)) {
    if (entry.is_regular_file(ignored)) bytes += entry.file_size(ignored);
  }
  return bytes;
}

// The model as it would serve, and the perplexity of that when there is a text.
Status Look(const std::string& path, bool decode, const std::string& text, int64_t window,
            Measured* out) {
  auto base = std::make_shared<model::Base>();
  ENGINE_RETURN_IF_ERROR(model::OpenCheckpoint(path, &base->checkpoint));
  ENGINE_RETURN_IF_ERROR(model::OpenTokenizer(*base->checkpoint, &base->tokenizer));
  base->decode = decode;
  base->context = base->checkpoint->config().context;
  out->disk = BytesOnDisk(path);
  out->memory = base->ServedBytes();
  for (const model::TensorInfo& t : base->checkpoint->tensors()) {
    out->elements += t.rows() * t.columns();
  }
  if (text.empty()) return Status();
  std::vector<int32_t> tokens;
  ENGINE_RETURN_IF_ERROR(base->tokenizer->Encode(text, false, true, &tokens));
  const std::shared_ptr<model::Model> model = model::Model::Make(base);
  const bool terminal = isatty(STDERR_FILENO) != 0;
  ENGINE_RETURN_IF_ERROR(model::MeasurePerplexity(
      model.get(), tokens, window,
      [&](int64_t done, int64_t all) {
        if (!terminal) return;
        std::fprintf(stderr, "\r%s: %ld of %ld windows", out->name.c_str(), long{done}, long{all});
      },
      &out->perplexity));
  if (terminal) std::fputs("\n", stderr);
  return Status();
}

void Print(const std::vector<Measured>& rows, bool text) {
  const auto mib = [](double bytes) { return bytes / 1048576.0; };
  std::printf("%-22s %13s %16s %14s %14s%s\n", "", "on disk", "in memory", "against FP32",
              "against BF16", text ? "       perplexity" : "");
  for (const Measured& row : rows) {
    const auto memory = static_cast<double>(row.memory);
    const auto change = [&](double bytes_each) {
      return 100.0 * (memory / (static_cast<double>(row.elements) * bytes_each) - 1.0);
    };
    std::printf("%-22s %9.1f MiB %12.1f MiB %+12.1f %% %+12.1f %%", row.name.c_str(),
                mib(static_cast<double>(row.disk)), mib(memory), change(4), change(2));
    if (text) std::printf("  %.4f +/- %.4f", row.perplexity.value, row.perplexity.spread);
    std::printf("\n");
  }
  if (!text) return;
  const model::Perplexity &before = rows.front().perplexity, &after = rows.back().perplexity;
  std::printf("perplexity changes by %+.2f %% (%ld tokens in %ld windows)\n",
              100.0 * (after.value / before.value - 1.0), long{after.scored}, long{after.windows});
}

Status Quantize(const QuantizeArgs& args) {
  model::ExportRequest request{args.out, {}, args.force, nullptr, {}, ""};
  ENGINE_RETURN_IF_ERROR(ChooseFormat(args, &request.format));
  std::string path, text;
  ENGINE_RETURN_IF_ERROR(model::ResolveModel(args.model, &path));
  if (!args.text.empty()) ENGINE_RETURN_IF_ERROR(ReadTextFile(args.text, &text));
  if (!args.text.empty() && text.empty()) {
    return Error(ENGINE_INVALID_ARGUMENT, "text file '", args.text, "' is empty");
  }
  std::unique_ptr<model::Checkpoint> source;
  ENGINE_RETURN_IF_ERROR(model::OpenCheckpoint(path, &source));
  ENGINE_RETURN_IF_ERROR(model::CheckExportPath(*source, request));
  model::SetComputeThreads(model::CgroupCores());
  std::vector<Measured> rows(2);
  // Before anything is written: a text that is too short is known at once.
  rows[0].name = "before, decoded (F32)";
  ENGINE_RETURN_IF_ERROR(Look(path, /*decode=*/true, text, args.window, &rows[0]));
  ENGINE_RETURN_IF_ERROR(model::ExportCheckpoint(*source, request));
  rows[1].name = request.format.gguf ? "after, Q8_0" : "after, INT8";
  ENGINE_RETURN_IF_ERROR(Look(args.out, /*decode=*/false, text, args.window, &rows[1]));
  std::printf("wrote %s\n", args.out.c_str());
  Print(rows, !text.empty());
  return Status();
}

}  // namespace

int ExportExitCode(const Status& status) {
  return status.code() == ENGINE_INVALID_ARGUMENT || status.code() == ENGINE_NOT_FOUND ||
                 status.code() == ENGINE_ALREADY_EXISTS
             ? kBadInput
             : kFailed;
}

int QuantizeCommand(const QuantizeArgs& args) {
  // A limit on file sizes is an error of a write like a full disk, not the end of the process.
  std::signal(SIGXFSZ, SIG_IGN);
  const Status status = Quantize(args);
  if (status.ok()) return kOk;
  PrintStatus(status);
  return ExportExitCode(status);
}

}  // namespace engine::cli
