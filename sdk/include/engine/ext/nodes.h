/* engine.nodes/1: kinds that act on streams. The plugin describes and creates nodes; the host
 * gives each call its packets, takes what it emits, and settles keys by itself.
 */
#ifndef ENGINE_EXT_NODES_H_
#define ENGINE_EXT_NODES_H_

#include "engine/abi.h"

#define ENGINE_EXT_NODES "engine.nodes/1"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum engine_role {
  ENGINE_ROLE_NODE = 1,
  ENGINE_ROLE_RESOURCE = 2, /* made once, shared by nodes */
  ENGINE_ROLE_TRANSFORM = 3 /* a resource with a `from`: rewrites a model */
} engine_role;

/* Input policies as bits. JOIN: one packet of the same key from each input. ANY: packets one by
 * one, in order of arrival. LATEST: as JOIN on the first input, with the newest packet of the
 * others. BATCH: up to a number of packets of the only input. */
typedef enum engine_policy {
  ENGINE_POLICY_JOIN = 1,
  ENGINE_POLICY_ANY = 2,
  ENGINE_POLICY_LATEST = 4,
  ENGINE_POLICY_BATCH = 8
} engine_policy;

/* What a call emits per key. ONE: at most one packet on each output, under the key of its input.
 * MANY: any number; outputs number their packets anew. NONE: there are no outputs. */
typedef enum engine_emission {
  ENGINE_EMIT_ONE = 1,
  ENGINE_EMIT_MANY = 2,
  ENGINE_EMIT_NONE = 3
} engine_emission;

typedef enum engine_port_flags {
  ENGINE_PORT_OPTIONAL = 1, /* may stay unconnected */
  ENGINE_PORT_REPEATED = 2, /* several edges may end here */
  /* Failed packets arrive here as packets of type ENGINE_TYPE_ERROR; without the flag the host
   * passes the failure on to the node's outputs and does not call the node. */
  ENGINE_PORT_ERRORS = 4
} engine_port_flags;

typedef struct engine_port_desc {
  uint32_t struct_size;
  uint32_t flags;   /* engine_port_flags */
  engine_str name;  /* upper case: "NEW" */
  engine_str type;  /* payload type id: "engine.Tokens/1"; "*": any */
  engine_str shape; /* "[rows, vocab]": symbols or numbers; empty: none */
  engine_str dtype; /* "f32"; empty: any */
  engine_str doc;
} engine_port_desc;

typedef struct engine_slot_desc {
  uint32_t struct_size;
  uint8_t mutates; /* the node writes to the resource: one such node per resource */
  uint8_t optional;
  uint16_t reserved;
  engine_str name; /* upper case: "MODEL" */
  engine_str type; /* "engine.Model/1" */
  engine_str doc;
} engine_slot_desc;

#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
typedef enum engine_kind_flags {
  /* Of a node that emits MANY and admits several calls: what one call emits does not wait for calls
   * that began before it. */
  ENGINE_KIND_UNORDERED = 1,
  /* Of a source with feedback that emits MANY under ANY: what comes back to it is taken while a call
   * without input is open, which does not count for max_in_flight, and while there is no room to
   * begin more work. What such calls emit waits inside the node, whatever it is. In a drain it is
   * called without input once more, for what it has left. */
  ENGINE_KIND_HEARS = 2
} engine_kind_flags;
#endif

/* A kind's contract. All that it points to lives as long as the library. */
typedef struct engine_kind_desc {
  uint32_t struct_size;
  uint32_t role;      /* engine_role */
  engine_str name;    /* an identifier; the field of the pipeline's oneof */
  engine_str doc;     /* first sentence: summary */
  engine_str options; /* full name of the options message, or empty */
  const engine_port_desc* inputs;
  uint32_t input_count;
  uint32_t output_count;
  const engine_port_desc* outputs;
  const engine_slot_desc* slots;
  uint32_t slot_count;
  uint32_t policies;       /* engine_policy bits that the node allows */
  uint32_t default_policy; /* one of them */
  uint32_t emission;       /* engine_emission */
  uint32_t max_in_flight;  /* calls at once on one instance; 1 unless the node is reentrant. With
                            * ANY each begins when the one before came back, deferred or not */
  uint32_t phase;          /* transforms: engine_phase in transforms.h */
  engine_str executor;     /* "compute", "io" or empty: the default executor */
  engine_str bypass;       /* node: kind of its plain stand-in, or empty */
  engine_str provides;     /* resources: type id of what they make */
  engine_str accepts;      /* transforms: type id of what `from` names */
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
  uint32_t flags; /* engine_kind_flags */
  uint32_t reserved;
#endif
} engine_kind_desc;

typedef struct engine_packet engine_packet;         /* immutable, reference-counted */
typedef struct engine_resource engine_resource;     /* borrowed for the call */
typedef struct engine_call engine_call;             /* one call of one node */
typedef struct engine_completion engine_completion; /* a call that will be completed later */

/* What an error packet holds; see ENGINE_PORT_ERRORS. */
#define ENGINE_TYPE_ERROR "engine.Error/1"
typedef struct engine_error_payload {
  uint32_t struct_size;
  int32_t code; /* engine_code */
  engine_str message;
  engine_str plugin;
  engine_str node; /* where it failed */
} engine_error_payload;

typedef enum engine_scope {
  ENGINE_SCOPE_NODE = 1, /* this node answers every further key with the failure */
  ENGINE_SCOPE_RUN = 2   /* the run is cancelled */
} engine_scope;

#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
typedef enum engine_run_phase {
  ENGINE_RUN_RUNNING = 0,
  ENGINE_RUN_DRAINING = 1, /* nothing new is wanted: what is under way is finished */
  ENGINE_RUN_CANCELLED = 2
} engine_run_phase;
#endif

/* A node. `self` is what create gave. */
typedef struct engine_node_vtable {
  uint32_t struct_size;
  /* [control] Before the first process; after the resources were made. */
  engine_status* (*open)(void* self, engine_call* call);
  /* [worker] Once for each joined key. A failure fails this key only, unless the call said
   * otherwise by fail(). A node without inputs is called again until it says finish(). */
  engine_status* (*process)(void* self, engine_call* call);
  /* [control] Once for each successful open, also after a failure or cancel. */
  engine_status* (*close)(void* self, engine_call* call);
  /* [control] Ends the instance. */
  void (*destroy)(void* self);
} engine_node_vtable;

/* The plugin's side of engine.nodes/1. */
typedef struct engine_nodes_plugin {
  uint32_t struct_size;
  uint32_t count;
  /* [any] Contract of kind i; pure, the same answer each time. */
  const engine_kind_desc* (*describe)(void* plugin, uint32_t i);
  /* [control] `options` is the kind's message in protobuf wire format, already checked against the
   * schema. `name` is the node's name in the pipeline. */
  engine_status* (*create)(void* plugin, uint32_t i, engine_str name, engine_str options,
                           const engine_node_vtable** vtable, void** self);
} engine_nodes_plugin;

/* The host's side of engine.nodes/1. */
typedef struct engine_nodes_host {
  uint32_t struct_size;

  /* [any] Takes `payload`; free_payload(payload) runs when the last reference goes, also when this
   * call fails. `type` must be a literal or live as long as the library. */
  engine_status* (*packet_new)(engine_str type, void* payload, void (*free_payload)(void* payload),
                               engine_packet** out);
  void (*packet_retain)(engine_packet* packet);               /* [any] */
  void (*packet_release)(engine_packet* packet);              /* [any] */
  engine_str (*packet_type)(const engine_packet* packet);     /* [any] */
  const void* (*packet_payload)(const engine_packet* packet); /* [any] borrowed from packet */
  uint64_t (*packet_key)(const engine_packet* packet);        /* [any] place in its stream */
  uint64_t (*packet_group)(const engine_packet* packet);      /* [any] request or microbatch */

  /* All below: on the thread of the call, while it lasts. Ports and slots are numbered as in the
   * contract. */
  /* Packets of this call on a port: 0 when absent; more than 1 only under BATCH. */
  uint32_t (*input_count)(engine_call* call, uint32_t port);
  const engine_packet* (*input)(engine_call* call, uint32_t port, uint32_t i); /* borrowed */
  /* Hands `packet` over. `group`: UINT64_MAX keeps the group of the input. Packets beyond an
   * output's room wait inside the node, which is not called again until they are gone. */
  engine_status* (*emit)(engine_call* call, uint32_t port, engine_packet* packet, uint64_t group);
  engine_resource* (*resource)(engine_call* call, uint32_t slot); /* NULL: optional, not given */
  uint8_t (*cancelled)(engine_call* call);                        /* long work asks now and then */
  /* Of a source: it has nothing more to give. Of a node with inputs: the run has what it is for;
   * all sources stop, and what is under way is finished. */
  void (*finish)(engine_call* call);
  /* Takes `status`: widens the failure to the node or the run. */
  void (*fail)(engine_call* call, uint32_t scope, engine_status* status);

  /* The call will be answered later, from any thread, by completion_done; process returns NULL
   * now. The inputs stay borrowed until then. */
  engine_status* (*defer)(engine_call* call, engine_completion** out);
  engine_status* (*completion_emit)(engine_completion* completion, uint32_t port,
                                    engine_packet* packet, uint64_t group); /* [any] */
  void (*completion_finish)(engine_completion* completion);                 /* [any] as finish */
  /* [any] Ends the completion; takes `status` (NULL: success). */
  void (*completion_done)(engine_completion* completion, engine_status* status);

  /* The object behind a resource, or NULL when its type is not `type`. [any] while borrowed. */
  void* (*resource_object)(const engine_resource* resource, engine_str type);
  engine_str (*resource_name)(const engine_resource* resource);
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
  /* [any] Before completion_done: what the run waits for while it waits for this completion. A
   * source that keeps one open asks now and then. */
  uint32_t (*completion_phase)(const engine_completion* completion); /* engine_run_phase */
  uint32_t (*call_phase)(engine_call* call); /* the same, in the call itself */
#endif
} engine_nodes_host;

#ifdef __cplusplus
}
#endif
#endif /* ENGINE_EXT_NODES_H_ */
