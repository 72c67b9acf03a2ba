# Serving, measured beside llama.cpp where LLAMA names the folder of its binaries. Each target keeps
# its raw figures in bench/results/serving; `make performance` writes the tables of
# docs/performance.md from them.
LLAMA ?=
ROUNDS ?= 5
SERVING = bench/results/serving
BENCH = $(BUILD)/bin/engine bench pipelines/bench-serve.pbtxt --repeats $(ROUNDS)
PEER = $(if $(LLAMA),--against llama.cpp=$(LLAMA))
Q4_1 = models/smollm2-135m-instruct.gguf
Q8_0 = .deps/bench/smollm2-135m-instruct-q8_0.gguf
BF16 = .deps/bench/smollm2-135m-instruct-bf16.gguf
# One measured wave after one that warms up.
ONE = waves=1 warmup=1

$(Q8_0): | build
	@mkdir -p $(dir $@) $(SERVING)
	@$(BUILD)/bin/engine quantize $(Q4_1) --out $@

$(BF16):
	@test -n "$(LLAMA)" || { echo 'LLAMA must name the folder of llama.cpp: its llama-quantize writes this file' >&2; exit 1; }
	@mkdir -p $(dir $@) $(SERVING)
	@$(LLAMA)/llama-quantize --allow-requantize $(Q4_1) $@ BF16 >/dev/null 2>&1

bench-decode: $(Q8_0)
	@$(BENCH) --set model=$(Q8_0) --load "streams=1 prompt=16 out=128 $(ONE)" $(PEER) \
	 --figure decode_tokens_per_s --json $(SERVING)/decode_q8_0.json
	@$(BENCH) --set model=$(Q4_1) --load "streams=1 prompt=16 out=128 $(ONE)" $(PEER) \
	 --figure decode_tokens_per_s --json $(SERVING)/decode_q4_1.json
	@$(call compile,$(BUILD),,bandwidth_bench)
	@$(BUILD)/bin/bandwidth_bench 2 94 138 | tee $(SERVING)/bandwidth.txt

bench-depth: $(Q8_0)
	@$(BENCH) --set model=$(Q8_0) --load "streams=1 prompt=1024 out=64 $(ONE)" $(PEER) \
	 --figure decode_tokens_per_s --json $(SERVING)/depth_q8_0.json

bench-prefill: $(Q8_0)
	@$(BENCH) --set model=$(Q8_0) --load "streams=1 prompt=512 out=2 $(ONE)" $(PEER) \
	 --figure prefill_tokens_per_s --json $(SERVING)/prefill_q8_0.json
	@$(BENCH) --set model=$(Q8_0) --set weights=DECODED --set small.bypass=false \
	 --load "streams=1 prompt=512 out=2 $(ONE)" $(PEER) \
	 --figure prefill_tokens_per_s --json $(SERVING)/prefill_int8.json

bench-batch: $(Q8_0)
	@$(BENCH) --set model=$(Q8_0) --load "prompt=128 out=64 $(ONE)" --sweep streams=16,32,64 $(PEER) \
	 --figure decode_tokens_per_s --json $(SERVING)/batch_q8_0.json

	@$(BENCH) --set model=$(Q8_0) --set weights=DECODED --set small.bypass=false \
	 --load "prompt=128 out=64 $(ONE)" --sweep streams=16,32,64 $(PEER) \
	 --figure decode_tokens_per_s --json $(SERVING)/batch_int8.json

bench-dense: $(BF16)
	@$(BENCH) --set model=$(BF16) --set dtype=BF16 --load "streams=1 prompt=16 out=128 $(ONE)" $(PEER) \
	 --figure decode_tokens_per_s --json $(SERVING)/decode_bf16.json

bench-prefix: $(Q8_0)
	@$(BENCH) --set model=$(Q8_0) --load "streams=16 prefix=512 prompt=16 out=32 $(ONE)" \
	 --compare prefixes=false --figure output_tokens_per_s --json $(SERVING)/prefix.json

bench-session: $(Q8_0)
	@$(BENCH) --set model=$(Q8_0) --load "streams=1 prompt=64 out=64 turns=6 $(ONE)" \
	 --figure last_turn_over_first --json $(SERVING)/session.json

bench-load: $(Q8_0)
	@$(BENCH) --set model=$(Q8_0) --load "streams=1 prompt=16 out=2 warmup=0" --figure load_s \
	 --json $(SERVING)/load.json

bench-memory: $(Q8_0)
	@test -n "$(LLAMA)" || { echo 'LLAMA must name the folder of llama.cpp' >&2; exit 1; }
	@$(BENCH) --set model=$(Q8_0) --load "streams=32 prompt=128 out=128 waves=1 warmup=0" \
	 --set kv_budget=200MiB --figure peak_bytes --json $(SERVING)/memory.json
	@python3 bench/server_memory.py $(LLAMA)/llama-server $(Q8_0) $(SERVING)/memory_peer.json

bench-curves: $(Q8_0)
	@mkdir -p docs/img
	@$(BENCH) --set model=$(Q8_0) --load "streams=1 out=4 warmup=0 waves=1" \
	 --sweep prompt=64,128,256,512,1024,2016 --compare model.bypass=true \
	 --figure decode_tokens_per_s --json $(SERVING)/curve_kv.json --svg docs/img/kv_cache.svg \
	 $(if $(KV_CEILING),--ceiling "weights over bandwidth=$(KV_CEILING)")
	@$(BENCH) --set model=$(Q8_0) --load "prompt=32 out=32 warmup=0 waves=1" \
	 --sweep streams=1,2,4,8,16,32,64 --compare batch.bypass=true \
	 --figure output_tokens_per_s --json $(SERVING)/curve_batch.json --svg docs/img/batch.svg \
	 $(if $(BATCH_CEILING),--ceiling "products alone=$(BATCH_CEILING)")

bench-serving: bench-decode bench-depth bench-prefill bench-batch bench-prefix bench-session \
 bench-load bench-curves

# The HTTP server beside llama-server and vllm; VLLM names vllm's program, VLLM_MODEL the model's folder
# in bf16. The client is C++ and tells its own share of the processor.
VLLM ?=
VLLM_MODEL ?=
HTTP_FIGURES ?= plain,prefix,sessions,start,memory,thousand,overload,share
bench-http: $(Q8_0)
	@$(call compile,$(BUILD),,http_load)
	@python3 bench/http_servers.py $(BUILD)/bin/engine $(BUILD)/bin/http_load $(Q8_0) $(SERVING)/http.json \
	 --rounds $(ROUNDS) --figures $(HTTP_FIGURES) $(if $(LLAMA),--llama $(LLAMA)) \
	 $(if $(VLLM),--vllm $(VLLM) $(VLLM_MODEL))

# Training; raw figures go to bench/results/training.
TRAINING = bench/results/training
PEERS = .deps/peers/bin/python
SEEDS ?= 1

bench-train: build
	@scripts/setup.sh parity
	@python3 bench/train_vs_peft.py $(BUILD)/bin/engine $(Q4_1) $(PEERS) $(TRAINING)/lora.json --rounds $(ROUNDS)

bench-packing: build
	@python3 bench/packing.py $(BUILD)/bin/engine $(Q4_1) $(TRAINING)/packing.json --rounds $(ROUNDS)

bench-loss-head: build
	@$(call compile,$(BUILD),,loss_head_bench)
	@python3 bench/loss_head.py $(BUILD)/bin/loss_head_bench $(TRAINING)/loss_head.json --rounds $(ROUNDS)

bench-cold: build
	@scripts/setup.sh parity
	@python3 bench/cold_start.py $(BUILD)/bin/engine $(Q4_1) $(PEERS) $(TRAINING)/cold_start.json --rounds $(ROUNDS)

bench-qlora-loss: build
	@python3 bench/qlora_loss.py $(BUILD)/bin/engine $(Q4_1) $(TRAINING)/qlora_loss.json --seeds $(SEEDS)

bench-training: bench-train bench-packing bench-loss-head bench-cold bench-qlora-loss

performance:
	@python3 bench/make_tables.py $(SERVING) docs/performance.md

.PHONY: bench-http bench-train bench-packing bench-loss-head bench-cold bench-qlora-loss bench-training bench-decode bench-depth bench-prefill bench-batch bench-dense bench-prefix bench-session \
 bench-load bench-memory bench-curves bench-serving performance
