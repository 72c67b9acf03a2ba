/* Payloads that the shipped kinds exchange. A packet of one of these types points to the struct
 * of the same name; everything it points to lives as long as the packet. Times are nanoseconds of
 * CLOCK_MONOTONIC.
 */
#ifndef ENGINE_TYPES_H_
#define ENGINE_TYPES_H_

#include "engine/abi.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ENGINE_TYPE_TEXT "engine.Text/1"
typedef struct engine_text {
  uint32_t struct_size;
  engine_str text; /* as it came: may hold invalid UTF-8 */
  uint64_t arrived_ns;
} engine_text;

#define ENGINE_TYPE_TOKENS "engine.Tokens/1"
typedef struct engine_tokens {
  uint32_t struct_size;
  const int32_t* ids;
  uint64_t count;
  uint64_t arrived_ns; /* of the text they were made from */
} engine_tokens;

/* What one sequence asks of one forward pass. */
typedef struct engine_step_sequence {
  uint64_t request;
  const int32_t* tokens; /* new tokens */
  uint32_t token_count;  /* at least 1 */
  uint32_t start;        /* position of tokens[0] in the sequence */
  /* The pages that hold positions [0, start + token_count) in order, with the right to write those
   * of the new tokens; NULL with count 0 when the model keeps no keys and values: then start is 0
   * and tokens is the whole sequence. */
  const int32_t* blocks;
  uint32_t block_count;
} engine_step_sequence;

#define ENGINE_TYPE_STEP "engine.Step/1"
typedef struct engine_step {
  uint32_t struct_size;
  uint32_t count;
  const engine_step_sequence* sequences;
} engine_step;

/* Logits of the last token of each sequence of a step, in the step's order. */
#define ENGINE_TYPE_LOGITS "engine.Logits/1"
typedef struct engine_logits {
  uint32_t struct_size;
  uint32_t rows;
  uint64_t vocab;
  const float* data;         /* [rows, vocab] */
  const uint64_t* requests;  /* [rows] */
  const uint32_t* positions; /* [rows]: position of the token to be chosen */
} engine_logits;

#define ENGINE_TYPE_SAMPLED "engine.Sampled/1"
typedef struct engine_sampled {
  uint32_t struct_size;
  uint32_t rows;
  const uint64_t* requests; /* [rows] */
  const int32_t* ids;       /* [rows] */
  const float* margins;     /* [rows]: greatest logit less the second greatest */
} engine_sampled;

typedef enum engine_finish {
  ENGINE_FINISH_NONE = 0,
  ENGINE_FINISH_STOP = 1,   /* an end token; it is not part of the text */
  ENGINE_FINISH_LENGTH = 2, /* max_tokens or the context was reached */
  ENGINE_FINISH_ERROR = 3
} engine_finish;

/* One token of one request, or with id -1 its end without a token. */
#define ENGINE_TYPE_TOKEN "engine.Token/1"
typedef struct engine_token {
  uint32_t struct_size;
  int32_t id;
  uint64_t request;
  uint32_t index;  /* place among the generated tokens */
  uint32_t finish; /* engine_finish */
  float margin;    /* see engine_sampled */
  uint32_t prompt_count;
  const int32_t* prompt_ids; /* [prompt_count], with index 0 or a finish only */
  uint64_t arrived_ns, made_ns;
  engine_str error; /* with ENGINE_FINISH_ERROR: what happened */
} engine_token;

/* A piece of text for one request: whole code points only. */
#define ENGINE_TYPE_EVENT "engine.Event/1"
typedef struct engine_event {
  uint32_t struct_size;
  uint32_t finish; /* engine_finish */
  engine_str text;
  engine_token token; /* that this piece was made from */
} engine_event;

/* One optimizer step of a training run. */
#define ENGINE_TYPE_TRAIN_STEP "engine.TrainStep/1"
typedef struct engine_train_step {
  uint32_t struct_size;
  uint32_t step; /* from 1 */
  double loss;   /* mean over the valid tokens of the step, nats */
  double seconds;
  uint64_t tokens;  /* valid tokens */
  double grad_norm; /* L2 norm over all trainable tensors */
} engine_train_step;

#ifdef __cplusplus
}
#endif
#endif /* ENGINE_TYPES_H_ */
