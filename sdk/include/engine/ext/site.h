/* What stands at a site of a model, and the tables by which it says what it is made of: lowering
 * asks for them and so fuses what it stands for without knowing whose it is. A site that gives none
 * is run as it is, by its forward.
 */
#ifndef ENGINE_EXT_SITE_H_
#define ENGINE_EXT_SITE_H_

#include "engine/abi.h"
#include "engine/ext/autograd.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct engine_forward engine_forward; /* one pass over sites; reference-counted */
typedef struct engine_packed engine_packed;   /* a packed int8 matrix; reference-counted */

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

/* engine.recomputed/1: of this site autograd keeps only the input, in this pass. */
#define ENGINE_EXT_RECOMPUTED "engine.recomputed/1"
typedef struct engine_recomputed {
  uint32_t struct_size;
  uint32_t reserved;
  engine_status* (*in_pass)(void* self, const engine_forward* pass, uint8_t* yes);
} engine_recomputed;

#ifdef __cplusplus
}
#endif
#endif /* ENGINE_EXT_SITE_H_ */
