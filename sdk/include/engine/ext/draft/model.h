/* engine.model/1 (draft): a model as sites over logical parameters, and what lowering asks of
 * whoever replaced a site. Background: "site", "codec" and "phase" in docs/architecture.md.
 */
#ifndef ENGINE_EXT_DRAFT_MODEL_H_
#define ENGINE_EXT_DRAFT_MODEL_H_

#include "engine/abi.h"
#include "engine/ext/draft/autograd.h"
#include "engine/types.h"

#define ENGINE_EXT_MODEL "engine.model/1"
#define ENGINE_TYPE_MODEL "engine.Model/1"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct engine_model engine_model;     /* the object behind an engine.Model/1 resource */
typedef struct engine_forward engine_forward; /* one pass over sites; reference-counted */
typedef struct engine_packed engine_packed;   /* a packed int8 matrix; reference-counted */
typedef struct engine_files engine_files;     /* an opened safetensors file */

typedef struct engine_model_info {
  uint32_t struct_size;
  uint32_t dtype; /* engine_dtype of dense parameters */
  engine_str name;
  engine_str architecture; /* "llama" */
  int64_t hidden, blocks, heads, kv_heads, head_dim, mlp, vocab, context;
  double rope_theta, norm_eps;
  uint8_t tied_embedding;
  uint8_t reserved[7];
} engine_model_info;

typedef enum engine_site_kind {
  ENGINE_SITE_EMBEDDING = 1, /* ids [B, T] i64 -> [B, T, hidden] */
  ENGINE_SITE_NORM = 2,      /* x [..., hidden] -> the same */
  ENGINE_SITE_LINEAR = 3,    /* x [..., in] -> [..., out] */
  ENGINE_SITE_ATTENTION = 4, /* x [B, T, hidden] -> the same; holds q, k, v, o linears */
  ENGINE_SITE_MLP = 5,       /* x [..., hidden] -> the same; holds gate, up, down linears */
  ENGINE_SITE_BLOCK = 6,     /* x [B, T, hidden] -> the same; norms, attention, MLP, residuals */
  ENGINE_SITE_HEAD = 7,      /* x [..., hidden] -> [..., vocab] */
  ENGINE_SITE_LOSS = 8,      /* logits [N, vocab], labels [N] i64 -> sum of losses, a scalar */
  ENGINE_SITE_KV_STORE = 9   /* where attention keeps keys and values; never called by forward */
} engine_site_kind;

typedef struct engine_site_info {
  uint32_t struct_size;
  uint32_t kind;     /* engine_site_kind */
  engine_str name;   /* Hugging Face module path: "model.layers.0.self_attn.q_proj" */
  engine_str weight; /* parameter name, or empty */
  int64_t in, out;   /* linear, head, embedding: logical features; else 0 */
  int32_t block;     /* index of the block, -1 outside */
  uint32_t reserved;
} engine_site_info;

typedef enum engine_codec {
  ENGINE_CODEC_DENSE = 0,
  ENGINE_CODEC_INT8_PER_CHANNEL = 1
} engine_codec;

/* How a parameter lies on one axis of a device mesh: whole, or split along `dim` into `count`
 * ranges, ends[i] being one past the last index of rank i; ranges may differ in length. */
typedef struct engine_shard {
  int32_t dim; /* -1: replicated */
  uint32_t count;
  const int64_t* ends;
} engine_shard;

typedef struct engine_param_info {
  uint32_t struct_size;
  uint32_t rank;
  engine_str name;  /* as Hugging Face names it: "model.layers.0.mlp.up_proj.weight" */
  int64_t shape[4]; /* logical, unsharded */
  uint32_t dtype;   /* engine_dtype */
  uint32_t codec;   /* engine_codec */
  uint8_t trainable;
  uint8_t reserved[3];
  uint32_t shard_count;       /* mesh axes */
  const engine_shard* shard;  /* [shard_count] */
  engine_str tie_group;       /* parameters of one group are one tensor; empty: none */
  engine_str init_key;        /* names the random stream of its initial value */
  engine_str optimizer_group; /* parameters of one group share learning rate and decay */
} engine_param_info;

/* What stands at a site. The host owns it from rewrite on and destroys it after all models that
 * use it are gone; the implementation it replaced lives longer than it does. */
typedef struct engine_site_impl {
  uint32_t struct_size;
  uint32_t reserved;
  void* self;
  /* [worker] The site's function on tensors, recording autograd as the mode says. Outputs are
   * handed over. `pass` may be retained for a later replay. */
  engine_status* (*forward)(void* self, engine_forward* pass, const AtenTensorHandle* in,
                            uint32_t n_in, AtenTensorHandle* out, uint32_t n_out);
  /* [any] What it is made of: a table for one of the ids below, or NULL. */
  const void* (*extension)(void* self, const char* id);
  void (*destroy)(void* self); /* [control] */
} engine_site_impl;

/* engine.packed_linear/1: y = dequantize(q)·x with int8 weights and int8 activations. */
#define ENGINE_EXT_PACKED_LINEAR "engine.packed_linear/1"
typedef struct engine_packed_linear {
  uint32_t struct_size;
  uint32_t reserved;
  engine_packed* packed; /* borrowed from the implementation */
} engine_packed_linear;

/* engine.low_rank/1: y = base(x) + scale · B·(A·x), A [rank, in], B [out, rank]. */
#define ENGINE_EXT_LOW_RANK "engine.low_rank/1"
typedef struct engine_low_rank {
  uint32_t struct_size;
  uint32_t rank;
  const engine_site_impl* base; /* what the branch is added to */
  AtenTensorHandle a, b;        /* borrowed from the implementation */
  double scale;
} engine_low_rank;

/* engine.same_function/1: the implementation computes what `base` computes, bit for bit; only when
 * and how often differs (recomputation, tracing). Lowering looks through it. */
#define ENGINE_EXT_SAME_FUNCTION "engine.same_function/1"
typedef struct engine_same_function {
  uint32_t struct_size;
  uint32_t reserved;
  const engine_site_impl* base;
} engine_same_function;

/* engine.kv_view/1: keys and values of all blocks in pages of one pool. A page index names the
 * same page in every block. A page of one block holds f32 keys [kv_heads][head_dim][page_tokens],
 * then f32 values [kv_heads][page_tokens][head_dim], 64-byte aligned. */
#define ENGINE_EXT_KV_VIEW "engine.kv_view/1"
typedef struct engine_kv_stats {
  uint32_t struct_size;
  uint32_t sequences;
  uint64_t pages_total, pages_used, page_bytes /* over all blocks */, budget_bytes, held_bytes;
} engine_kv_stats;
typedef struct engine_kv_view {
  uint32_t struct_size;
  uint32_t page_tokens;
  uint32_t block; /* of this site */
  uint32_t reserved;
  void* self;
  /* [worker] Start of a page of this site's block; NULL when the index is out of range. */
  float* (*page)(void* self, int32_t index);
  /* [worker] Sequences of the pool; the same for every site of it. */
  engine_status* (*sequence_open)(void* self, uint64_t* sequence);
  /* Makes room for `tokens` positions in all; RESOURCE_EXHAUSTED, with nothing taken, when the
   * budget does not allow it. */
  engine_status* (*sequence_reserve)(void* self, uint64_t sequence, uint64_t tokens);
  /* The block table; borrowed until the next call for this sequence. */
  engine_status* (*sequence_blocks)(void* self, uint64_t sequence, const int32_t** blocks,
                                    uint32_t* count);
  engine_status* (*sequence_close)(void* self, uint64_t sequence);
  void (*stats)(void* self, engine_kv_stats* out); /* [any] */
} engine_kv_view;

/* Receives text or bytes in one or more pieces. */
typedef engine_status* (*engine_put)(void* arg, engine_str piece);

typedef enum engine_encode_flags {
  ENGINE_ENCODE_SPECIAL = 1, /* names of special tokens in the text become those tokens */
  ENGINE_ENCODE_BOS = 2      /* begin as the model's tokenizer says */
} engine_encode_flags;

typedef struct engine_model_host {
  uint32_t struct_size;

  /* --- what the model is ------------------------------------------------------------ [any] */
  void (*info)(const engine_model* model, engine_model_info* out);
  uint32_t (*site_count)(const engine_model* model);
  engine_status* (*site)(const engine_model* model, uint32_t i, engine_site_info* out);
  /* What stands at the site now; lives as long as the model's resource. Never NULL. */
  const engine_site_impl* (*site_impl)(const engine_model* model, uint32_t i);
  uint32_t (*param_count)(const engine_model* model);
  engine_status* (*param)(const engine_model* model, uint32_t i, engine_param_info* out);
  engine_status* (*param_find)(const engine_model* model, engine_str name, uint32_t* i);

  /* --- parameters ------------------------------------------------------- [control][worker] */
  /* Rows [begin, end) of a matrix (a vector is one row) as f32, decoded from the file or copied
   * from the tensor; `to` holds (end - begin) * columns. */
  engine_status* (*param_rows)(const engine_model* model, uint32_t i, int64_t begin, int64_t end,
                               float* to);
  /* The dense tensor in the model's dtype, made at the first call and shared; new reference. */
  engine_status* (*param_tensor)(engine_model* model, uint32_t i, AtenTensorHandle* out);
  /* [control] From rewrite: adds a parameter that the transform owns; takes the tensor. */
  engine_status* (*param_add)(engine_model* model, const engine_param_info* info,
                              AtenTensorHandle tensor);
  /* [control] From rewrite: the weight is now held in `packed` (borrowed), in this codec. */
  engine_status* (*param_encode)(engine_model* model, engine_str name, uint32_t codec,
                                 engine_packed* packed);

  /* --- text ------------------------------------------------------------------------- [any] */
  /* Writes up to `capacity` ids and tells in *count how many there are. */
  engine_status* (*encode)(const engine_model* model, engine_str text, uint32_t flags, int32_t* ids,
                           uint64_t capacity, uint64_t* count);
  /* Bytes of a token; special tokens give none. Borrowed from the model. */
  engine_status* (*token_bytes)(const engine_model* model, int32_t id, engine_str* out);
  uint8_t (*token_stops)(const engine_model* model, int32_t id); /* end of text or of turn */
  /* One user turn in the model's chat format, ready for the answer. FAILED_PRECONDITION when the
   * model has none. */
  engine_status* (*chat)(const engine_model* model, engine_str user, engine_put put, void* arg);

  /* --- running ------------------------------------------------------------------- [worker] */
  /* Logits of each sequence's last token into `logits` [count, vocab]; the fused path, without
   * autograd. Where a KV store is there, writes its pages. */
  engine_status* (*step)(engine_model* model, const engine_step* step, float* logits);
  /* The same function site by site on tensors, recording autograd: ids [B, T] i64 -> logits
   * [B, T, vocab] in the model's dtype. No KV store takes part. */
  engine_status* (*forward)(engine_model* model, AtenTensorHandle ids, AtenTensorHandle* logits);
  /* As forward, through the Loss site: labels [B, T] i64, already shifted by the caller, -100 is
   * ignored; gives the sum of losses and how many labels counted. */
  engine_status* (*loss)(engine_model* model, AtenTensorHandle ids, AtenTensorHandle labels,
                         AtenTensorHandle* sum, int64_t* count);
  /* Says that trainable tensors changed: packed copies are made anew at the next step. */
  void (*params_changed)(engine_model* model);

  /* --- one pass; see engine_site_impl.forward -------------------------------------- [any] */
  void (*forward_retain)(engine_forward* pass);
  void (*forward_release)(engine_forward* pass);

  /* --- packed int8 matrices -------------------------------------------- [control][worker] */
  /* An empty matrix of that shape; every row must be set before it is used. */
  engine_status* (*packed_create)(int64_t out, int64_t in, engine_packed** matrix);
  /* Row `row` is q[k] * scale, q in -127..127. Thread-safe for distinct rows. */
  engine_status* (*packed_set_row)(engine_packed* matrix, int64_t row, const int8_t* q,
                                   float scale);
  void (*packed_retain)(engine_packed* matrix);
  void (*packed_release)(engine_packed* matrix);
  uint64_t (*packed_bytes)(const engine_packed* matrix);
  /* x [..., in] of any floating dtype -> [..., out] of the same; activations are quantized per row
   * to int8, products summed in int32, then multiplied by both scales. Not recorded by autograd. */
  engine_status* (*packed_forward)(engine_packed* matrix, AtenTensorHandle x, AtenTensorHandle* y);
  /* The dense matrix [out, in] in `dtype`. */
  engine_status* (*packed_dense)(engine_packed* matrix, uint32_t dtype, AtenTensorHandle* out);

  /* --- safetensors files ------------------------------------------------------- [control] */
  engine_status* (*files_open)(engine_str path, engine_files** out);
  void (*files_close)(engine_files* files);
  /* Text of a file beside it or the like, at most 16 MiB. */
  engine_status* (*read_text)(engine_str path, engine_put put, void* arg);
  uint32_t (*files_count)(const engine_files* files);
  engine_status* (*files_name)(const engine_files* files, uint32_t i, engine_str* name);
  /* A copy of a tensor in `dtype`. */
  engine_status* (*files_tensor)(const engine_files* files, engine_str name, uint32_t dtype,
                                 AtenTensorHandle* out);
  /* Writes a file at once (a temporary one, then a rename). */
  engine_status* (*files_write)(engine_str path, const engine_str* names,
                                const AtenTensorHandle* tensors, uint32_t count);
  /* Replaces a text file at once, making its folder where it is missing. */
  engine_status* (*write_text)(engine_str path, engine_str text);
} engine_model_host;

#ifdef __cplusplus
}
#endif
#endif /* ENGINE_EXT_DRAFT_MODEL_H_ */
