#include "engine/graph/reader.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "engine/graph/diagnostic.h"
#include "engine/graph/suggest.h"

namespace engine::graph {

namespace pb = google::protobuf;
namespace fs = std::filesystem;

namespace {

class FirstError : public pb::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (found) return;
    found = true;
    line_ = line;
    column_ = column;
    message_ = message;
  }
  void AddWarning(int, int, const std::string&) override {}
  bool found = false;
  int line_ = 0, column_ = 0;
  std::string message_;
};

// The innermost good field whose bytes hold `offset`.
OutlineField* FieldAt(OutlineBlock* block, uint32_t offset) {
  for (OutlineField& field : block->fields) {
    if (field.bad || offset < field.span.begin || offset >= field.span.begin + field.span.length) {
      continue;
    }
    for (OutlineValue& value : field.values) {
      if (!value.block) continue;
      if (OutlineField* inner = FieldAt(value.block.get(), offset)) return inner;
    }
    return &field;
  }
  return nullptr;
}

void BlankBad(const OutlineBlock& block, std::string* text) {
  for (const OutlineField& field : block.fields) {
    if (field.bad) {
      for (uint32_t i = 0; i < field.span.length; ++i) {
        char& c = (*text)[field.span.begin + i];
        if (c != '\n' && c != '\t') c = ' ';
      }
      // The separator behind it would stand alone.
      size_t next = field.span.begin + field.span.length;
      while (next < text->size() && ((*text)[next] == ' ' || (*text)[next] == '\n' ||
                                     (*text)[next] == '\t' || (*text)[next] == '\r')) {
        ++next;
      }
      if (next < text->size() && ((*text)[next] == ',' || (*text)[next] == ';'))
        (*text)[next] = ' ';
      continue;
    }
    for (const OutlineValue& value : field.values) {
      if (value.block) BlankBad(*value.block, text);
    }
  }
}

// CheckFields has found what it knows; protobuf has the last word, and each thing that it refuses
// is reported and blanked in turn.
void ParseText(ReadFile* file, const Schema& schema, Reporter* reporter) {
  constexpr int kMostRounds = 200;
  for (int round = 0; round < kMostRounds; ++round) {
    std::string text = file->source->text();
    BlankBad(*file->outline, &text);
    file->message = schema.NewPipeline();
    FirstError error;
    pb::TextFormat::Parser parser;
    parser.RecordErrorsTo(&error);
    parser.AllowPartialMessage(true);
    if (parser.ParseFromString(text, file->message.get())) return;
    const uint32_t at = file->source->OffsetOfToken(error.line_, error.column_);
    OutlineField* field = FieldAt(file->outline.get(), at);
    reporter->Error({file->source.get(), at, 1}, error.message_);
    if (field == nullptr) break;
    field->bad = true;
  }
  file->message = schema.NewPipeline();
  file->outline->fields.clear();
}

OptionType TypeOfParam(const OutlineBlock& param) {
  const OutlineValue* type = param.Find("type");
  if (type == nullptr) return OptionType::kText;
  if (type->text == "INTEGER") return OptionType::kInteger;
  if (type->text == "NUMBER") return OptionType::kNumber;
  if (type->text == "BOOL") return OptionType::kBool;
  return OptionType::kText;
}

bool IsIdentifier(std::string_view text) {
  return IsName(text) && text.find('-') == std::string_view::npos;
}

// What the schema must know before it can be composed: the subgraphs of all files.
class Subgraphs {
 public:
  Subgraphs(const abi::KindIndex& index, Reporter* reporter) : index_(index), reporter_(reporter) {}

  void Add(OutlineBlock* root) {
    for (OutlineField& field : root->fields) {
      if (field.name != "subgraph") continue;
      for (OutlineValue& value : field.values) {
        if (value.block != nullptr) field.bad = !AddOne(*value.block) || field.bad;
      }
    }
  }
  std::vector<SubgraphKind> kinds;

 private:
  bool AddOne(const OutlineBlock& block) {
    const OutlineValue* name = block.Find("name");
    if (name == nullptr || name->type != OutlineValue::Type::kText) return true;  // told later
    if (!IsIdentifier(name->text) || name->text.size() > 64) {
      reporter_->Error(name->span,
                       "a subgraph's name becomes a kind: letters, digits and '_' only");
      return false;
    }
    static const std::set<std::string, std::less<>> kFields = {
        "name",          "in",     "out",       "use",           "feedback",
        "executor",      "policy", "batch_max", "batch_wait_us", "queue",
        "max_in_flight", "bypass", "kind"};
    if (kFields.count(name->text)) {
      reporter_->Error(name->span, Quote(name->text) +
                                       " is a field of every node and cannot be a "
                                       "subgraph's name");
      return false;
    }
    if (const abi::Kind* kind = index_.Find(name->text)) {
      reporter_->Error(name->span, "there is a kind " + Quote(name->text) + " already")
          .Hint("plugin " + kind->plugin + " has it");
      return false;
    }
    auto [seen, fresh] = names_.emplace(name->text, name->span);
    if (!fresh) {
      reporter_->Error(name->span, "a second subgraph " + Quote(name->text))
          .At(seen->second, "the first is here");
      return false;
    }
    SubgraphKind kind;
    kind.name = name->text;
    if (const OutlineValue* doc = block.Find("doc")) kind.doc = doc->text;
    std::set<std::string> options;
    for (const OutlineField& field : block.fields) {
      if (field.name != "param") continue;
      for (const OutlineValue& value : field.values) {
        if (value.block == nullptr) continue;
        const OutlineValue* option = value.block->Find("name");
        if (option == nullptr || !IsIdentifier(option->text)) continue;  // told later
        if (!options.insert(option->text).second) continue;
        const OutlineValue* doc = value.block->Find("doc");
        kind.options.push_back(
            {option->text, doc == nullptr ? "" : doc->text, TypeOfParam(*value.block)});
      }
    }
    kinds.push_back(std::move(kind));
    return true;
  }

  const abi::KindIndex& index_;
  Reporter* reporter_;
  std::map<std::string, Span> names_;
};

// Reads files depth first and finds cycles of imports.
class Importer {
 public:
  Importer(const FileSource& files, Reading* reading, Reporter* reporter)
      : files_(files), reading_(reading), reporter_(reporter) {}

  void Add(const std::string& path, const Span& from) {
    const std::string key = fs::path(path).lexically_normal().string();
    for (size_t i = 0; i < stack_.size(); ++i) {
      if (stack_[i] != key) continue;
      std::string cycle;
      for (size_t k = i; k < stack_.size(); ++k) cycle += stack_[k] + " -> ";
      reporter_->Error(from, "files import one another: " + cycle + key);
      return;
    }
    if (!seen_.insert(key).second) return;
    if (reading_->files.size() >= kMaxFiles) {
      if (!full_) reporter_->Error(from, "more than " + std::to_string(kMaxFiles) + " files");
      full_ = true;
      return;
    }
    std::string reason;
    std::optional<std::string> text = files_(path, &reason);
    if (text && text->size() > kMaxFileBytes) {
      reason = "is greater than 4 MiB";
      text.reset();
    }
    auto file = std::make_unique<ReadFile>();
    file->path = key;
    if (!text && from) {
      reporter_->Error(from, "cannot import " + Quote(path) + ": it " + reason);
      return;
    }
    file->source = std::make_unique<SourceFile>(path, text.value_or(""),
                                                static_cast<uint32_t>(reading_->files.size()));
    file->outline = std::make_unique<OutlineBlock>();
    ReadFile* kept = file.get();
    reading_->files.push_back(std::move(file));
    if (!text) {
      reporter_->Error({kept->source.get(), 0, 0}, "the pipeline file " + reason);
      return;
    }
    kept->whole = ParseOutline(*kept->source, kept->outline.get(), reporter_);
    stack_.push_back(key);
    for (const OutlineField& field : kept->outline->fields) {
      if (field.name != "import") continue;
      for (const OutlineValue& value : field.values) {
        const OutlineValue* to = value.block ? value.block->Find("path") : nullptr;
        if (to == nullptr || to->type != OutlineValue::Type::kText || to->text.empty()) continue;
        Add((fs::path(path).parent_path() / to->text).string(), to->span);
      }
    }
    stack_.pop_back();
  }

 private:
  const FileSource& files_;
  Reading* reading_;
  Reporter* reporter_;
  std::vector<std::string> stack_;
  std::set<std::string> seen_;
  bool full_ = false;
};

}  // namespace

FileSource DiskFiles() {
  return [](const std::string& path, std::string* reason) -> std::optional<std::string> {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (status.type() == fs::file_type::not_found) {
      *reason = "does not exist";
      return std::nullopt;
    }
    if (fs::is_directory(status)) {
      *reason = "is a folder";
      return std::nullopt;
    }
    std::ifstream in(path, std::ios::binary);
    std::string text;
    char buffer[1 << 16];
    while (in && text.size() <= kMaxFileBytes) {
      in.read(buffer, sizeof buffer);
      text.append(buffer, static_cast<size_t>(in.gcount()));
    }
    if (!in.eof() && text.size() <= kMaxFileBytes) {
      *reason = "cannot be read";
      return std::nullopt;
    }
    return text;
  };
}

bool ReadPipeline(const std::string& path, const FileSource& files, const abi::KindIndex& index,
                  Reading* reading, Reporter* reporter) {
  Importer(files, reading, reporter).Add(path, {});
  Subgraphs subgraphs(index, reporter);
  for (auto& file : reading->files) subgraphs.Add(file->outline.get());
  Status status = Schema::Build(index, subgraphs.kinds, &reading->schema);
  if (!status.ok()) {
    reporter->Error({reading->files[0]->source.get(), 0, 0}, std::string(status.message()));
    return false;
  }
  bool all_whole = true;
  for (auto& file : reading->files) {
    all_whole = all_whole && file->whole;
    CheckFields(*reading->schema, reading->schema->pipeline(), file->outline.get(), reporter);
    if (file->whole) {
      ParseText(file.get(), *reading->schema, reporter);
    } else {
      file->message = reading->schema->NewPipeline();
      file->outline->fields.clear();
    }
  }
  return all_whole;
}

}  // namespace engine::graph
