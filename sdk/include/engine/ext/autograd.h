/* engine.autograd/1: what LibTorch's stable ABI has no way to say — custom backward,
 * recomputation, backward, grad modes. Done once, in the host, over torch::autograd. Tensors are
 * AtenTensorHandle in every tier.
 */
#ifndef ENGINE_EXT_AUTOGRAD_H_
#define ENGINE_EXT_AUTOGRAD_H_

#include "engine/abi.h"

#define ENGINE_EXT_AUTOGRAD "engine.autograd/1"

#ifdef __cplusplus
extern "C" {
#endif

struct AtenTensorOpaque;
typedef struct AtenTensorOpaque* AtenTensorHandle;

typedef enum engine_grad_mode {
  ENGINE_GRAD_TRAIN = 0,    /* autograd records */
  ENGINE_GRAD_NO_GRAD = 1,  /* it does not */
  ENGINE_GRAD_INFERENCE = 2 /* nor may the results ever take part in it */
} engine_grad_mode;

/* Computes `n_out` new tensors from `n_in` borrowed ones; the outputs are handed over. */
typedef engine_status* (*engine_tensor_fn)(void* state, const AtenTensorHandle* in, uint32_t n_in,
                                           AtenTensorHandle* out, uint32_t n_out);

typedef struct engine_autograd {
  uint32_t struct_size;
  /* [worker] A function with its own backward. `forward` runs without recording. `backward` gets
   * the inputs of forward followed by the gradients of its outputs (a missing one as zeros), and
   * answers one gradient an input, NULL for none. `state` is freed by free_state when neither is
   * needed any longer, also when this call fails. */
  engine_status* (*apply)(engine_tensor_fn forward, engine_tensor_fn backward, void* state,
                          void (*free_state)(void*), const AtenTensorHandle* in, uint32_t n_in,
                          AtenTensorHandle* out, uint32_t n_out);
  /* [worker] Runs `fn` without recording, keeps only the inputs, and runs it again during
   * backward. `params` are trainable tensors that `fn` uses besides its inputs: they receive their
   * gradients even when no input asks for one. The replay sees the autocast state of the first
   * run. Replays must give the same bits. */
  engine_status* (*checkpoint)(engine_tensor_fn fn, void* state, void (*free_state)(void*),
                               const AtenTensorHandle* in, uint32_t n_in,
                               const AtenTensorHandle* params, uint32_t n_params,
                               AtenTensorHandle* out, uint32_t n_out);
  /* [worker] Backward from `loss`; `grad` is NULL for a scalar. Gradients add up in the leaves. */
  engine_status* (*backward)(AtenTensorHandle loss, AtenTensorHandle grad);
  /* [worker] New reference to the gradient of a leaf; *out is NULL when it has none. */
  engine_status* (*grad_of)(AtenTensorHandle leaf, AtenTensorHandle* out);
  engine_status* (*clear_grad)(AtenTensorHandle leaf); /* [worker] */
  /* [worker] Sets the calling thread's mode and answers the one before. */
  engine_status* (*set_mode)(uint32_t mode, uint32_t* previous);
  /* [any] What products of training should run in on this machine, an engine_dtype, and why, as
   * text that lives as long as the host: BF16 where the processor multiplies pairs of bf16, else
   * F32. */
  uint32_t (*product_type)(engine_str* why);
} engine_autograd;

#ifdef __cplusplus
}
#endif
#endif /* ENGINE_EXT_AUTOGRAD_H_ */
