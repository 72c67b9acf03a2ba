// A model as a GGUF file, as llama.cpp's own tools write it: from another GGUF file the metadata
// stay; from a Hugging Face folder they are translated. Rows are in the order of its converter.
#include <algorithm>
#include <map>

#include "engine/model/formats/export.h"
#include "engine/model/formats/gguf_writer.h"
#include "engine/model/formats/tokenizer.h"

namespace engine::model {
namespace {

constexpr uint32_t kQuantizationVersion = 2;

// llama_ftype: what most of a file's tensors are.
uint32_t FileType(Encoding matrices) {
  switch (matrices) {
    case Encoding::kF16:
      return 1;
    case Encoding::kQ8_0:
      return 7;
    case Encoding::kBF16:
      return 32;
    default:
      return 0;
  }
}

// What a tensor of this shape is stored as.
Encoding StoredAs(Encoding matrices, const std::vector<int64_t>& shape) {
  if (matrices == Encoding::kF64) return Encoding::kF64;
  if (shape.size() != 2) return Encoding::kF32;
  return shape[1] % BlockElements(matrices) == 0 ? matrices : Encoding::kF32;
}

GgufWriter::Tensor Encoded(std::string name, std::vector<int64_t> shape, Encoding matrices,
                           internal::Rows rows) {
  GgufWriter::Tensor t;
  t.name = name;
  t.shape = shape;
  t.encoding = StoredAs(matrices, shape);
  t.write = [name = std::move(name), shape = std::move(shape), encoding = t.encoding,
             rows = std::move(rows)](OutputFile* file) {
    return internal::WriteRows(name, shape, encoding, rows, file);
  };
  return t;
}

// The converter's order of rows: within a head, the two halves that rotary embedding pairs
// alternate.
internal::Rows InFileOrder(const Checkpoint& checkpoint, const TensorInfo& t, internal::Rows rows) {
  if (!t.name.ends_with("q_proj.weight") && !t.name.ends_with("k_proj.weight")) return rows;
  return [rows = std::move(rows), columns = t.columns(), dim = checkpoint.config().head_dim](
             int64_t begin, int64_t end, double* to) -> Status {
    for (int64_t r = begin; r < end; ++r, to += columns) {
      const int64_t within = r % dim;
      const int64_t row = r - within + within / 2 + within % 2 * (dim / 2);
      ENGINE_RETURN_IF_ERROR(rows(row, row + 1, to));
    }
    return Status();
  };
}

void AddNotes(const ExportRequest& request, GgufWriter* writer) {
  writer->Add("general.file_type", FileType(request.format.matrices));
  writer->Add("general.quantization_version", kQuantizationVersion);
  for (const auto& [key, text] : request.notes) writer->Add(key, std::string_view(text));
}

Status AddTokenizer(const Checkpoint& checkpoint, GgufWriter* writer) {
  const ModelConfig& c = checkpoint.config();
  std::unique_ptr<Tokenizer> tokenizer;
  ENGINE_RETURN_IF_ERROR(OpenTokenizer(checkpoint, &tokenizer));
  const TokenizerSpec& spec = tokenizer->spec();
  const auto no = [&](const auto&... what) {
    return Error(ENGINE_UNIMPLEMENTED, "the tokenizer of '", checkpoint.path(),
                 "' cannot be written to a GGUF file: ", what...,
                 ". Give --out a folder instead of a .gguf file");
  };
  if (spec.form == nullptr) {
    return no(
        "its pre-tokenizer is none that GGUF files have a name for here (smollm, gpt-2, "
        "llama-bpe, qwen2)");
  }
  if (static_cast<int64_t>(spec.tokens.size()) > c.vocab) {
    return no("it has ", spec.tokens.size(), " tokens, the model's embedding ", c.vocab);
  }
  std::vector<std::string> tokens = spec.tokens;
  std::vector<int32_t> types(tokens.size(), 1);
  for (const AddedToken& added : spec.added) {
    if (added.lstrip || added.rstrip || added.single_word) {
      return no("token '", added.text,
                "' takes white space with it or stands for whole words only");
    }
    types[static_cast<size_t>(added.id)] = added.special ? 3 : 4;
  }
  // Rows of the embedding beyond the tokenizer's: unused tokens, as llama.cpp's converter has them.
  for (auto id = static_cast<int64_t>(tokens.size()); id < c.vocab; ++id) {
    tokens.push_back("[PAD" + std::to_string(id) + "]");
    types.push_back(5);
  }
  std::vector<std::string> merges;
  for (const Merge& m : tokenizer->merges()) {
    merges.push_back(tokens[static_cast<size_t>(m.left)] + " " +
                     tokens[static_cast<size_t>(m.right)]);
  }
  const struct {
    const char* key;
    const std::vector<int32_t>& ids;
    int64_t id;
  } ends[] = {{"tokenizer.ggml.add_bos_token", spec.prefix_ids, c.bos},
              {"tokenizer.ggml.add_eos_token", spec.suffix_ids, c.eos}};
  writer->Add("tokenizer.ggml.model", std::string_view("gpt2"));
  writer->Add("tokenizer.ggml.pre", std::string_view(spec.form->name));
  writer->Add("tokenizer.ggml.tokens", tokens);
  writer->Add("tokenizer.ggml.token_type", types);
  writer->Add("tokenizer.ggml.merges", merges);
  for (const auto& end : ends) {
    if (!end.ids.empty() && (end.ids.size() != 1 || end.ids[0] != end.id)) {
      return no("it puts other tokens around a text than its bos and eos");
    }
    writer->Add(end.key, !end.ids.empty());
  }
  std::vector<std::pair<const char*, int64_t>> ids = {{"tokenizer.ggml.bos_token_id", c.bos},
                                                      {"tokenizer.ggml.eos_token_id", c.eos},
                                                      {"tokenizer.ggml.unknown_token_id", c.unk},
                                                      {"tokenizer.ggml.padding_token_id", c.pad}};
  const char* more[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
  size_t used = 0;
  for (const int64_t id : c.stop_ids) {
    if (id == c.eos) continue;
    if (used == std::size(more)) return no("it has more than three tokens that end an answer");
    ids.emplace_back(more[used++], id);
  }
  for (const auto& [key, id] : ids) {
    if (id >= 0) writer->Add(key, static_cast<uint32_t>(id));
  }
  if (!c.chat_template.empty()) {
    writer->Add("tokenizer.chat_template", std::string_view(c.chat_template));
  }
  return Status();
}

// "model.layers.3.mlp.up_proj.weight" -> "blk.3.ffn_up.weight".
std::string GgufName(std::string_view name) {
  static constexpr std::pair<std::string_view, std::string_view> kWhole[] = {
      {"model.embed_tokens.weight", "token_embd.weight"},
      {"model.norm.weight", "output_norm.weight"},
      {"lm_head.weight", "output.weight"}};
  static constexpr std::pair<std::string_view, std::string_view> kParts[] = {
      {"input_layernorm", "attn_norm"},    {"self_attn.q_proj", "attn_q"},
      {"self_attn.k_proj", "attn_k"},      {"self_attn.v_proj", "attn_v"},
      {"self_attn.o_proj", "attn_output"}, {"post_attention_layernorm", "ffn_norm"},
      {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"}};
  for (const auto& [hf, gguf] : kWhole) {
    if (name == hf) return std::string(gguf);
  }
  constexpr std::string_view kLayers = "model.layers.", kWeight = ".weight";
  const size_t dot = name.find('.', kLayers.size());
  const std::string_view number = name.substr(kLayers.size(), dot - kLayers.size());
  std::string_view part = name.substr(dot + 1);
  part.remove_suffix(kWeight.size());
  for (const auto& [hf, gguf] : kParts) {
    if (part == hf) return "blk." + std::string(number) + "." + std::string(gguf) + ".weight";
  }
  return std::string(name);  // CheckComplete lets no other name in
}

Status FromFolder(const Checkpoint& checkpoint, const ExportRequest& request,
                  const std::string& path) {
  const ModelConfig& c = checkpoint.config();
  GgufWriter writer;
  const auto number = [&](const char* key, int64_t value) {
    writer.Add(key, static_cast<uint32_t>(value));
  };
  writer.Add("general.architecture", std::string_view("llama"));
  writer.Add("general.type", std::string_view("model"));
  if (!c.name.empty()) writer.Add("general.name", std::string_view(c.name));
  AddNotes(request, &writer);
  number("llama.vocab_size", c.vocab);
  number("llama.context_length", c.context);
  number("llama.embedding_length", c.hidden);
  number("llama.block_count", c.blocks);
  number("llama.feed_forward_length", c.mlp);
  number("llama.attention.head_count", c.heads);
  number("llama.attention.head_count_kv", c.kv_heads);
  number("llama.attention.key_length", c.head_dim);
  number("llama.attention.value_length", c.head_dim);
  number("llama.rope.dimension_count", c.head_dim);
  writer.Add("llama.rope.freq_base", static_cast<float>(c.rope_theta));
  writer.Add("llama.attention.layer_norm_rms_epsilon", static_cast<float>(c.norm_eps));
  std::vector<GgufWriter::Tensor> tensors;
  const std::vector<double>& divisors = c.rope_divisors;
  if (!divisors.empty() && std::count(divisors.begin(), divisors.end(), divisors[0]) ==
                               static_cast<std::ptrdiff_t>(divisors.size())) {
    writer.Add("llama.rope.scaling.type", std::string_view("linear"));
    writer.Add("llama.rope.scaling.factor", static_cast<float>(divisors[0]));
  } else if (!divisors.empty()) {
    const std::vector<float> factors(divisors.begin(), divisors.end());
    tensors.push_back(Encoded("rope_freqs.weight", {static_cast<int64_t>(factors.size())},
                              request.format.matrices, [factors](int64_t, int64_t, double* to) {
                                std::copy(factors.begin(), factors.end(), to);
                                return Status();
                              }));
  }
  ENGINE_RETURN_IF_ERROR(AddTokenizer(checkpoint, &writer));
  for (const TensorInfo& t : checkpoint.tensors()) {
    tensors.push_back(
        Encoded(GgufName(t.name), t.shape, request.format.matrices,
                InFileOrder(checkpoint, t, internal::RowsOf(checkpoint, t, request.rows))));
  }
  return writer.Write(path, tensors);
}

Status FromGguf(const Checkpoint& checkpoint, const ExportRequest& request,
                const std::string& path) {
  const GgufFile& source = *checkpoint.gguf();
  GgufWriter writer;
  for (const GgufFile::Entry& e : source.entries()) {
    if (e.key == "general.file_type" || e.key == "general.quantization_version") continue;
    if (!request.notes.empty() && e.key.starts_with(kNotePrefix)) continue;
    writer.AddEncoded(e.key, e.encoded);
  }
  AddNotes(request, &writer);
  writer.SetAlignment(static_cast<uint32_t>(source.alignment()));
  std::map<std::string, const TensorInfo*> known;
  for (const TensorInfo& t : checkpoint.tensors()) known[GgufName(t.name)] = &t;
  std::vector<GgufWriter::Tensor> tensors;
  for (const GgufTensor& t : source.tensors()) {
    const uint8_t* data = source.file().data() + t.offset;
    const auto it = known.find(t.name);
    const TensorInfo* info = it == known.end() ? nullptr : it->second;
    const bool kept = info == nullptr || request.rows == nullptr || !request.rows->Replaces(*info);
    // Factors of the rotary embedding are no weight: they stay as they are stored.
    if (kept && (info == nullptr || t.encoding == StoredAs(request.format.matrices, t.shape))) {
      tensors.push_back(
          {t.name, t.shape, t.encoding, [&source, data, &t](OutputFile* file) -> Status {
             ENGINE_RETURN_IF_ERROR(source.file().CheckUnchanged());
             return file->Append(data, t.bytes);
           }});
      continue;
    }
    tensors.push_back(
        Encoded(t.name, t.shape, request.format.matrices,
                InFileOrder(checkpoint, *info, internal::RowsOf(checkpoint, *info, request.rows))));
  }
  return writer.Write(path, tensors);
}

}  // namespace

Status internal::WriteGguf(const Checkpoint& checkpoint, const ExportRequest& request,
                           const std::string& path) {
  if (checkpoint.random()) {
    return Error(ENGINE_UNIMPLEMENTED,
                 "a model that began with random weights is written as a folder; `engine convert` "
                 "makes a GGUF file of that");
  }
  return checkpoint.gguf() != nullptr ? FromGguf(checkpoint, request, path)
                                      : FromFolder(checkpoint, request, path);
}

}  // namespace engine::model
