/* engine.model/1: a model as sites over logical parameters: what it is, its parameters, text, steps
 * and passes. What stands at a site is in site.h. Background: "site", "codec" and "phase" in
 * docs/architecture.md.
 */
#ifndef ENGINE_EXT_MODEL_H_
#define ENGINE_EXT_MODEL_H_

#include "engine/abi.h"
#include "engine/ext/site.h"
#include "engine/types.h"

#define ENGINE_EXT_MODEL "engine.model/1"
#define ENGINE_TYPE_MODEL "engine.Model/1"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct engine_model engine_model; /* the object behind an engine.Model/1 resource */
typedef struct engine_files engine_files; /* an opened safetensors file */

typedef struct engine_model_info {
  uint32_t struct_size;
  uint32_t dtype; /* engine_dtype of dense parameters */
  engine_str name;
  engine_str architecture; /* "llama" */
  int64_t hidden, blocks, heads, kv_heads, head_dim, mlp, vocab, context;
  double rope_theta, norm_eps;
  uint8_t tied_embedding;
  uint8_t reserved[7];
  uint32_t adapter_count; /* named ones; a step's sequences choose 1 to adapter_count, 0: none */
  uint32_t reserved2;
  uint64_t fingerprint; /* equal for models that compute the same function, codecs and adapters
                         * included */
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
  ENGINE_CODEC_INT8_PER_CHANNEL = 1,
  ENGINE_CODEC_INT8_GROUPS = 2
} engine_codec;

/* How a parameter lies on one axis of a device mesh: whole, or split along `dim` into `count`
 * ranges, ends[i] being one past the last index of rank i; ranges may differ in length. */
typedef struct engine_shard {
  uint32_t struct_size;
  int32_t dim; /* -1: replicated */
  uint32_t count;
  uint32_t reserved;
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

/* Receives the greatest magnitude that each input of a linear or head site took: peaks [in]. */
typedef engine_status* (*engine_peaks)(void* arg, uint32_t site, const float* peaks, int64_t in);

/* Receives text or bytes in one or more pieces. */
typedef engine_status* (*engine_put)(void* arg, engine_str piece);

typedef enum engine_encode_flags {
  ENGINE_ENCODE_SPECIAL = 1, /* names of special tokens in the text become those tokens */
  ENGINE_ENCODE_BOS = 2      /* begin as the model's tokenizer says */
} engine_encode_flags;

typedef enum engine_chat_flags {
  ENGINE_CHAT_CONTINUE = 1,
  ENGINE_CHAT_GENERATE = 2 /* chat_render: with what comes before an answer */
} engine_chat_flags;

/* What the matrices of a written model are stored as; vectors as F32 in a GGUF file and beside
 * INT8, else alike. */
typedef enum engine_export_type {
  ENGINE_EXPORT_F32 = 0,
  ENGINE_EXPORT_F16 = 1,
  ENGINE_EXPORT_BF16 = 2,
  ENGINE_EXPORT_F64 = 3,
  ENGINE_EXPORT_Q8_0 = 4, /* ggml's; a GGUF file only */
  ENGINE_EXPORT_INT8 = 5  /* compressed-tensors' int-quantized, groups of 64; a folder only */
} engine_export_type;

/* What adapters are merged into where a transform (int8) holds the weight quantized. */
typedef enum engine_merge_into {
  ENGINE_MERGE_REFUSE = 0,
  ENGINE_MERGE_DEQUANTIZED = 1, /* the rounded weight, which the adapter was trained beside */
  ENGINE_MERGE_ORIGINAL = 2     /* the weight as it was loaded, which it was not trained beside */
} engine_merge_into;

typedef enum engine_export_flags {
  ENGINE_EXPORT_REPLACE = 1, /* a file, or a folder of nothing but a model, gives way */
  ENGINE_EXPORT_CHECK = 2    /* only tells whether it would be refused; nothing is written */
} engine_export_flags;

typedef struct engine_export {
  uint32_t struct_size;
  uint32_t type;       /* engine_export_type */
  uint32_t merge_into; /* engine_merge_into */
  uint32_t flags;      /* engine_export_flags */
  engine_str path;     /* NAME.gguf: a GGUF file; else a Hugging Face folder */
} engine_export;

typedef enum engine_loss_flags {
  ENGINE_LOSS_DROPOUT = 1 /* a pass of training: what drops elements does so */
} engine_loss_flags;

/* How a loss is computed. */
typedef struct engine_loss_how {
  uint32_t struct_size;
  uint32_t flags; /* engine_loss_flags */
  /* [B, T] i64, or NULL: which example of its row a token belongs to, rising, -1 for none; tokens
   * see none of another example, and each example begins at position 0. */
  AtenTensorHandle example;
  uint64_t step, microbatch; /* key the random numbers of this pass */
  double label_smoothing; /* share of a label that is spread over all of the vocabulary, [0, 1) */
} engine_loss_how;

/* What training holds and does at a site, for one token of a sequence of some length. */
typedef struct engine_site_cost {
  uint32_t struct_size;
  uint32_t reserved;
  double input_bytes;  /* its input, which is kept in any case */
  double saved_bytes;  /* what autograd keeps besides, from forward to backward */
  double replay_flops; /* to compute that again */
} engine_site_cost;

/* What training on batches of a shape will take, before it begins. */
typedef struct engine_train_estimate {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t weight_bytes; /* of weights that are not in memory yet */
  uint64_t kept_bytes;   /* activations from forward to backward */
  uint64_t
      working_bytes; /* what is there for moments, at most: of the loss, of a block's backward */
  double flops;      /* of products, of forward, backward and what is computed again */
  double flops_per_second; /* at which products run here, measured for a moment */
} engine_train_estimate;

#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
/* Where choose puts what it finds; the arrays are the caller's. */
typedef struct engine_choices {
  uint32_t struct_size;
  uint32_t top_count;  /* alternatives that there is room for */
  int32_t* ids;        /* [rows] */
  float* margins;      /* [rows] */
  float* logprobs;     /* [rows], NaN where not asked for; NULL with the two below: nowhere */
  int32_t* top_ids;    /* [rows, top_count], -1 where there is none */
  float* top_logprobs; /* [rows, top_count] */
} engine_choices;
#endif

typedef struct engine_model_host {
  uint32_t struct_size;

  /* --- what the model is ------------------------------------------------------------ [any] */
  /* Structs to be filled come with their size set; rule 5 of abi.h. */
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
  /* [control] From rewrite: in this view of the model the parameter info->name is this tensor, of
   * the same shape; takes it. Trainable as info says. */
  engine_status* (*param_replace)(engine_model* model, const engine_param_info* info,
                                  AtenTensorHandle tensor);
  /* A dense tensor of its own in the model's dtype, which nothing else shares. */
  engine_status* (*param_copy)(engine_model* model, uint32_t i, AtenTensorHandle* out);
  /* [control] From rewrite: the weight is now held in `packed` (borrowed), in this codec. */
  engine_status* (*param_encode)(engine_model* model, engine_str name, uint32_t codec,
                                 engine_packed* packed);

  /* [any] The number of a named adapter, 1 to adapter_count, for engine_step_sequence.adapter; 0
   * for the empty name: none of them. NOT_FOUND lists those that there are. */
  engine_status* (*adapter_find)(const engine_model* model, engine_str name, uint32_t* number);

  /* --- text ------------------------------------------------------------------------- [any] */
  /* Writes up to `capacity` ids and tells in *count how many there are. */
  engine_status* (*encode)(const engine_model* model, engine_str text, uint32_t flags, int32_t* ids,
                           uint64_t capacity, uint64_t* count);
  /* Bytes of a token; special tokens give none. Borrowed from the model. */
  engine_status* (*token_bytes)(const engine_model* model, int32_t id, engine_str* out);
  uint8_t (*token_stops)(const engine_model* model, int32_t id); /* end of text or of turn */
  /* One user turn in the model's chat format, ready for the answer; with ENGINE_CHAT_CONTINUE as it
   * follows an answer that was generated: the end of that answer, then the turn.
   * FAILED_PRECONDITION when the model has no chat format. */
  engine_status* (*chat)(const engine_model* model, engine_str user, uint32_t flags, engine_put put,
                         void* arg);

  /* A whole conversation in the model's chat format. `messages` is a JSON list of objects, usually
   * with "role" and "content"; `tools` a JSON list, or empty. INVALID_ARGUMENT where either is no
   * such JSON; FAILED_PRECONDITION when the model has no chat format or the template refuses. */
  engine_status* (*chat_render)(const engine_model* model, engine_str messages, engine_str tools,
                                uint32_t flags, engine_put put, void* arg);

  /* --- running ------------------------------------------------------------------- [worker] */
  /* [control] Packs weights and makes what steps need; else the first step does. */
  engine_status* (*prepare)(engine_model* model);
  /* The logits that the step asks for into `logits` [sum of logits_count, vocab]; the fused path,
   * without autograd. Where a KV store is there, writes its pages. */
  engine_status* (*step)(engine_model* model, const engine_step* step, float* logits);
  /* Chooses a token for each row of logits: ids and margins [rows]. `fallback` where a row has no
   * sampling of its own; the model, whose times count it, may be NULL. DATA_LOSS when a row holds a
   * NaN or nothing finite. */
  engine_status* (*sample)(engine_model* model, const engine_logits* logits,
                           const engine_sampling* fallback, int32_t* ids, float* margins);
  /* Time that steps of this model have taken in all, and of it in kernels, in nanoseconds. [any] */
  void (*step_times)(const engine_model* model, uint64_t* steps, uint64_t* step_ns,
                     uint64_t* kernel_ns);
  /* The same function site by site on tensors, recording autograd: ids [B, T] i64 -> logits
   * [B, T, vocab] in the model's dtype. No KV store takes part. */
  engine_status* (*forward)(engine_model* model, AtenTensorHandle ids, AtenTensorHandle* logits);
  /* As forward, through the Loss site: labels [B, T] i64, already shifted by the caller, -100 is
   * ignored; gives the sum of losses and how many labels counted. `how` NULL: plain. Head and loss
   * run over some rows at a time, so that the logits are never there as a whole. */
  engine_status* (*loss)(engine_model* model, AtenTensorHandle ids, AtenTensorHandle labels,
                         const engine_loss_how* how, AtenTensorHandle* sum, int64_t* count);
  /* [control] Runs the tokens once, in pieces of at most 256 that each begin a context, and tells
   * `put` what came into the linear and head sites, one site after the other. For transforms that
   * choose by activations: during rewrite, before the first site was replaced, the model is the one
   * that they transform. FAILED_PRECONDITION when keys and values are kept already. Sites that a
   * replacement hides are left out. */
  engine_status* (*input_peaks)(engine_model* model, const int32_t* ids, uint64_t count,
                                engine_peaks put, void* arg);
  /* For batches of `batch` x `tokens`, all of whose labels count. UNIMPLEMENTED where something
   * unknown stands in the model. */
  engine_status* (*train_estimate)(engine_model* model, int64_t batch, int64_t tokens,
                                   engine_train_estimate* out);
  /* Says that trainable tensors changed: packed copies are made anew at the next step. */
  void (*params_changed)(engine_model* model);

  /* --- one pass; see engine_site_impl.forward -------------------------------------- [any] */
  void (*forward_retain)(engine_forward* pass);
  void (*forward_release)(engine_forward* pass);
  /* The model that the pass goes over; lives as long as the pass. */
  engine_model* (*forward_model)(const engine_forward* pass);
  void (*forward_size)(const engine_forward* pass, int64_t* batch, int64_t* tokens);
  /* Within a function that was given to engine_autograd.checkpoint: it runs this site and nothing
   * else. A replay then leaves out what only the site's output would need. */
  void (*forward_only)(engine_forward* pass, uint32_t site);
  /* Of a Block or Mlp site in this pass, in the precision of the moment. UNIMPLEMENTED for others,
   * and where something unknown stands inside. */
  engine_status* (*site_cost)(const engine_forward* pass, uint32_t site, engine_site_cost* out);
  /* [worker] x with each element dropped with probability p and the others divided by 1 - p, where
   * the pass is one of training; else x. Which ones depends on seed, stream, the pass's step and
   * microbatch, and the element's index alone. Recorded by autograd. */
  engine_status* (*dropout)(const engine_forward* pass, double p, uint64_t seed, uint64_t stream,
                            AtenTensorHandle x, AtenTensorHandle* y);

  /* --- packed int8 matrices -------------------------------------------- [control][worker] */
  /* An empty matrix of that shape; every row must be set before it is used. Each row is scaled by
   * groups of `group` neighbours, a multiple of 32, or whole: group 0. */
  engine_status* (*packed_create)(int64_t out, int64_t in, int64_t group, engine_packed** matrix);
  /* Row `row` is q[k] * scales[k / group], q in -127..127; scales of groups must be representable
   * in half precision (HalfToFloat of util.hpp). Thread-safe for distinct rows. */
  engine_status* (*packed_set_row)(engine_packed* matrix, int64_t row, const int8_t* q,
                                   const float* scales);
  /* Inputs are multiplied by scales [in] before they are quantized; the rows are the weights
   * divided by the same. Each must be finite and above zero. [control] Before the matrix is used.
   */
  engine_status* (*packed_set_input_scales)(engine_packed* matrix, const float* scales);
  void (*packed_retain)(engine_packed* matrix);
  void (*packed_release)(engine_packed* matrix);
  uint64_t (*packed_bytes)(const engine_packed* matrix);
  /* x [..., in] of any floating dtype -> [..., out] of the same; activations are quantized to int8
   * by the matrix's groups, products summed in int32 within a group, then multiplied by both
   * scales. Not recorded by autograd. */
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

  /* --- what a model leaves behind ---------------------------------------------- [control] */
  /* Writes the model whole, with its tokenizer, chat template and generation config, every low-rank
   * branch merged into its linear: W + scale·B·A, its rows scaled to the magnitudes that there are,
   * in double, then rounded once. A head that is tied to the embedding stays so. Whole or not at
   * all. FAILED_PRECONDITION where a weight is quantized and merge_into does not say what to merge
   * into; UNIMPLEMENTED names a site that holds what cannot be merged; DATA_LOSS a parameter whose
   * values are not finite. */
  engine_status* (*export_model)(engine_model* model, const engine_export* how);
  /* Where the model comes from, as a JSON object: "engine" (version), "base" (name, path,
   * fingerprint in hex, dtype) and "parameters": of each one that a branch or training changes, how
   * the file stores it and the codec it is held in. */
  engine_status* (*provenance)(const engine_model* model, engine_put put, void* arg);
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
  /* --- 1.1 ----------------------------------------------------------------------- [worker] */
  /* As sample, and tells log-probabilities. A row whose token is known already (`known` of its
   * sequence) gets that one. */
  engine_status* (*choose)(engine_model* model, const engine_logits* logits,
                           const engine_sampling* fallback, const engine_choices* out);
  /* [any] The name of an adapter, 1 to adapter_count; borrowed from the model. */
  engine_status* (*adapter_name)(const engine_model* model, uint32_t number, engine_str* out);
#endif
} engine_model_host;

#ifdef __cplusplus
}
#endif
#endif /* ENGINE_EXT_MODEL_H_ */
