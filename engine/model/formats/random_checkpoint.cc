#include "engine/model/formats/random_checkpoint.h"

#include <cmath>
#include <numbers>

#include "engine/model/formats/tokenizer.h"
#include "engine/philox.hpp"

namespace engine::model {
namespace {

class RandomCheckpoint : public Checkpoint {
 public:
  Status Fill(std::unique_ptr<Checkpoint> like, const RandomModel& how) {
    like_ = std::move(like);
    config_ = like_->config();
    path_ = like_->path();
    config_.name += "-random";
    config_.int8_group = -1;
    const bool other_heads = how.heads != 0 || how.hidden != 0;
    const auto set = [](int64_t wanted, int64_t* to) {
      if (wanted != 0) *to = wanted;
    };
    set(how.hidden, &config_.hidden);
    set(how.blocks, &config_.blocks);
    set(how.heads, &config_.heads);
    set(how.kv_heads, &config_.kv_heads);
    set(how.mlp, &config_.mlp);
    set(how.context, &config_.context);
    if (other_heads) {
      if (config_.heads <= 0 || config_.hidden % config_.heads != 0) {
        return Error(ENGINE_INVALID_ARGUMENT, "random: hidden ", config_.hidden,
                     " is no multiple of ", config_.heads, " heads");
      }
      config_.head_dim = config_.hidden / config_.heads;
      config_.rope_divisors.clear();  // they belong to the other's head size
    }
    ENGINE_RETURN_IF_ERROR(ValidateConfig(config_, "random"));
    ENGINE_RETURN_IF_ERROR(Declare());
    uint64_t count = 0;
    for (const TensorInfo& t : tensors()) {
      count += t.bytes / 4;
      if (count > how.most_bytes / 4) {
        return Error(ENGINE_RESOURCE_EXHAUSTED, "random: the weights take more than the ",
                     how.most_bytes, " bytes that this process may use; give fewer blocks, or a ",
                     "smaller hidden or mlp");
      }
    }
    ENGINE_RETURN_IF_ERROR(MappedFile::Make("random weights", count * 4, &weights_, [&](void* to) {
      auto* next = static_cast<float*>(to);
      for (const TensorInfo& t : tensors()) next = Draw(t, how, next);
    }));
    uint64_t offset = 0;
    for (const TensorInfo& t : tensors()) {
      Place(t.name, {weights_.get(), offset});
      offset += t.bytes;
    }
    return CheckComplete();
  }

  const GgufFile* gguf() const override { return like_->gguf(); }
  bool random() const override { return true; }
  Status MakeTokenizer(std::unique_ptr<Tokenizer>* out) const override {
    return like_->MakeTokenizer(out);
  }

 private:
  Status Declare() {
    const ModelConfig& c = config_;
    const auto add = [&](const std::string& name, std::vector<int64_t> shape) -> Status {
      uint64_t elements = 1;
      for (int64_t d : shape) elements *= static_cast<uint64_t>(d);
      return Add({name + ".weight", std::move(shape), Encoding::kF32, elements * 4}, {});
    };
    ENGINE_RETURN_IF_ERROR(add("model.embed_tokens", {c.vocab, c.hidden}));
    const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
    for (int64_t b = 0; b < c.blocks; ++b) {
      const std::string p = "model.layers." + std::to_string(b) + ".";
      ENGINE_RETURN_IF_ERROR(add(p + "input_layernorm", {c.hidden}));
      ENGINE_RETURN_IF_ERROR(add(p + "self_attn.q_proj", {q, c.hidden}));
      ENGINE_RETURN_IF_ERROR(add(p + "self_attn.k_proj", {kv, c.hidden}));
      ENGINE_RETURN_IF_ERROR(add(p + "self_attn.v_proj", {kv, c.hidden}));
      ENGINE_RETURN_IF_ERROR(add(p + "self_attn.o_proj", {c.hidden, q}));
      ENGINE_RETURN_IF_ERROR(add(p + "post_attention_layernorm", {c.hidden}));
      ENGINE_RETURN_IF_ERROR(add(p + "mlp.gate_proj", {c.mlp, c.hidden}));
      ENGINE_RETURN_IF_ERROR(add(p + "mlp.up_proj", {c.mlp, c.hidden}));
      ENGINE_RETURN_IF_ERROR(add(p + "mlp.down_proj", {c.hidden, c.mlp}));
    }
    ENGINE_RETURN_IF_ERROR(add("model.norm", {c.hidden}));
    return c.tied_embedding ? Status() : add("lm_head", {c.vocab, c.hidden});
  }

  // Normal by Box and Muller, two uniform numbers an element.
  static float* Draw(const TensorInfo& t, const RandomModel& how, float* to) {
    const auto count = t.bytes / 4;
    if (t.shape.size() == 1) return std::fill_n(to, count, 1.0f);
    const Philox random(how.seed, t.name);
    for (uint64_t i = 0; i < count; ++i) {
      const double u = 1 - random.Uniform(2 * i), v = random.Uniform(2 * i + 1);
      const double normal = std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
      to[i] = static_cast<float>(how.deviation * normal);
    }
    return to + count;
  }

  std::unique_ptr<Checkpoint> like_;
  std::unique_ptr<MappedFile> weights_;
};

}  // namespace

Status MakeRandomCheckpoint(std::unique_ptr<Checkpoint> like, const RandomModel& how,
                            std::unique_ptr<Checkpoint>* out) {
  auto made = std::make_unique<RandomCheckpoint>();
  ENGINE_RETURN_IF_ERROR(Status(Guard([&] { return made->Fill(std::move(like), how); })));
  *out = std::move(made);
  return Status();
}

}  // namespace engine::model
