// GGUF as a checkpoint: names and row order are translated to Hugging Face's.
#include <map>

#include "engine/model/formats/checkpoint.h"
#include "engine/model/formats/gguf.h"
#include "engine/model/formats/tokenizer.h"

namespace engine::model {
namespace {

const std::map<std::string_view, std::string_view> kNames = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};

// Of blk.<n>.
const std::map<std::string_view, std::string_view> kBlockNames = {
    {"attn_norm.weight", "input_layernorm.weight"},
    {"attn_q.weight", "self_attn.q_proj.weight"},
    {"attn_k.weight", "self_attn.k_proj.weight"},
    {"attn_v.weight", "self_attn.v_proj.weight"},
    {"attn_output.weight", "self_attn.o_proj.weight"},
    {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"ffn_gate.weight", "mlp.gate_proj.weight"},
    {"ffn_up.weight", "mlp.up_proj.weight"},
    {"ffn_down.weight", "mlp.down_proj.weight"},
};

// False when GGUF's llama converter writes no such name.
bool HfName(std::string_view name, std::string* out) {
  if (const auto it = kNames.find(name); it != kNames.end()) {
    *out = it->second;
    return true;
  }
  if (name.substr(0, 4) != "blk.") return false;
  const size_t dot = name.find('.', 4);
  if (dot == std::string_view::npos || dot == 4 || dot > 12) return false;
  const std::string_view number = name.substr(4, dot - 4);
  if (number.find_first_not_of("0123456789") != std::string_view::npos) return false;
  const auto it = kBlockNames.find(name.substr(dot + 1));
  if (it == kBlockNames.end()) return false;
  *out = "model.layers." + std::string(number) + "." + std::string(it->second);
  return true;
}

class GgufCheckpoint final : public Checkpoint {
 public:
  Status Open(const std::string& path, const std::string& file) {
    path_ = path;
    ENGINE_RETURN_IF_ERROR(GgufFile::Open(file, &gguf_));
    ENGINE_RETURN_IF_ERROR(ConfigFromGguf(*gguf_, &config_));
    // Before tensors are taken: rows are permuted by the head's size.
    ModelConfig early = config_;
    if (early.vocab == 0) early.vocab = 1;
    early.bos = early.eos = early.pad = early.unk = -1;
    early.stop_ids.clear();
    ENGINE_RETURN_IF_ERROR(ValidateConfig(early, "'" + path_ + "'"));
    config_.tied_embedding = true;
    for (const GgufTensor& t : gguf_->tensors()) ENGINE_RETURN_IF_ERROR(Take(t));
    return CheckComplete();
  }

  Status MakeTokenizer(std::unique_ptr<Tokenizer>* out) const override {
    return TokenizerFromGguf(*gguf_, out);
  }

  const GgufFile* gguf() const override { return gguf_.get(); }

 private:
  Status Take(const GgufTensor& t) {
    if (t.name == "rope_freqs.weight") return RotaryFactors(t);
    std::string name;
    if (!HfName(t.name, &name)) {
      return Error(ENGINE_UNIMPLEMENTED, "GGUF file '", path_, "': tensor '", t.name,
                   "' is not one of the llama architecture that is supported (attention and MLP "
                   "without bias, RMS norms, embedding, output)");
    }
    if (name == "lm_head.weight") config_.tied_embedding = false;
    const bool rotary = t.name.ends_with("attn_q.weight") || t.name.ends_with("attn_k.weight");
    if (rotary && (t.shape.size() != 2 || t.shape[0] % config_.head_dim != 0)) {
      return Error(ENGINE_DATA_LOSS, "GGUF file '", path_, "': tensor '", t.name,
                   "' does not hold whole heads of ", config_.head_dim, " rows");
    }
    TensorInfo info;
    info.name = std::move(name);
    info.shape = t.shape;
    info.encoding = t.encoding;
    info.bytes = t.bytes;
    return Add(std::move(info), {&gguf_->file(), t.offset, rotary ? config_.head_dim : 0});
  }

  Status RotaryFactors(const GgufTensor& t) {
    if (t.shape != std::vector<int64_t>{config_.head_dim / 2}) {
      return Error(ENGINE_DATA_LOSS, "GGUF file '", path_, "': tensor '", t.name, "' must hold ",
                   config_.head_dim / 2, " factors, half the head size");
    }
    config_.rope_divisors.resize(static_cast<size_t>(config_.head_dim / 2));
    Decode(t.encoding, gguf_->file().data() + t.offset, config_.head_dim / 2,
           config_.rope_divisors.data());
    return Status();
  }

  std::unique_ptr<GgufFile> gguf_;
};

}  // namespace

Status internal::OpenGgufCheckpoint(const std::string& path, const std::string& file,
                                    std::unique_ptr<Checkpoint>* out) {
  auto checkpoint = std::make_unique<GgufCheckpoint>();
  ENGINE_RETURN_IF_ERROR(checkpoint->Open(path, file));
  *out = std::move(checkpoint);
  return Status();
}

}  // namespace engine::model
