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

/* engine.low_rank/1: y = base(x) + scale · B·(A·x), A [rank, in], B [out, rank]. Training may drop
 * elements of the x that enters A; see engine_model_host.dropout. With a magnitude m [out] (DoRA,
 * Liu et al. 2024, arXiv:2402.09353) each y[o] is multiplied by m[o] / |W + scale · B·A| of row o,
 * W being the base's weight as the model holds it; the norm is no part of the gradient. */
#define ENGINE_EXT_LOW_RANK "engine.low_rank/1"
typedef struct engine_low_rank {
  uint32_t struct_size;
  uint32_t rank;
  const engine_site_impl* base; /* what the branch is added to */
  AtenTensorHandle a, b;        /* borrowed from the implementation */
  double scale;
  engine_str adapter; /* serving adds the branch for sequences that chose this adapter; empty: for
                       * all of them. Training always adds it. */
  double dropout;     /* probability of an element to be dropped, in [0, 1) */
  uint64_t drop_seed, drop_stream; /* key its random numbers, beside step and microbatch */
  AtenTensorHandle magnitude;      /* [out], borrowed; NULL: outputs are not scaled */
  /* Borrowed; NULL: the base's weight is as it was. Else it is what was left of it when scale ·
   * start_b · start_a was taken out, so that beside the whole weight the branch is scale · (B·A −
   * start_b · start_a). */
  AtenTensorHandle start_a, start_b;
} engine_low_rank;

/* engine.autocast/1, at the Loss site: losses and their gradients are computed with products in
 * `dtype` (ENGINE_BF16). Weights that train and their gradients stay in the model's dtype, as do
 * norms, the softmax and the residual stream. */
#define ENGINE_EXT_AUTOCAST "engine.autocast/1"
typedef struct engine_autocast {
  uint32_t struct_size;
  uint32_t dtype; /* engine_dtype */
} engine_autocast;

/* engine.same_function/1: the implementation computes what `base` computes, bit for bit; only when
 * and how often differs (recomputation, tracing). Lowering looks through it. */
#define ENGINE_EXT_SAME_FUNCTION "engine.same_function/1"
typedef struct engine_same_function {
  uint32_t struct_size;
  uint32_t reserved;
  const engine_site_impl* base;
} engine_same_function;

/* engine.kv_view/1: keys and values of one block, in pages. A page index names the same page in
 * every block. A page of one block holds, 64-byte aligned:
 *   F32, F16: keys [kv_heads][head_dim][page_tokens], then values [kv_heads][page_tokens][head_dim]
 *   INT8: keys s8 [kv_heads][head_dim / 4][page_tokens][4], values s8 [kv_heads][page_tokens]
 *     [head_dim], then f32 scales of keys and of values, [kv_heads][page_tokens] each: one scale a
 *     head and position, absmax / 127 */
#define ENGINE_EXT_KV_VIEW "engine.kv_view/1"
typedef enum engine_kv_format {
  ENGINE_KV_F32 = 1,
  ENGINE_KV_F16 = 2,
  ENGINE_KV_INT8 = 3
} engine_kv_format;
typedef struct engine_kv_view {
  uint32_t struct_size;
  uint32_t page_tokens; /* a multiple of 16 */
  uint32_t block;       /* of this site */
  uint32_t format;      /* engine_kv_format */
  void* base;           /* page i of this block begins at base + i * stride bytes */
  uint64_t stride;
  uint32_t pages;
  uint32_t reserved;
} engine_kv_view;

/* engine.kv_pool/1: the pool behind the views; every KvStore site of a model gives the same one.
 * Calls are thread-safe. A sequence is a list of pages in order; pages that are shared are never
 * written: reserve gives a sequence copies of its own where it is about to write. Pages that one
 * adapter computed are never given to a sequence of another, and a session is known by its name,
 * its salt and its adapter together. */
#define ENGINE_EXT_KV_POOL "engine.kv_pool/1"
typedef enum engine_kv_open_flags {
  ENGINE_KV_OPEN_NO_SHARING = 1 /* neither takes nor gives pages of the prefix cache */
} engine_kv_open_flags;
typedef struct engine_kv_open {
  uint32_t struct_size;
  uint32_t flags;        /* engine_kv_open_flags */
  const int32_t* tokens; /* all that is known of the sequence, a session's history included */
  uint32_t token_count;
  uint32_t adapter; /* as in the steps that will compute it */
  engine_str salt;
  engine_str session; /* empty: none; the session is busy until the sequence closes */
} engine_kv_open;
typedef struct engine_kv_match {
  uint32_t struct_size;
  uint32_t cached; /* positions [0, cached) hold computed keys and values; below token_count */
  uint32_t reason; /* engine_kv_reason */
  uint32_t reserved;
} engine_kv_match;
typedef enum engine_kv_close_flags {
  ENGINE_KV_CLOSE_KEEP = 1 /* the session keeps the written positions as its history */
} engine_kv_close_flags;
typedef struct engine_kv_stats {
  uint32_t struct_size;
  uint32_t sequences, sessions, reserved;
  uint64_t pages_total;
  uint64_t pages_used; /* held by sequences */
  uint64_t
      pages_cached;    /* held by the prefix cache or by idle sessions alone: given up on demand */
  uint64_t page_bytes; /* of one page over all blocks */
  uint64_t budget_bytes, held_bytes; /* tables and indexes included; held never exceeds budget */
  uint64_t lookups, hits;            /* sequences opened; those that found something */
  uint64_t looked_up_tokens, cached_tokens;
  uint64_t evicted_pages, copied_pages; /* thrown out to make room; copied on write */
} engine_kv_stats;
typedef struct engine_kv_pool {
  uint32_t struct_size;
  uint32_t page_tokens;
  void* self;
  /* All [worker]. Begins a sequence with what is computed of it already. FAILED_PRECONDITION when
   * the session is busy; RESOURCE_EXHAUSTED when the tables have no room. */
  engine_status* (*sequence_open)(void* self, const engine_kv_open* how, uint64_t* sequence,
                                  engine_kv_match* match);
  /* Makes room to write positions [written, tokens): new pages, and copies of shared ones. Throws
   * out cached pages and idle sessions, least recently used first, when it must;
   * RESOURCE_EXHAUSTED, with nothing taken, when that is not enough. */
  engine_status* (*sequence_reserve)(void* self, uint64_t sequence, uint64_t tokens);
  /* The block table; borrowed until the next call for this sequence. */
  engine_status* (*sequence_blocks)(void* self, uint64_t sequence, const int32_t** blocks,
                                    uint32_t* count);
  /* Positions up to `count` in all are now computed; `tokens` are those of the newly written ones,
   * [written, count). Full pages become findable by others. */
  engine_status* (*sequence_written)(void* self, uint64_t sequence, const int32_t* tokens,
                                     uint64_t count);
  /* Forgets positions from `count` on. */
  engine_status* (*sequence_truncate)(void* self, uint64_t sequence, uint64_t count);
  /* A second sequence with the same written positions; pages are shared until one writes. */
  engine_status* (*sequence_fork)(void* self, uint64_t sequence, uint64_t* copy);
  engine_status* (*sequence_close)(void* self, uint64_t sequence, uint32_t flags);
  /* Tokens of the session's history, copied up to `capacity`; *count tells how many there are, 0
   * when the session is unknown. */
  engine_status* (*session_tokens)(void* self, engine_str session, engine_str salt,
                                   uint32_t adapter, int32_t* tokens, uint64_t capacity,
                                   uint64_t* count);
  engine_status* (*session_drop)(void* self, engine_str session, engine_str salt, uint32_t adapter);
  /* The session's history, keys and values as a file, and back. A file of another model, adapter,
   * format or version, a short or a damaged one is refused with what differs. */
  engine_status* (*session_save)(void* self, engine_str session, engine_str salt, uint32_t adapter,
                                 engine_str path);
  engine_status* (*session_restore)(void* self, engine_str session, engine_str salt,
                                    uint32_t adapter, engine_str path);
  void (*stats)(void* self, engine_kv_stats* out); /* [any] */
} engine_kv_pool;

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

/* engine.recomputed/1: of this site autograd keeps only the input, in this pass. */
#define ENGINE_EXT_RECOMPUTED "engine.recomputed/1"
typedef struct engine_recomputed {
  uint32_t struct_size;
  uint32_t reserved;
  engine_status* (*in_pass)(void* self, const engine_forward* pass, uint8_t* yes);
} engine_recomputed;

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
} engine_model_host;

#ifdef __cplusplus
}
#endif
#endif /* ENGINE_EXT_DRAFT_MODEL_H_ */
