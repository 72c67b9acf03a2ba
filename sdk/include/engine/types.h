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

#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
typedef enum engine_cancel_how {
  ENGINE_CANCEL_ABANDON = 0, /* nobody wants any answer of the group */
  ENGINE_CANCEL_ENOUGH = 1   /* one answer has said enough: it ends as by an end token */
} engine_cancel_how;
#endif

/* Whoever made the request of this group no longer wants the answer. */
#define ENGINE_TYPE_CANCEL "engine.Cancel/1"
typedef struct engine_cancel {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t group; /* of the prompt's packet */
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
  uint32_t how;    /* engine_cancel_how */
  uint32_t choice; /* of ENGINE_CANCEL_ENOUGH: which answer */
#endif
} engine_cancel;

#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
/* A form that an answer keeps to. Lives as long as the request that holds it. */
typedef struct engine_guide {
  uint32_t struct_size;
  uint32_t reserved;
  void* self;
  /* [worker] Which tokens may follow `tokens` [count], all that one answer has so far; `stream`
   * tells the answers of a request apart. *allowed: token i is bit i % 64 of word i / 64, up to the
   * vocabulary of the model that the guide was made for; valid until the next call for the same
   * stream. NULL: any token may follow, also where `tokens` break the form already, as a draft that
   * will be thrown away may. End tokens are allowed where the form is complete, and nowhere else.
   * Thread-safe. */
  engine_status* (*allowed)(void* self, uint64_t stream, const int32_t* tokens, uint64_t count,
                            const uint64_t** allowed);
} engine_guide;

typedef enum engine_sampling_flags {
  /* Draws depend on seed, choice and position alone, and not on the request's number: the same
   * request is answered alike whenever it comes. */
  ENGINE_SAMPLING_OWN_DRAWS = 1,
  ENGINE_SAMPLING_IGNORE_END = 2 /* the model's end tokens do not end the answer */
} engine_sampling_flags;
#endif

/* How a token is chosen from logits. The draw of a token depends on seed, request and position
 * alone. */
typedef struct engine_sampling {
  uint32_t struct_size;
  uint32_t top_k;     /* among that many likeliest; 0: all */
  double temperature; /* 0: the likeliest */
  double top_p;       /* among the fewest likeliest whose probabilities add up to it; 1: all */
  uint64_t seed;
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
  /* Zero leaves each of these out. They act in this order: bias, penalties, then temperature,
   * top_k, typical_p, top_p, min_p. */
  double min_p;              /* only tokens at least that likely, the likeliest being 1 */
  double typical_p;          /* the most typical ones whose probabilities add up to it (Meister et
                              * al. 2023, "Locally Typical Sampling") */
  double repetition_penalty; /* logits of tokens that stand in prompt or answer are divided by it
                              * where positive, else multiplied (Keskar et al. 2019, "CTRL") */
  double presence_penalty;   /* taken from logits of tokens that stand in the answer */
  double frequency_penalty;  /* the same, once for each time */
  uint32_t flags;            /* engine_sampling_flags */
  uint32_t min_tokens;       /* no end token before the answer has so many */
  uint32_t logprobs;         /* tell each token's log-probability with this many alternatives, plus
                              * 1; by the model's logits as they are */
  uint32_t bias_count;
  const int32_t* bias_ids;  /* [bias_count], each once */
  const float* bias_values; /* [bias_count]: added to their logits */
  const int32_t* stop_ids;  /* [stop_count]: end the answer too, as end tokens */
  uint32_t stop_count;
  uint32_t reserved;
  const engine_guide* guide; /* the form that the answer keeps to; NULL: none */
#endif
} engine_sampling;

#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
/* A form that is asked for; a node that makes guides of it must stand before the batcher. */
typedef enum engine_form {
  ENGINE_FORM_FREE = 0,
  ENGINE_FORM_JSON = 1,        /* any JSON object */
  ENGINE_FORM_JSON_SCHEMA = 2, /* `form_text` is the schema */
  ENGINE_FORM_REGEX = 3,       /* `form_text` is the expression, which the whole answer matches */
  ENGINE_FORM_TOOLS = 4        /* `form_text`: {"tools": [{"name", "parameters"}], "mode": "auto" |
                                * "required" | "named", "name", "parallel"} */
} engine_form;

typedef enum engine_request_flags {
  ENGINE_REQUEST_SCORE_PROMPT = 1 /* tell the log-probabilities of the prompt's own tokens */
} engine_request_flags;
#endif

/* How a prompt wants to be served; zero and empty leave a thing to the nodes' options. */
typedef struct engine_request {
  uint32_t struct_size;
  uint32_t max_tokens;
  uint32_t priority;   /* 1 is first */
  uint32_t n;          /* answers to the same prompt */
  uint64_t timeout_us; /* from its arrival */
  engine_str id;       /* the client's own name of the request, handed through */
  engine_str session;  /* the session's history goes before the prompt */
  engine_str salt;     /* prompts share computed prefixes only when their salts are equal */
  engine_str key;      /* whose request it is: fairness is between keys */
  engine_str adapter;  /* name of one of the model's adapters; empty: none of those with a name */
  const engine_sampling* sampling; /* NULL: the node's */
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
  uint32_t form;  /* engine_form */
  uint32_t flags; /* engine_request_flags */
  engine_str form_text;
#endif
} engine_request;

#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
typedef enum engine_text_form {
  ENGINE_TEXT_AS_NODE = 0,  /* as the node that encodes it is set */
  ENGINE_TEXT_PLAIN = 1,    /* as it is, begun as the tokenizer says, special tokens by name */
  ENGINE_TEXT_MESSAGES = 2, /* a conversation in the model's chat format, see chat_render */
  ENGINE_TEXT_IDS = 3,      /* `ids`, and no text */
  ENGINE_TEXT_TURN = 4      /* one turn of the user in the model's chat format */
} engine_text_form;
#endif

#define ENGINE_TYPE_TEXT "engine.Text/1"
typedef struct engine_text {
  uint32_t struct_size;
  engine_str text; /* as it came: may hold invalid UTF-8 */
  uint64_t arrived_ns;
  const engine_request* request; /* NULL: nothing special */
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
  uint32_t form; /* engine_text_form */
  uint32_t reserved;
  engine_str tools; /* with ENGINE_TEXT_MESSAGES: a JSON list, or empty */
  const int32_t* ids;
  uint64_t id_count;
#endif
} engine_text;

#define ENGINE_TYPE_TOKENS "engine.Tokens/1"
typedef struct engine_tokens {
  uint32_t struct_size;
  const int32_t* ids;
  uint64_t count;
  uint64_t arrived_ns; /* of the text they were made from */
  /* The same prompt as it continues a session that has a history (in a chat format: the end of the
   * last answer, then this turn); count 0: as ids. */
  const int32_t* continued_ids;
  uint64_t continued_count;
  const engine_request* request; /* NULL: nothing special */
} engine_tokens;

/* What one sequence asks of one forward pass. */
typedef struct engine_step_sequence {
  uint32_t struct_size;
  uint32_t token_count;  /* at least 1 */
  const int32_t* tokens; /* [token_count]: new tokens */
  uint64_t request;      /* unique among the sequences under way; names its stream of draws */
  uint32_t start;        /* position of tokens[0] in the sequence */
  /* The pages that hold positions [0, start + token_count) in order, with the right to write those
   * of the new tokens; NULL with count 0 when the model keeps no keys and values: then start is 0
   * and tokens is the whole sequence. */
  uint32_t block_count;
  const int32_t* blocks;
  uint32_t logits_count; /* logits are wanted of that many last tokens; 0: of none */
  uint32_t adapter;      /* number of a named adapter, see adapter_find; 0: none */
  uint32_t room;         /* so many drafted tokens may be appended: the pages hold them */
  uint32_t reserved;
  const engine_sampling* sampling; /* NULL: the sampling node's own */
  const int32_t* history;          /* [start]: the tokens before these; NULL: not told */
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
  uint32_t prompt_count; /* of the sequence's tokens, so many are the prompt; 0: not told */
  uint32_t reserved2;
  /* [logits_count] or NULL: the token that follows each of the last tokens where it is known
   * already, which is then scored and not chosen; -1: chosen. */
  const int32_t* known;
#endif
} engine_step_sequence;

#define ENGINE_TYPE_STEP "engine.Step/1"
typedef struct engine_step {
  uint32_t struct_size;
  uint32_t count;
  const engine_step_sequence* sequences; /* [count]; reach them by ENGINE_AT */
} engine_step;

/* Logits that a step asked for, in the step's order: for each sequence those of its last
 * logits_count tokens. */
#define ENGINE_TYPE_LOGITS "engine.Logits/1"
typedef struct engine_logits {
  uint32_t struct_size;
  uint32_t rows;
  uint64_t vocab;
  const float* data;                      /* [rows, vocab] */
  const uint64_t* requests;               /* [rows] */
  const uint32_t* positions;              /* [rows]: position of the token to be chosen */
  const engine_sampling* const* sampling; /* [rows], entries may be NULL; NULL: no entry at all */
  const int32_t* inputs;                  /* [rows]: the token that was fed, before `positions` */
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
  const engine_step* step;   /* that they were computed for; NULL: not told */
  const uint32_t* sequences; /* [rows]: of the step; NULL without it */
  const uint32_t* tokens;    /* [rows]: of that sequence's tokens, so many come before the row */
#endif
} engine_logits;

#define ENGINE_TYPE_SAMPLED "engine.Sampled/1"
typedef struct engine_sampled {
  uint32_t struct_size;
  uint32_t rows;
  const uint64_t* requests;  /* [rows] */
  const int32_t* ids;        /* [rows] */
  const float* margins;      /* [rows]: greatest logit less the second greatest */
  const uint32_t* positions; /* [rows]: of the chosen token */
  const int32_t* inputs;     /* [rows]: the token before it, as it was fed. A row that follows one
                              * of the same sequence counts only when that one chose this token:
                              * it was drafted. NULL: nothing was drafted */
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
  /* Log-probabilities, where any row was to tell them, else NULL. NaN and -1 where a row was not,
   * or has no so many alternatives. */
  const float* logprobs;     /* [rows]: of the chosen token */
  const int32_t* top_ids;    /* [rows, top_count]: the likeliest first */
  const float* top_logprobs; /* [rows, top_count] */
  uint32_t top_count;
  uint32_t reserved;
#endif
} engine_sampled;

typedef enum engine_finish {
  ENGINE_FINISH_NONE = 0,
  ENGINE_FINISH_STOP = 1,   /* an end token; it is not part of the text */
  ENGINE_FINISH_LENGTH = 2, /* max_tokens or the context was reached */
  ENGINE_FINISH_ERROR = 3,
  ENGINE_FINISH_TIMEOUT = 4,  /* its deadline passed */
  ENGINE_FINISH_CANCELLED = 5 /* whoever asked is gone */
} engine_finish;

/* Why the beginning of a prompt was, or was not, found computed. */
typedef enum engine_kv_reason {
  ENGINE_KV_NONE = 0,          /* the model keeps no keys and values */
  ENGINE_KV_HIT_PREFIX = 1,    /* pages that earlier prompts computed */
  ENGINE_KV_HIT_SESSION = 2,   /* pages of the session's history */
  ENGINE_KV_MISS_COLD = 3,     /* nobody computed this beginning */
  ENGINE_KV_MISS_SHORT = 4,    /* too short to fill a page */
  ENGINE_KV_MISS_SALT = 5,     /* computed, but under another salt or adapter */
  ENGINE_KV_MISS_EVICTED = 6,  /* was computed, and thrown out to make room */
  ENGINE_KV_MISS_OFF = 7,      /* sharing of prefixes is switched off */
  ENGINE_KV_MISS_PREEMPTED = 8 /* its pages were taken away while it waited */
} engine_kv_reason;

/* What a request cost, told with its end. */
typedef struct engine_usage {
  uint32_t struct_size;
  uint32_t prompt_tokens; /* a session's history included */
  uint32_t cached_tokens; /* of these, found computed */
  uint32_t generated_tokens;
  uint32_t cache_reason; /* engine_kv_reason of the first look-up */
  uint32_t preemptions;  /* times it gave its pages away and was computed again */
  uint32_t drafted_tokens, accepted_tokens; /* of speculation */
  uint64_t queued_ns;                       /* from arrival to its first step */
} engine_usage;

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
  engine_str error;          /* with ENGINE_FINISH_ERROR and _TIMEOUT: what happened */
  int32_t error_code;        /* engine_code of it */
  uint32_t choice;           /* which of n answers */
  uint64_t retry_after_us;   /* of a refusal for want of room: when to ask again; 0: not told */
  const engine_usage* usage; /* with a finish only; else NULL */
  const engine_request* ask; /* as it came with the prompt, with index 0 or a finish; may be NULL */
  uint32_t choices;          /* the request is over when as many of its answers have ended */
  uint32_t reserved;
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
  float logprob;      /* of this token, where it was asked for */
  uint32_t top_count; /* the likeliest tokens of its place, the first first */
  const int32_t* top_ids;
  const float* top_logprobs;
  /* Of a prompt that was to be scored, with index 0 or a finish only; else NULL. The first of a
   * prompt has none: NaN, and -1. */
  const float* prompt_logprobs;     /* [prompt_count] */
  const int32_t* prompt_top_ids;    /* [prompt_count, prompt_top_count], -1: no such */
  const float* prompt_top_logprobs; /* [prompt_count, prompt_top_count] */
  uint32_t prompt_top_count;
  uint32_t scored; /* 1: logprob is told */
#endif
} engine_token;

/* A piece of text for one request: whole code points only. */
#define ENGINE_TYPE_EVENT "engine.Event/1"
typedef struct engine_event {
  uint32_t struct_size;
  uint32_t finish; /* engine_finish */
  engine_str text;
  const engine_token* token; /* that this piece was made from */
} engine_event;

/* Sequences to train on or to evaluate, one microbatch. Which one comes when is a function of the
 * source's options alone, so that a run that goes on from `next` sees what it would have seen. */
#define ENGINE_TYPE_TRAIN_BATCH "engine.TrainBatch/1"
typedef struct engine_train_batch {
  uint32_t struct_size;
  uint32_t rows, length;  /* of each array below: [rows, length] */
  uint32_t valid;         /* labels that count */
  const int32_t* ids;     /* filled up with 0 */
  const int32_t* labels;  /* what should follow each token; -100: does not count */
  const int32_t* example; /* which example of its row a token belongs to, from 0 and rising; -1:
                           * filled up. A token sees none of another example. NULL: one a row */
  uint64_t start;         /* the source's position before it */
  uint64_t next;          /* and after it, where its option `start` lets it go on */
} engine_train_batch;

/* One optimizer step of a training run. */
#define ENGINE_TYPE_TRAIN_STEP "engine.TrainStep/1"
typedef struct engine_train_step {
  uint32_t struct_size;
  uint32_t step; /* from 1 */
  double loss;   /* mean over the valid tokens of the step, nats */
  double seconds;
  uint64_t tokens;  /* valid tokens */
  double grad_norm; /* L2 norm over all trainable tensors, before it is clipped */
  double lr;
  uint32_t steps; /* of the whole run */
  uint32_t reserved;
} engine_train_step;

#ifdef __cplusplus
}
#endif
#endif /* ENGINE_TYPES_H_ */
